"""What a teacher said is kept whole or not at all, is never taken for something else, and changes no training."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from _training import EVERY_STEP, LENGTH, Stopped, prepare, same

from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.recipe import Ramp
from limbeck.record import UserError
from limbeck.train import cache
from limbeck.train.cache import Entries
from limbeck.train.keep import Top, Whole
from limbeck.train.replay import Replayed
from limbeck.train.terms import make_term

ABOUT = {"teacher": "abc", "place": "logits"}
KEYS, CHECKS = [(3, 1), (0, 0), (4, 1)], [7, 8, 9]
BLOCKS = np.arange(3 * 2 * 3 * 4, dtype=np.uint16).reshape(3, 2, 3, 4) + 1


@pytest.fixture
def begin(tmp_path):
    return lambda **about: Entries(tmp_path, ABOUT | about, 5, 2, (2, 3, 4))


def test_entries_come_back_as_they_were(begin):
    entries = begin()
    assert entries.read(KEYS, CHECKS) is None
    entries.write(KEYS, CHECKS, BLOCKS)
    assert entries.known == 3
    for reader in (entries, begin()):
        assert np.array_equal(reader.read(KEYS, CHECKS), BLOCKS)
        assert np.array_equal(reader.read(KEYS[::-1], CHECKS[::-1]), BLOCKS[::-1])
        assert reader.read([(3, 1), (3, 0)], [7, 7]) is None
    assert entries.path.stat().st_size == entries.size == 2 * 4096 + 10 * 48


def test_what_is_there_stays(begin):
    entries = begin()
    entries.write(KEYS[:1], CHECKS[:1], BLOCKS[:1])
    begin().write(KEYS, CHECKS, BLOCKS + 100)
    found = entries.read(KEYS, CHECKS)
    assert np.array_equal(found[0], BLOCKS[0])
    assert np.array_equal(found[1:], BLOCKS[1:] + 100)


def test_another_image_is_refused(begin):
    entries = begin()
    entries.write(KEYS, CHECKS, BLOCKS)
    with pytest.raises(UserError, match=r"view 1 of image 4 is not the one that the teacher saw.*remove the file"):
        entries.read(KEYS, [7, 8, 1])


def test_everything_that_decides_is_another_file(begin):
    entries = begin()
    entries.write(KEYS, CHECKS, BLOCKS)
    assert begin(teacher="other").read(KEYS, CHECKS) is None
    assert begin(place="backbone").path != entries.path


def test_why_what_is_there_is_not_used_is_said(begin, capsys):
    begin(augment={"color": 0.4, "flip": True})
    begin(augment={"color": 0.4, "flip": True}, place="backbone")
    assert capsys.readouterr().err == ""
    begin(augment={"color": 0.5, "flip": True})
    assert "augment.color 0.4 then, 0.5 now\n" in capsys.readouterr().err


def test_a_file_of_something_else_is_refused_with_what_differs(begin):
    other = begin(teacher="other")
    other.path.rename(begin().path)
    with pytest.raises(UserError, match="something else \\(teacher 'other', not 'abc'\\); remove it"):
        begin()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"\xff" + data[1:], lambda data: b""])
def test_a_damaged_file_is_begun_anew_and_said(begin, damage, capsys):
    entries = begin()
    entries.write(KEYS, CHECKS, BLOCKS)
    entries.path.write_bytes(damage(entries.path.read_bytes()))
    assert begin().known == 0
    assert "damaged; the teacher is asked again" in capsys.readouterr().err


def test_a_damaged_entry_is_asked_for_again(begin, capsys):
    entries = begin()
    entries.write(KEYS, CHECKS, BLOCKS)
    data = bytearray(entries.path.read_bytes())
    data[2 * 4096 + 7 * 48 + 5] ^= 1  # of image 3, view 1
    entries.path.write_bytes(bytes(data))
    again = begin()
    assert again.read(KEYS, CHECKS) is None
    assert "view 1 of image 3 is damaged" in capsys.readouterr().err
    assert again.known == 2
    again.write(KEYS, CHECKS, BLOCKS)
    assert np.array_equal(again.read(KEYS, CHECKS), BLOCKS)


def test_a_writer_killed_between_data_and_checksums_leaves_nothing_half(begin, monkeypatch):
    def die(data):
        os.kill(os.getpid(), signal.SIGKILL)

    def killed():
        monkeypatch.setattr(cache, "_sum", die)
        begin().write(KEYS, CHECKS, BLOCKS)

    begin().write(KEYS[:1], CHECKS[:1], BLOCKS[:1])
    child = multiprocessing.get_context("fork").Process(target=killed)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    entries = begin()  # and the lock is free
    assert entries.known == 1
    entries.write(KEYS, CHECKS, BLOCKS)
    assert np.array_equal(entries.read(KEYS, CHECKS), BLOCKS)


def _write_all(folder, mark):
    entries = Entries(folder, ABOUT, 8, 4, (64, 64))
    for number in range(32):
        key = divmod((number * 5 + mark) % 32, 4)
        entries.write([key], [1], np.full((1, 64, 64), mark, np.uint16))
        assert len(np.unique(entries.read([key], [1]))) == 1, "a torn entry"


def test_processes_write_side_by_side(tmp_path):
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_write_all, args=(tmp_path, mark)) for mark in (1, 2, 3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert Entries(tmp_path, ABOUT, 8, 4, (64, 64)).known == 32


def test_a_full_disk_is_one_message(begin, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    entries = begin()
    monkeypatch.setattr(cache.os, "pwrite", full)
    with pytest.raises(UserError, match="could not be written \\(No space left on device\\)"):
        entries.write(KEYS, CHECKS, BLOCKS)


# In a training: tests/unit/_training.py has 14 images, batches of 4, three steps an epoch.

PLACES = {"backbone": torch.Size([1, 16, 8, 12]), "logits": torch.Size([1, 4, 8, 12])}


class Counting:
    def __init__(self, teacher):
        self.teacher, self.asked, self.close = teacher, 0, teacher.close

    def __call__(self, batch):
        self.asked += 1
        return self.teacher(batch)


class Rounded(Counting):
    """The teacher at every step, in 16 bits."""

    def __call__(self, batch):
        return {
            place: tensor.half().contiguous(memory_format=torch.channels_last)
            for place, tensor in super().__call__(batch).items()
        }


@pytest.fixture
def replay(tiny, samples, tmp_path):
    """``replay(folder, views, cache, **what)``: a training on kept outputs, and the teacher that counts its calls."""

    def made(folder, views, kept="cache", **what):
        asked = []

        def wrapped(teacher):
            asked.append(Counting(teacher))
            files = {
                place: (Entries(tmp_path / kept, {"place": place}, LENGTH, views, Whole().shape(shape)), Whole())
                for place, shape in PLACES.items()
            }
            return Replayed(asked[0], files)

        run = prepare(tiny, samples, tmp_path / folder, distilled=True, teacher=wrapped, views=views, **what)
        run.teacher = asked[0]
        return run

    return made


@pytest.fixture
def online(tiny, samples, tmp_path):
    return lambda folder="online", **what: prepare(
        tiny, samples, tmp_path / folder, distilled=True, teacher=Rounded, **what
    )


STEPS = {"steps": 12, "optimizer": {"lr": 0.01}}


def equal(one, other):
    assert one.losses() == other.losses()
    assert same(one.student, other.student)


def test_with_a_view_for_every_epoch_it_is_the_online_training_in_16_bits(online, replay):
    expected, lazy, filled = online(**STEPS), replay("lazy", 4, **STEPS), replay("filled", 4, **STEPS)
    for run in (expected, lazy, filled):
        run.train()
    equal(lazy, expected)
    equal(filled, expected)
    assert lazy.teacher.asked == 12
    assert filled.teacher.asked == 0


def test_views_come_again_and_the_teacher_is_not_asked_again(replay):
    run = replay("run", 2, **STEPS)
    run.train()
    # Three steps an epoch take 12 of 14 images: what an epoch left out is asked for where it first comes.
    assert 6 <= run.teacher.asked < 12
    again = replay("again", 2, **STEPS)
    again.train()
    equal(again, run)
    assert again.teacher.asked == 0


@pytest.mark.parametrize("step", [1, 4, 7, 11])
def test_it_goes_on_bit_for_bit(replay, step):
    settings = STEPS | {"checkpoint": {"every": EVERY_STEP}}
    expected = replay("whole", 2, "whole-cache", **settings)
    expected.train()
    with pytest.raises(Stopped):
        replay("stopped", 2, stop_at=step, **settings).train()
    torch.rand(11)
    again = replay("stopped", 2, **settings)
    assert again.train().resumed_from == step
    equal(again, expected)


def test_values_beyond_16_bits_are_refused(replay, tiny):
    run = replay("large", 2, **STEPS)
    with torch.no_grad():
        run.teacher.teacher.model.classifier.weight.fill_(1e6)
    with pytest.raises(UserError, match=r"teacher.logits: values up to .* do not fit the 16 bits"):
        run.train()


# The most likely classes and the rest as one.


def kl(student, teacher, temperature):
    """By hand, over the first axis of two arrays of logits."""
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum(0) for x in (teacher, student))
    return temperature**2 * (p * np.log(p / q)).sum(0).mean(), p, q


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_rest_is_one_class_at_every_temperature(temperature, count):
    draw = torch.Generator().manual_seed(count)
    student, teacher = (3 * torch.randn(2, 6, 4, 5, generator=draw) for _ in range(2))
    top = Top(count, (1.0, 4.0))
    block = top.pack(teacher + 100, "logits")
    assert block.shape[1:] == top.shape((1, 6, 4, 5))
    mine, theirs = top.both(student, top.unpack(block), temperature)
    found = KnowledgeDistillation(temperature)(mine, theirs, None)
    s, t = (x.double().numpy().transpose(1, 0, 2, 3).reshape(6, -1) for x in (student, teacher))
    whole, p, q = kl(s, t, temperature)
    order = np.argsort(-t, axis=0)
    p, q = (np.take_along_axis(x, order, 0) for x in (p, q))
    p, q = (np.concatenate([x[:count], x[count:].sum(0, keepdims=True)]) for x in (p, q))
    assert found.item() == pytest.approx(temperature**2 * (p * np.log(p / q)).sum(0).mean(), rel=2e-3)
    assert found.item() <= whole * 1.002
    if count == 5:
        assert found.item() == pytest.approx(whole, rel=2e-3), "a rest of one class is that class"


def test_a_student_that_agrees_is_left_alone():
    teacher = 2 * torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(1))
    student = teacher.clone().requires_grad_()
    top = Top(2, (1.0,))
    mine, theirs = top.both(student, top.unpack(top.pack(teacher, "logits")), 1.0)
    loss = KnowledgeDistillation()(mine, theirs, None)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert student.grad.abs().max() < 1e-4
    mine, theirs = top.both(student, top.unpack(top.pack(-teacher, "logits")), 1.0)
    KnowledgeDistillation()(mine, theirs, None).backward()
    assert (student.grad != 0).all(), "the rest has a gradient too"


def test_certain_teachers_fit_16_bits():
    teacher = torch.zeros(1, 3, 1, 1)
    teacher[:, 1] = 1e6
    top = Top(2, (1.0,))
    mine, theirs = top.both(torch.zeros(1, 3, 1, 1), top.unpack(top.pack(teacher, "logits")), 1.0)
    assert KnowledgeDistillation()(mine, theirs, None).item() == pytest.approx(np.log(3), rel=1e-5)


def test_terms_compare_at_the_teachers_grid_where_no_more_is_known():
    student, teacher = torch.randn(2, 6, 4, 6), torch.randn(2, 6, 8, 12)
    shapes = torch.Size([1, 6, 4, 6]), torch.Size([1, 6, 8, 12])
    term = make_term("kd", KnowledgeDistillation(), "logits", shapes, 1.0, Ramp(), Place("r"))
    top = Top(5, (1.0,))
    term.top = (top, 1.0)
    target = torch.randint(0, 6, (2, 16, 24))
    target[:, :5] = 255
    found = term(student, top.unpack(top.pack(teacher, "logits")), target, 0.5)
    larger = torch.nn.functional.interpolate(student, (8, 12), mode="bilinear")
    term.top = None
    torch.testing.assert_close(found, term(larger, teacher, target, 0.5), rtol=2e-3, atol=1e-5)


def test_the_file_says_what_it_is_of(begin):
    header = begin().path.read_bytes()[:4096].rstrip(b"\0")
    assert json.loads(header) == {"made_by": 1, **ABOUT, "images": 5, "views": 2, "shape": [2, 3, 4]}


@pytest.mark.parametrize("form", [Whole(), Top(2, (1.0,))], ids=["whole", "top"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nothing_is_kept_that_is_not_finite(form, value):
    logits = torch.zeros(1, 4, 2, 3)
    logits[0, 1, 1, 1] = value
    with pytest.raises(UserError, match=r"teacher\.logits: "):
        form.pack(logits, "logits")
