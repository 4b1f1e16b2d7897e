import hashlib
import multiprocessing

import numpy as np
import pytest

from limbeck.build import build
from limbeck.data.sample import VOID
from limbeck.datasets.scenes import Scenes
from limbeck.record import UserError

SMALL = (64, 96)


def fingerprint(index: int) -> str:
    sample = Scenes("validation", canvas=SMALL, seed=3)[index]
    return hashlib.sha256(sample.image.tobytes() + sample.target.tobytes()).hexdigest()


def test_an_index_is_always_the_same_scene_in_any_order():
    scenes = Scenes("validation", canvas=SMALL, seed=3)
    first = scenes[4]
    scenes[1]
    again = scenes[4]
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.target, again.target)
    assert first.name == again.name == "validation-00004"


def test_another_process_draws_the_same_bytes():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.map(fingerprint, range(2))
    assert elsewhere == [fingerprint(0), fingerprint(1)]


def test_no_scene_is_drawn_twice():
    drawn = [
        Scenes(split, canvas=SMALL, seed=seed)[index].image.tobytes()
        for split in ("training", "validation", "test")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(drawn)) == len(drawn)


def test_a_longer_split_starts_with_the_same_scenes():
    short, long = Scenes("training", training=2, canvas=SMALL), Scenes("training", training=9, canvas=SMALL)
    assert (len(short), len(long)) == (2, 9)
    assert np.array_equal(short[1].image, long[1].image)


def test_types_labels_and_every_class_in_fifty_scenes():
    scenes = Scenes("training", canvas=(120, 160))
    seen = set()
    for index in range(50):
        sample = scenes[index]
        assert sample.image.shape == (120, 160, 3)
        assert sample.target.shape == (120, 160)
        assert sample.image.dtype == sample.target.dtype == np.uint8
        seen |= set(np.unique(sample.target).tolist())
    assert seen == {*range(len(scenes.classes)), VOID}


def test_classes_and_palette_go_together():
    assert len(Scenes.classes) == len(Scenes.palette) == len(set(Scenes.classes)) == len(set(Scenes.palette)) == 12


@pytest.mark.parametrize("size", [(64, 96), (120, 160), (150, 90), (16, 16)])
def test_size_is_height_and_width(size):
    sample = Scenes("test", canvas=size)[0]
    assert sample.image.shape == (*size, 3)
    assert sample.target.shape == size


@pytest.mark.parametrize("index", range(3))
def test_a_scene_stays_the_same_scene_at_another_size(index):
    coarse = Scenes("training", canvas=(120, 160))[index].target
    fine = Scenes("training", canvas=(240, 320))[index].target[::2, ::2]
    both = (coarse != VOID) & (fine != VOID)
    assert np.mean(coarse[both] == fine[both]) > 0.93


def test_digest_tells_apart_all_that_changes_the_data():
    makers = ({}, {"seed": 1}, {"canvas": SMALL}, {"training": 7})
    digests = [Scenes("training", **arguments).digest() for arguments in makers]
    digests += [Scenes("validation").digest(), Scenes("test").digest()]
    assert len(set(digests)) == len(digests)
    assert Scenes("training").digest() == Scenes("training", validation=7).digest()


def test_iteration_ends_and_the_end_counts_backwards():
    scenes = Scenes("test", canvas=(16, 16), test=2)
    assert [sample.name for sample in scenes] == ["test-00000", "test-00001"]
    assert scenes[np.int64(-1)].name == "test-00001"
    with pytest.raises(IndexError):
        scenes[2]


def test_a_recipe_builds_it():
    scenes = build("datasets", {"kind": "scenes", "canvas": [64, 96]}, "data", split="training", root="nowhere")
    assert len(scenes) == 400
    assert scenes[0].image.shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("split", "arguments", "message"),
    [
        ("train", {}, "training, validation, test"),
        ("training", {"training": 0}, "training has 0 scenes"),
        ("test", {"canvas": (8, 64)}, "16 or more"),
        ("test", {"seed": -1}, "0 or more"),
    ],
)
def test_wrong_arguments_are_explained(split, arguments, message):
    with pytest.raises(UserError, match=message):
        Scenes(split, **arguments)
