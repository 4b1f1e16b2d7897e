import json
import multiprocessing
import os
import signal
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from limbeck.data import cache_file
from limbeck.data.cache import Remembered
from limbeck.data.cache_file import Stored
from limbeck.data.sample import Sample
from limbeck.data.sampler import Batches
from limbeck.data.stats import count_classes
from limbeck.data.transforms import Augmentation
from limbeck.data.views import Views, load
from limbeck.place import Place
from limbeck.recipe import Augment, Resize, from_dict
from limbeck.stages import training_data
from limbeck.stages.context import Context
from limbeck.stages.plan import plan
from limbeck.stages.training_data import enough_workers

SIZE = 16 * 24 * 4
"""Bytes of a tiny sample: three channels and its mask."""


@pytest.fixture
def counted(samples):
    """A split that counts how often each sample is decoded."""

    class Counted(samples):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            self.reads = []

        def __getitem__(self, index):
            self.reads.append(index)
            return super().__getitem__(index)

    return Counted


def stored(samples, folder, key="key", budget=2**20):
    return Stored(samples, folder, key, budget)


def same(one, other):
    assert np.array_equal(one.image, other.image)
    assert one.image.dtype == other.image.dtype
    assert (one.target is None) == (other.target is None)
    if one.target is not None:
        assert np.array_equal(one.target, other.target)
        assert one.target.dtype == other.target.dtype
        assert one.target.shape == other.target.shape
    assert (one.name, one.source, one.labelled) == (other.name, other.source, other.labelled)


def test_every_sample_is_decoded_once_for_all_runs(counted, tmp_path):
    first = counted(5)
    kept = stored(first, tmp_path)
    for _ in range(2):
        for index in (3, 0, 4, 1, 2):
            same(kept[index], counted(5)[index])
    assert sorted(first.reads) == [0, 1, 2, 3, 4]
    later = counted(5)
    again = stored(later, tmp_path)
    for index in range(5):
        same(again[index], counted(5)[index])
    assert later.reads == []
    assert (tmp_path / "key.bin").stat().st_size == 5 * SIZE
    assert again.digest() == later.digest()
    assert again.classes == later.classes
    assert len(again) == 5


@pytest.mark.parametrize(
    "target",
    [None, np.asarray(7), np.asarray([[0, 300], [255, 2]]), np.asarray([[1, 2]], np.uint8).T, np.asarray(3, np.uint8)],
)
def test_any_target_comes_back_as_it_was(target, tmp_path):
    image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    sample = Sample(image, target, "näme", source=None if target is None else "here", labelled=target is not None)
    for _ in range(2):
        same(stored([sample], tmp_path)[0], sample)


def test_images_of_any_size(tmp_path, picture):
    several = [Sample(picture(3 + index, 50 - 7 * index, index), None, str(index)) for index in range(6)]
    for _ in range(2):
        for index, sample in enumerate(several):
            same(stored(several, tmp_path)[index], sample)


def test_what_is_read_cannot_be_changed(samples, tmp_path):
    kept = stored(samples(1), tmp_path)
    _ = kept[0]
    with pytest.raises(ValueError, match="read-only"):
        kept[0].image[0] = 0


def test_a_part_is_taken_up(counted, tmp_path):
    kept = stored(counted(6), tmp_path)
    for index in (5, 2):
        _ = kept[index]
    later = counted(6)
    kept = stored(later, tmp_path)
    for index in range(6):
        same(kept[index], counted(6)[index])
    assert sorted(later.reads) == [0, 1, 3, 4]


def killed_while_writing(samples, folder, after):
    kept = stored(samples(6), folder)
    for index in range(after):
        _ = kept[index]
    real = json.dumps

    def dies(line, *arguments, **named):
        os.kill(os.getpid(), signal.SIGKILL)
        return real(line, *arguments, **named)

    json.dumps = dies
    _ = kept[after]


def test_a_killed_process_leaves_what_it_had(samples, counted, tmp_path):
    process = multiprocessing.get_context("fork").Process(target=killed_while_writing, args=(samples, tmp_path, 3))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with (tmp_path / "key.jsonl").open("a") as stream:
        stream.write('{"index": 4, "at"')  # half a line, as a full disk leaves it
    later = counted(6)
    kept = stored(later, tmp_path)
    for index in range(6):
        same(kept[index], counted(6)[index])
    assert sorted(later.reads) == [3, 4, 5]
    assert len((tmp_path / "key.jsonl").read_text().splitlines()) == 7


def test_bytes_that_changed_are_decoded_again(counted, tmp_path):
    kept = stored(counted(4), tmp_path)
    for index in range(4):
        _ = kept[index]
    with (tmp_path / "key.bin").open("r+b") as stream:
        stream.seek(SIZE + 5)
        stream.write(b"\xff\xfe\xfd")
    for _ in range(2):
        later = counted(4)
        kept = stored(later, tmp_path)
        for index in range(4):
            same(kept[index], counted(4)[index])
    assert later.reads == []  # mended by then


def test_a_file_cut_short_is_written_again(counted, tmp_path):
    kept = stored(counted(4), tmp_path)
    for index in range(4):
        _ = kept[index]
    os.truncate(tmp_path / "key.bin", 2 * SIZE + 9)
    later = counted(4)
    kept = stored(later, tmp_path)
    for index in range(4):
        same(kept[index], counted(4)[index])
    assert later.reads == [2, 3]


def test_other_data_never_come_from_it(counted, tmp_path, samples):
    _ = stored(counted(2), tmp_path, "one")[0]
    other = counted(2, size=(24, 16))
    same(stored(other, tmp_path, "two")[0], samples(2, size=(24, 16))[0])
    assert other.reads == [0]
    (tmp_path / "two.jsonl").write_text('{"made_by": 0, "key": "two"}\n{"index": 1, "nonsense": 1}\n')
    again = counted(2, size=(24, 16))
    kept = stored(again, tmp_path, "two")
    same(kept[1], samples(2, size=(24, 16))[1])
    same(kept[0], samples(2, size=(24, 16))[0])
    assert again.reads == [1, 0]


def test_the_file_has_a_budget(counted, tmp_path, capsys):
    whole = counted(5)
    kept = stored(whole, tmp_path, budget=2 * SIZE + 10)
    for _ in range(2):
        for index in range(5):
            same(kept[index], counted(5)[index])
    assert whole.reads == [0, 1, 2, 3, 4, 2, 3, 4]
    assert (tmp_path / "key.bin").stat().st_size == 2 * SIZE
    assert capsys.readouterr().err.count("2 of 5 decoded images fit data.cache_gib") == 1


def fill(samples, folder, barrier):
    kept = stored(samples(40), folder)
    barrier.wait()
    for index in range(40):
        same(kept[index], samples(40)[index])


def test_processes_share_one_file(samples, counted, tmp_path):
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)
    several = [fork.Process(target=fill, args=(samples, tmp_path, barrier)) for _ in range(3)]
    for process in several:
        process.start()
    for process in several:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "key.bin").stat().st_size == 40 * SIZE
    later = counted(40)
    kept = stored(later, tmp_path)
    for index in range(40):
        same(kept[index], samples(40)[index])
    assert later.reads == []


def test_threads_share_one_file(samples, tmp_path):
    kept = stored(samples(40), tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for index, found in enumerate(pool.map(lambda index: kept[index % 40], range(200))):
            same(found, samples(40)[index % 40])
    assert (tmp_path / "key.bin").stat().st_size == 40 * SIZE


@pytest.mark.parametrize("sound", [True, False])
def test_another_thread_may_map_and_drop_meanwhile(counted, tmp_path, monkeypatch, sound):
    kept = stored(counted(4), tmp_path)
    for index in range(4):
        _ = kept[index]
    later = stored(counted(4), tmp_path)

    def crc32(data):
        later._map = b""
        later._records.clear()
        return zlib.crc32(data) if sound else 0

    monkeypatch.setattr(cache_file, "zlib", SimpleNamespace(crc32=crc32))
    same(later[2], counted(4)[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_views_of_a_cache_are_the_views(samples, tmp_path, workers):
    augmentation = Augmentation((16, 24), Resize(), Augment(scale=(0.5, 2.0), flip=True, color=0.4))
    batches = Batches(9, 3, 0, 0, 6)
    plain = list(load(Views(samples(9), augmentation, 0), batches, 0))
    for kept in (Remembered(stored(samples(9), tmp_path), samples.classes, budget=0), Remembered(samples(9), ())):
        found = list(load(Views(kept, augmentation, 0), batches, workers))
        assert all(torch.equal(one[key], two[key]) for one, two in zip(plain, found, strict=True) for key in one)


def test_memory_is_filled_before_workers_start(counted):
    inside = counted(6)
    kept = Remembered(inside, inside.classes)
    _ = list(load(Views(kept, Augmentation((16, 24), Resize(), Augment()), 0), [[(0, 0), (1, 0)]], 1))
    assert inside.reads == [0, 1, 2, 3, 4, 5]
    small = counted(6)
    kept = Remembered(small, small.classes, budget=2 * SIZE)
    kept.fill()
    assert small.reads == [0, 1]


def recipe(tmp_path, **data):
    return from_dict(
        {
            "name": "x",
            "data": {"kind": "scenes", "size": [32, 32], "training": 4, "validation": 2, **data},
            "student": {"kind": "compact_unet", "width": 4},
            "train": {"steps": 1},
        },
        Place("recipe"),
        tmp_path,
    )


def test_the_recipe_chooses(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("LIMBECK_CACHE", str(cache))
    monkeypatch.setenv("LIMBECK_CACHE", str(cache))
    contexts = {kind: Context(recipe(tmp_path, cache=kind), tmp_path) for kind in ("memory", "disk", "none")}
    datasets = {kind: context.dataset("training") for kind, context in contexts.items()}
    for index in range(4):
        same(datasets["disk"][index], datasets["none"][index])
    assert datasets["memory"][0] is datasets["memory"][0]
    assert datasets["none"][0] is not datasets["none"][0]
    (file,) = (cache / "decoded").glob("*.bin")
    assert file.stat().st_size == 4 * 120 * 160 * 4
    assert Context(recipe(tmp_path, cache="disk", seed=1), tmp_path).dataset("training")[0].name
    assert len(list((cache / "decoded").glob("*.bin"))) == 2  # other data, another file
    assert sum(count_classes(datasets["disk"]).pixels) > 0


def test_feeding_makes_no_other_run(tmp_path):
    """A stage that is done stays done when only workers and cache change."""
    given = [{}, {"workers": 2}, {"cache": "disk"}, {"cache": "none", "cache_gib": 3.0}]
    prints = [plan(Context(recipe(tmp_path, **data), tmp_path))["student"].fingerprint for data in given]
    assert len(set(prints)) == 1


def test_enough_workers(monkeypatch, tmp_path):
    monkeypatch.setattr(training_data, "SHARED", tmp_path)
    monkeypatch.setattr(training_data, "ENOUGH_SHARED", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert (enough_workers("cpu"), enough_workers("cuda:0")) == (0, 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert enough_workers("cuda:1") == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert enough_workers("cuda:0") == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr(training_data, "ENOUGH_SHARED", 2**60)
    assert enough_workers("cuda:0") == 0  # a thread, where batches do not fit the shared memory
