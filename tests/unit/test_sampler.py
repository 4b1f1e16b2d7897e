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


SOURCES = ((5, 2), (3, 8), (4, 4))


def test_sources_give_as_many_samples_as_they_are_told():
    for epoch in range(4):
        found = [
            index for batch in listed(14, 7, last=8, sources=SOURCES)[2 * epoch : 2 * epoch + 2] for index, _ in batch
        ]
        assert len(found) == 14
        first, second, third = ([i for i in found if a <= i < b] for a, b in ((0, 5), (5, 8), (8, 12)))
        assert len(set(first)) == len(first) == 2
        assert sorted(second.count(i) for i in (5, 6, 7)) == [2, 3, 3]
        assert sorted(third) == [8, 9, 10, 11]


def test_no_view_of_a_sample_comes_twice():
    views = [pair for batch in listed(14, 7, last=40, sources=SOURCES) for pair in batch]
    assert len(set(views)) == len(views) == 280
    assert {view // 3 for _, view in views} == set(range(20))


def test_over_the_epochs_every_sample_of_every_source_comes():
    assert {index for batch in listed(14, 7, last=80, sources=SOURCES) for index, _ in batch} == set(range(12))


def test_sources_mix_within_an_epoch_and_can_be_taken_up_again():
    whole = listed(14, 7, last=8, sources=SOURCES)
    assert listed(14, 7, first=3, last=8, sources=SOURCES) == whole[3:]
    assert all(any(5 <= index < 8 for index, _ in batch) for batch in whole)


def test_one_source_of_weight_one_draws_everything_once():
    found = [index for batch in listed(24, 4, last=6, sources=((24, 24),)) for index, _ in batch]
    assert sorted(found) == list(range(24))


def test_sources_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="an epoch of 20 samples"):
        listed(20, sources=SOURCES)
