import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from limbeck.cli import app
from limbeck.data.inspect import duplicates, survey
from limbeck.data.pairs import noting, pair
from limbeck.data.sample import VOID
from limbeck.data.stats import ClassCounts
from limbeck.losses._labels import class_weights
from limbeck.place import Place
from limbeck.record import UserError
from limbeck.report.sheet import Tile, draw_sheet
from limbeck.stages import data as stage

CLASSES = ["sky", "road", "car"]


def limbeck(*words):
    return CliRunner().invoke(app, ["data", *map(str, words)], env={"COLUMNS": "200"})


def add(folder, split, name, seed, size=(12, 16), mask=None):
    """An image and its mask; the mask holds sky above and road below unless given."""
    rng = np.random.default_rng(seed)
    for part in ("images", "annotations"):
        (folder / part / split).mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(image).save(folder / "images" / split / f"{name}.png")
    target = np.repeat(np.asarray([0, 1], np.uint8), [size[0] // 3, size[0] - size[0] // 3])[:, None].repeat(size[1], 1)
    target = target if mask is None else mask
    Image.fromarray(target).save(folder / "annotations" / split / f"{name}.png")
    return image, target


@pytest.fixture
def folder(tmp_path):
    """Three training and two validation pairs without a fault."""
    path = tmp_path / "photos"
    for number in range(3):
        add(path, "training", f"t{number}", number)
    for number in range(2):
        add(path, "validation", f"v{number}", 10 + number)
    (path / "id2label.json").write_text(json.dumps(dict(enumerate(CLASSES))))
    return path


def test_sound_data(folder):
    found = limbeck("check", folder)
    assert found.exit_code == 0, found.output
    assert "problem" not in found.output
    lines = [line.split() for line in found.output.splitlines()]
    assert ["training", "3", "3", "0", "2", "of", "3", "0.0", "12x16"] in lines
    assert ["validation", "2", "2", "0", "2", "of", "3", "0.0", "12x16"] in lines
    assert "training: no pixel of car" in found.output


def test_every_planted_problem_is_found(folder):
    images, masks = folder / "images", folder / "annotations"
    (images / "training" / "t0.png").write_bytes((images / "training" / "t0.png").read_bytes()[:60])
    Image.fromarray(np.full((12, 16), 7, np.uint8)).save(masks / "training" / "t1.png")
    Image.fromarray(np.zeros((5, 16), np.uint8)).save(masks / "training" / "t2.png")
    add(folder, "training", "lonely", 20)
    (masks / "training" / "lonely.png").rename(masks / "training" / "nobody.png")
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(masks / "validation" / "v0.png")
    add(folder, "training", "fine", 30)
    add(folder, "validation", "copy-of-fine", 30)
    found = limbeck("check", folder)
    assert found.exit_code == 2
    problems = [line for line in found.output.splitlines() if line.startswith("problem: ")]
    for place, words in (
        ("training", "t0.png: not a readable image"),
        ("training", "t1.png: class ids 7 are out of range"),
        ("training", "t2.png: the mask is 5x16, its image is 12x16"),
        ("training", "lonely.png: no mask of the same name"),
        ("training", "nobody.png: no image of the same name"),
        ("validation", "v0.png: a mask holds one class id a pixel"),
        ("the same image", "fine in training and copy-of-fine in validation"),
    ):
        assert sum(line.startswith(f"problem: {place}") and words in line for line in problems) == 1, words
    assert len(problems) == 7
    assert "7 problems" in found.output


def test_equal_problems_are_one_line(folder):
    masks = folder / "annotations" / "training"
    for number in range(6):
        add(folder, "training", f"x{number}", 40 + number)
        Image.fromarray(np.full((12, 16), 7 + number, np.uint8)).save(masks / f"x{number}.png")
    Image.fromarray(np.zeros((5, 16), np.uint8)).save(masks / "t2.png")
    for number in range(2):
        add(folder, "validation", f"copy{number}", number)
    found = limbeck("check", folder)
    assert found.exit_code == 2
    told = found.output[found.output.index("problem: ") :].splitlines()
    assert [line.startswith("problem: ") for line in told] == [True, True, False, True, False, False]
    assert "t2.png: the mask is 5x16" in told[0]
    assert "x0.png: class ids 7 are out of range" in told[1]
    assert told[2].split(": ")[0] == "  5 more like it"
    assert [Path(place).name for place in told[2].partition(": ")[2].split(", ")] == [
        "x1.png", "x2.png", "x3.png", "and 2 more",
    ]  # fmt: skip
    assert "t0 in training and copy0 in validation: what is trained on" in told[3]
    assert told[4] == "  1 more like it: the same image is t1 in training and copy1 in validation"
    assert told[5] == "9 problems"


def test_a_repaired_file_is_no_problem_any_more(folder):
    path = folder / "annotations" / "training" / "t1.png"
    sound = path.read_bytes()
    Image.fromarray(np.full((12, 16), 7, np.uint8)).save(path)
    assert limbeck("check", folder).exit_code == 2
    path.write_bytes(sound)
    assert limbeck("check", folder).exit_code == 0


def test_a_missing_split_is_a_problem(folder):
    for part in ("images", "annotations"):
        for path in (folder / part / "validation").iterdir():
            path.unlink()
    found = limbeck("check", folder)
    assert found.exit_code == 2
    assert "problem: validation:" in found.output
    assert "note: test:" in found.output


def test_kinds_recipes_and_nonsense(tmp_path):
    assert stage.source("scenes,training=40").spec == {"kind": "scenes", "training": 40}
    assert stage.source("demo").spec["kind"] == "scenes"
    (tmp_path / "own.yaml").write_text(
        "name: x\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: compact_unet}\ntrain: {steps: 1}\n"
    )
    assert stage.source(str(tmp_path / "own.yaml")).spec == {"kind": "scenes"}
    listed = "folder,path=a,classes=[sky, road],colours={sky: [0, 0, 0], road: [9, 9, 9]},holdout=0.2"
    assert stage.source(listed).spec == {
        "kind": "folder", "path": "a", "classes": ["sky", "road"], "holdout": 0.2,
        "colours": {"sky": [0, 0, 0], "road": [9, 9, 9]},
    }  # fmt: skip
    with pytest.raises(UserError, match="no such folder, nor a data set"):
        stage.source("nonsense")
    with pytest.raises(UserError, match="camvid,drives: 'drives' should be name=value"):
        stage.source("camvid,drives")


def test_a_survey_is_what_numpy_counts(samples):
    dataset = samples(5)
    images = np.stack([dataset[index].image for index in range(5)]) / 255
    targets = np.stack([dataset[index].target for index in range(5)])
    found = survey(dataset)
    assert found.mean == pytest.approx(images.mean((0, 1, 2)), abs=1e-12)
    assert found.std == pytest.approx(images.std((0, 1, 2)), abs=1e-9)
    assert found.class_pixels == [(targets == label).sum() for label in range(4)]
    assert found.class_images == [(targets == label).any((1, 2)).sum() for label in range(4)]
    assert found.void == (targets == VOID).sum()
    assert (found.images, found.labelled, found.sizes) == (5, 5, {"16x24": 5})


def test_a_survey_is_remembered(samples):
    class Once(samples):
        reads = 0

        def __getitem__(self, index):
            Once.reads += 1
            return super().__getitem__(index)

    first = survey(Once(4))
    assert survey(Once(4)) == first
    assert Once.reads == 4


def test_images_without_truth(samples):
    found = survey(samples(3, labelled=False))
    assert (found.images, found.labelled, found.class_pixels) == (3, 0, [0, 0, 0, 0])


def test_duplicates_are_told_from_likenesses(samples):
    """Equal bytes of another shape are another image."""
    one, other = survey(samples(2, size=(16, 24))), survey(samples(2, size=(24, 16)))
    assert duplicates({"training": one, "validation": other}) == []
    (line,) = duplicates({"training": one, "validation": survey(samples(1, size=(16, 24)))})
    assert "tiny-0 in training and tiny-0 in validation" in line


def test_pairing_is_strict_again_after_the_block(tmp_path):
    images, masks = [tmp_path / "a.jpg", tmp_path / "b.jpg"], [tmp_path / "b.png", tmp_path / "c.png"]
    with noting() as lines:
        assert [found.name for found in pair(images, masks)] == ["b"]
    assert lines == [f"{images[0]}: no mask of the same name.", f"{masks[1]}: no image of the same name."]
    with pytest.raises(UserError, match="1 of 2 images have no mask"):
        pair(images, masks)


def test_statistics_are_written(folder, tmp_path):
    out = tmp_path / "numbers"
    found = limbeck("stats", folder, "--out", out)
    assert found.exit_code == 0, found.output
    written = json.loads((out / "stats.json").read_text())
    pixels = [3 * 4 * 16, 3 * 8 * 16, 0]
    counts = ClassCounts(pixels, [sum(pixels), sum(pixels), 0])
    assert (written["class_pixels"], written["class_areas"]) == (counts.pixels, counts.areas)
    assert written["class_images"] == [3, 3, 0]
    assert written["classes"] == CLASSES
    for kind in ("inverse_frequency", "median_frequency", "log_frequency"):
        assert written["class_weights"][kind] == pytest.approx(class_weights(counts, kind).tolist())
    assert ["sky", "33.333", "100.0", "1.333", "1.333"] in [line.split()[:5] for line in found.output.splitlines()]
    for name in ("classes", "sizes"):
        assert Image.open(out / f"{name}.png").width > 500
        assert "<svg" in (out / f"{name}.svg").read_text()


def test_statistics_of_a_fault_name_the_check(folder, tmp_path):
    Image.fromarray(np.full((12, 16), 7, np.uint8)).save(folder / "annotations" / "training" / "t1.png")
    with pytest.raises(UserError, match=r"t1\.png: class ids 7 .*\n`limbeck data check"):
        stage.statistics(stage.source(str(folder)), "training", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_alone_have_statistics_too(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(stage.Source, "split", lambda self, name: samples(3, labelled=False))
    found = stage.statistics(stage.Source("x", {}, Place("x"), tmp_path), "training", tmp_path / "out")
    assert found.weights == {}
    assert sorted(path.name for path in found.folder.iterdir()) == ["sizes.png", "sizes.svg", "stats.json"]


def test_a_sheet_shows_what_training_gets(tmp_path):
    out = tmp_path / "sheet.png"
    found = limbeck(
        "sheet", "demo", "data.size=[32,48]", "data.augment.flip=true", "--out", out, "--samples", 2, "--views", 3,
        "--opacity", 0,
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    from limbeck.data.transforms import Augmentation
    from limbeck.data.views import Views
    from limbeck.recipe import read

    recipe = read("demo", ["data.size=[32,48]", "data.augment.flip=true"])
    dataset = stage.source("demo").split("training")
    view = Views(dataset, Augmentation(recipe.data.size, recipe.data.resize, recipe.data.augment), recipe.seed)[0, 1]
    page = np.asarray(Image.open(out))
    left, top = 6 + 2 * (48 + 6), 18 + 6 + 18
    assert np.array_equal(page[top : top + 32, left : left + 48], (view["image"] * 255).round().permute(1, 2, 0))


def test_masks_tint_and_void_does_not(tmp_path):
    image, mask = np.full((4, 6, 3), 100, np.uint8), np.full((4, 6), VOID, np.uint8)
    mask[:, :3] = 1
    file = draw_sheet({"a": [Tile(image, None), Tile(image, mask)]}, ((0, 0, 0), (200, 0, 50)), 0.5, tmp_path / "s.png")
    page = np.asarray(Image.open(file))[42:46, 18:24]
    assert page[:, :3].reshape(-1, 3).tolist() == [[150, 50, 75]] * 12
    assert (page[:, 3:] == 100).all()


def test_camvid_is_sound(camvid):
    found = limbeck("check", "camvid,protocol=drives")
    assert found.exit_code == 0, found.output
    assert ["training", "367", "367", "0", "11", "of", "11", "3.5", "360x480"] in [
        line.split() for line in found.output.splitlines()
    ]
