"""The images of a classifier that a report shows: which are chosen, what is written, how the page names them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.data.sample import Sample
from limbeck.report import folder as folders
from limbeck.report.named import named_pictures
from limbeck.stages.class_samples import class_samples

REFERENCE, INT8 = "student.fp32.eager", "student.int8.openvino"
TRUTH = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
FP32 = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 2, 2]  # image 10 is wrong
INTEGER = [0, 1, 2, 2, 1, 2, 0, 1, 2, 0, 2, 2]  # image 3 changed


class Pictures:
    classes, palette = ("cat", "dog & co", "owl"), ()

    def __init__(self, labelled: bool = True) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return len(TRUTH)

    def __getitem__(self, index: int) -> Sample:
        image = np.full((20, 30, 3), 10 * index, np.uint8)
        return Sample(image, np.array(TRUTH[index]) if self.labelled else None, f"set/{index}.jpg")


class Answers:
    rows = (REFERENCE, INT8)

    def has(self, row: str, index: int) -> bool:
        return True

    def mask(self, row: str, index: int) -> np.ndarray:
        return np.array((FP32 if row == REFERENCE else INTEGER)[index])


def evaluated(labelled: bool = True) -> list[dict]:
    def images(said: list[int]) -> list[dict]:
        return [
            {"name": str(i), "accuracy": 100.0 * (s == t) if labelled else None, "agreement": 100.0 * (s == f)}
            for i, (s, t, f) in enumerate(zip(said, TRUTH, FP32, strict=True))
        ]

    return [
        {"id": REFERENCE, "precision": "fp32", "images": images(FP32)},
        {"id": INT8, "precision": "int8", "images": images(INTEGER)},
    ]


def samples(folder: Path, count: int = 6, labelled: bool = True) -> list[dict]:
    return class_samples(Pictures(labelled), Answers(), evaluated(labelled), REFERENCE, count, folder / "samples")


def test_changed_and_wrong_images_come_first(tmp_path: Path) -> None:
    found = samples(tmp_path)
    assert [(s["name"], s["why"]) for s in found[:2]] == [("set/3.jpg", "changed by INT8"), ("set/10.jpg", "wrong")]
    assert {s["why"] for s in found[2:]} == {"typical"}
    assert len({s["name"] for s in found}) == len(found) == 6
    assert (found[0]["label"], found[0]["labels"]) == (0, {REFERENCE: 0, INT8: 2})
    with Image.open(tmp_path / found[0]["image"]) as image:
        assert image.size == (30, 20)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_as_many_as_asked_for_at_most(tmp_path: Path, count: int) -> None:
    assert len(samples(tmp_path, count)) == min(count, len(TRUTH))


def test_without_truth_nothing_is_wrong(tmp_path: Path) -> None:
    found = samples(tmp_path, labelled=False)
    assert found[0]["why"] == "changed by INT8"
    assert "wrong" not in {s["why"] for s in found}
    assert {s["label"] for s in found} == {None}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "evaluate").mkdir()
    listed = samples(tmp_path / "evaluate")
    result = {"classes": list(Pictures.classes), "dense": False, "rows": evaluated(), "samples": listed}
    (tmp_path / "evaluate" / "record.json").write_text(json.dumps({"result": result}))
    return tmp_path


def test_the_page_names_classes_and_marks_mistakes(run: Path) -> None:
    page = named_pictures(folders.read(run), {"student": REFERENCE, "int8": INT8})
    assert page.count("<article") == 6
    changed = page[page.index("set/3.jpg") : page.index("set/10.jpg")]
    assert "Truth <b>cat</b>" in changed
    assert "Student FP32 <b>cat</b>" in changed
    assert 'Student INT8 <b class="mistaken">owl</b> (wrong)' in changed
    assert "dog &amp; co" in page
    assert "dog & co" not in page


def test_half_an_image_is_left_out(run: Path) -> None:
    first = json.loads((run / "evaluate" / "record.json").read_text())["result"]["samples"][0]
    path = run / "evaluate" / first["image"]
    path.write_bytes(path.read_bytes()[:60])
    page = named_pictures(folders.read(run), {"student": REFERENCE})
    assert page.count("<article") == 5
    assert first["name"] not in page
