import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as tf

from limbeck.data import augment_hue
from limbeck.data.augment_color import color_jitter
from limbeck.data.augment_hue import hue


@pytest.mark.parametrize("levels", [256, 4, 2])
@pytest.mark.parametrize("turn", [0.0, 1 / 6, -1 / 6, -1e-9, 0.03, 0.1, -0.0712])
def test_hue_is_torchvisions_bit_for_bit(levels, turn):
    rng = torch.Generator().manual_seed(levels)
    image = torch.randint(0, levels, (3, 200, 300), generator=rng, dtype=torch.uint8) * (255 // (levels - 1))
    assert torch.equal(hue(image, turn), tf.adjust_hue(image, turn))


def test_hue_goes_no_further_than_a_sixth():
    with pytest.raises(ValueError, match=r"a sixth of the circle at most, not by -0\.2"):
        hue(torch.zeros(3, 2, 2, dtype=torch.uint8), -0.2)


@pytest.mark.parametrize("turn", [0.1, -0.1, 0.037, -0.0123])
def test_hue_takes_the_long_way_only_where_roundings_tell(monkeypatch, turn):
    """The short way costs a third of the long one, and without it a step of training waits for its images."""
    gone = []
    by_the_book = augment_hue._by_the_book

    def counted(planes, turn):
        gone.append(planes.shape[1])
        return by_the_book(planes, turn)

    monkeypatch.setattr(augment_hue, "_by_the_book", counted)
    image = torch.randint(0, 256, (3, 200, 300), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    hue(image, turn)
    assert sum(gone) < 0.002 * 200 * 300


def test_colour_jitter_makes_few_passes():
    """Bytes made by torch from floats cost as much as nine other passes; passes over all levels cost what is left."""
    image = torch.randint(0, 256, (3, 40, 60), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with Passes() as passes:
        color_jitter(image, 0.4, torch.Generator().manual_seed(0))
    assert passes.to_bytes == 0
    assert passes.levels / image.numel() < 17  # 12 of the three steps in place, 2 of both grey images, 2 to float


class Passes(TorchDispatchMode):
    """Counts what torch writes."""

    to_bytes = levels = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and not func.is_view:
            self.levels += found.numel()
            self.to_bytes += found.dtype == torch.uint8 and args[0].dtype == torch.float32
        return found


def test_colour_needs_no_global_stream():
    image = torch.randint(0, 256, (3, 20, 30), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    before = torch.get_rng_state()
    color_jitter(image, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
