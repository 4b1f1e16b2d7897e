import itertools

import pytest

from limbeck.data.sampler import Batches


def listed(length=23, batch=4, seed=1, first=0, last=15, **ranks):
    return list(Batches(length, batch, seed, first, last, **ranks))


def test_the_order_is_a_function_of_seed_and_epoch():
    assert listed() == listed()
    assert listed() != listed(seed=2)
    epochs = [[index for batch in listed()[5 * e : 5 * e + 5] for index, _ in batch] for e in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_an_epoch_takes_every_sample_at_most_once():
    for epoch in range(3):
        indices = [index for batch in listed()[5 * epoch : 5 * epoch + 5] for index, _ in batch]
        assert len(set(indices)) == len(indices) == 20
        assert set(indices) <= set(range(23))


def test_over_the_epochs_every_sample_comes():
    assert {index for batch in listed(last=50) for index, _ in batch} == set(range(23))


def test_the_view_is_the_epoch():
    assert [{view for _, view in batch} for batch in listed()] == [{epoch} for epoch in (0, 1, 2) for _ in range(5)]


@pytest.mark.parametrize("first", [0, 1, 4, 5, 6, 13, 15])
def test_starting_later_gives_the_rest(first):
    assert listed(first=first) == listed()[first:]
    assert len(Batches(23, 4, 1, first, 15)) == 15 - first


@pytest.mark.parametrize("world", [2, 4])
def test_processes_together_take_the_same_batches(world):
    shares = [listed(rank=rank, world=world) for rank in range(world)]
    for number, whole in enumerate(listed()):
        parts = [share[number] for share in shares]
        assert all(len(part) == 4 // world for part in parts)
        assert sorted(itertools.chain(*parts)) == sorted(whole)


def test_it_can_be_iterated_twice():
    batches = Batches(23, 4, 1, 3, 12)
    assert list(batches) == list(batches)
    assert batches.per_epoch == 5


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="3 training samples are fewer than one batch of 4"):
        listed(length=3)
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared by 3 processes"):
        listed(world=3)


def test_large_seeds():
    assert len(listed(seed=2**31 - 1)) == 15
