import pytest

from limbeck.recipe import Ramp
from limbeck.stages.matched import in_words


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        (Ramp(), ""),
        (Ramp(warmup=0.02, decay=(0.7, 1.0)), "rises over 2 %, falls from 70 % to 100 %"),
        (Ramp(start=0.5, stop=0.75), "starts at 50 %, stops at 75 %"),
        (
            Ramp(unit="steps", start=1, warmup=2000, decay=(110000, 120000)),
            "starts at step 1, rises over 2,000 steps, falls from step 110,000 to step 120,000",
        ),
    ],
)
def test_schedules_in_words(ramp, expected):
    assert in_words(ramp) == expected
