import random

import numpy as np
import pytest
import torch

from limbeck.data.cache import Remembered
from limbeck.data.sampler import Batches
from limbeck.data.transforms import Augmentation
from limbeck.data.views import Views, load
from limbeck.recipe import Augment, Resize

AUGMENT = Augment(scale=(0.5, 2.0), flip=True, color=0.5)


@pytest.fixture
def views(samples):
    return Views(samples(9), Augmentation((16, 24), Resize(), AUGMENT), seed=3)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_view_is_a_function_of_seed_index_and_view(views, samples):
    again = Views(samples(9), Augmentation((16, 24), Resize(), AUGMENT), seed=3)
    keys = [(index, view) for index in range(9) for view in range(3)]
    found = {key: views[key] for key in keys}
    for key in reversed(keys):
        torch.rand(5)
        assert same(again[key], found[key])
    other = Views(samples(9), Augmentation((16, 24), Resize(), AUGMENT), seed=4)
    assert not same(other[0, 0], found[0, 0])


def test_every_epoch_looks_different(views):
    for index in range(4):
        images = [views[index, epoch]["image"] for epoch in range(4)]
        assert len({image.numpy().tobytes() for image in images}) == 4


def test_samples_of_an_epoch_are_drawn_apart(samples):
    class Same(samples):
        def __getitem__(self, index):
            return super().__getitem__(0)

    views = Views(Same(6), Augmentation((16, 24), Resize(), AUGMENT), seed=0)
    assert len({views[index, 0]["image"].numpy().tobytes() for index in range(6)}) == 6


def test_what_a_view_holds(views):
    found = views[7, 2]
    assert found["image"].shape == (3, 16, 24)
    assert found["target"].shape == (16, 24)
    assert (found["index"].item(), found["view"].item()) == (7, 2)
    assert len(views) == 9


def test_a_view_without_truth_has_no_target(samples):
    views = Views(samples(2, labelled=False), Augmentation((16, 24), Resize(), AUGMENT), seed=0)
    assert "target" not in views[0, 0]
    (batch,) = load(views, [[(0, 0), (1, 0)]], 0)
    assert "target" not in batch


def test_the_global_streams_stay_where_they_are(views):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    _ = views[3, 1]
    for _ in load(views, Batches(9, 3, 0, 0, 4), 0):
        pass
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(views, workers):
    batches = Batches(9, 4, 3, 1, 5)
    torch.manual_seed(5)
    alone = list(load(views, batches, 0))
    state = torch.get_rng_state()
    together = list(load(views, batches, workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(alone) == len(together) == 4
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


def test_batches_follow_the_sampler(views):
    batches = Batches(9, 4, 3, 0, 4)
    for batch, keys in zip(load(views, batches, 0), batches, strict=True):
        assert list(zip(batch["index"].tolist(), batch["view"].tolist(), strict=True)) == keys
        assert batch["image"].shape == (4, 3, 16, 24)


def test_remembered_samples_are_read_once_and_stay_the_same(samples):
    class Once(samples):
        reads = 0

        def __getitem__(self, index):
            Once.reads += 1
            return super().__getitem__(index)

    kept = Remembered(Once(9), Once.classes)
    views = Views(kept, Augmentation((16, 24), Resize(), AUGMENT), seed=3)
    plain = Views(samples(9), Augmentation((16, 24), Resize(), AUGMENT), seed=3)
    for view in range(3):
        assert all(same(views[index, view], plain[index, view]) for index in range(9))
    assert Once.reads == 9
    assert kept.digest() == Once(9).digest()
    assert len(kept) == 9


def test_memory_has_a_limit(samples):
    size = samples(1)[0].image.nbytes + samples(1)[0].target.nbytes
    kept = Remembered(samples(9), samples.classes, budget=2 * size)
    for index in range(9):
        assert np.array_equal(kept[index].image, samples(9)[index].image)
    assert kept[0] is kept[0]
    assert kept[1] is kept[1]
    assert kept[2] is not kept[2]


def test_only_the_cpu_generator_is_seeded(views, monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("CUDA's stream was touched"))
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("all streams were seeded"))
    _ = views[3, 1]


def test_counted_views_come_again(samples):
    again = Views(samples(9), Augmentation((16, 24), Resize(), AUGMENT), 3, count=2)
    free = Views(samples(9), Augmentation((16, 24), Resize(), AUGMENT), 3)
    for view in range(5):
        assert torch.equal(again[4, view]["image"], free[4, view % 2]["image"])
        assert again[4, view]["view"] == view % 2
    assert not torch.equal(again[4, 0]["image"], again[4, 1]["image"])
