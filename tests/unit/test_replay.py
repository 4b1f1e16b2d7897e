"""``distil.cache: replay`` in a run: what it costs is said before, and what was kept is used by all that comes after."""

from pathlib import Path

import pytest

from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.run import run
from limbeck.stages.check import check
from limbeck.stages.context import Context
from limbeck.stages.plan import plan
from limbeck.train.teacher import Teacher


def cache_line(*given: str) -> list[str]:
    return [line for line in check(read("smoke/replay", list(given))) if line.startswith("cache")]


def test_the_check_says_what_will_be_kept() -> None:
    (line,) = cache_line()
    # 16 images, 3 views, 2 bytes: logits 12x24x32 and features 32x6x8
    assert pytest.approx(1.0, abs=0.05) == 16 * 3 * 2 * (12 * 24 * 32 + 32 * 6 * 8) / 2**20
    assert line.startswith(
        "cache    3 views of 16 images, 1.0 MiB of 4 GiB: logits 12x24x32, encoder.2 32x6x8 in 16 bits"
    )
    assert cache_line("distil.cache=online") == []


def test_the_check_refuses_what_exceeds_the_budget() -> None:
    with pytest.raises(UserError) as caught:
        check(read("smoke/replay", ["distil.cache_gib=0.0007"]))
    assert str(caught.value).endswith(
        "distil.cache_gib: 3 views of 16 images need 1.0 MiB (teacher.logits 0.8 MiB, "
        "teacher.encoder.2 0.1 MiB), allowed are 0.7 MiB. Allow more, or try distil.views=2 or leave out the terms at "
        "teacher.logits or distil.cache=online."
    )


def test_the_most_likely_classes_take_less_and_are_for_kd_alone() -> None:
    (line,) = cache_line("distil.keep=3")
    # 3 classes with their logits and the rest at one temperature: 7 numbers instead of 12
    needed = 16 * 3 * 2 * (7 * 24 * 32 + 32 * 6 * 8) / 2**20
    assert f"3 views of 16 images, {needed:.1f} MiB" in line
    assert "of logits 3 classes and the rest" in line
    with pytest.raises(UserError, match=r"distil.keep: there are 12 classes; `full` keeps all of them"):
        check(read("smoke/replay", ["distil.keep=12"]))
    for wrong in ("distil.terms.1.at=logits", "distil.terms.0.standardise=true"):
        with pytest.raises(UserError, match=r"distil.terms.[01]: with distil.keep: 3 the only term on logits is kd"):
            check(read("smoke/replay", ["distil.keep=3", wrong]))


def test_without_the_data_it_says_what_an_image_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    (line,) = [one for one in check(read("camvid/quick", ["distil.cache=replay"])) if one.startswith("cache")]
    assert line.startswith("cache    8 views of each image, ")


@pytest.mark.slow
def test_one_run_asks_once_and_the_next_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    asked = []
    ask = Teacher.__call__

    def counted(self: Teacher, batch: dict[str, object]) -> object:
        asked.append(batch["view"])
        return ask(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Teacher, "__call__", counted)
    run(read("smoke/replay"), until="quantize", device="cpu")
    assert len(asked) == 3 * 4, "six epochs of four batches, three views; training on in integers finds all of them"
    assert len(list((tmp_path / "cache" / "teacher").glob("*.bin"))) == 2
    changed = ["name=other", "distil.terms.0.weight=2", "quantize=[]"]
    run(read("smoke/replay", changed), until="train", device="cpu")
    assert len(asked) == 12, "another weight, the same teacher: trained alike, it says the same"
    run(read("smoke/replay", [*changed, "name=third", "seed=1"]), until="train", device="cpu")
    assert len(asked) == 24, "another seed draws other views"
    run(read("smoke/replay", [*changed, "name=fourth", "distil.keep=3"]), until="train", device="cpu")
    assert len(asked) == 36, "of logits three classes alone"


def test_a_run_without_terms_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    short = ["distil.terms=[]", "teacher=null", "train.steps=2", "quantize=[]", "export=[]", "bench=null"]
    folder = run(read("smoke/replay", short), until="train", device="cpu")
    assert (folder / "student" / "student.safetensors").is_file()
    assert not list((tmp_path / "cache").rglob("*.bin"))


def test_unlabelled_images_are_kept_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        (tmp_path / "more").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (40, 90, 160) if name == "a" else (9, 9, 9)).save(tmp_path / "more" / f"{name}.png")
    (line,) = cache_line(f"data.unlabelled={tmp_path / 'more'}")
    assert "3 views of 18 images" in line


def test_keys_of_the_cache_count_only_where_there_is_one(tmp_path: Path) -> None:
    def fingerprint(*given: str) -> str:
        return plan(Context(read("smoke/replay", list(given)), tmp_path))["student"].fingerprint

    online = fingerprint("distil.cache=online")
    assert fingerprint("distil.cache=online", "distil.views=5", "distil.keep=2") == online
    assert fingerprint() == fingerprint("distil.cache_gib=9") != online
    assert len({online, fingerprint(), fingerprint("distil.views=5"), fingerprint("distil.keep=2")}) == 4
