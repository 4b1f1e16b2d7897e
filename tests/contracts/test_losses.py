"""What every loss keeps to; a new file in the room is tested the day it appears."""

import inspect
import itertools

import pytest
import torch
from torch.nn import functional as F

from limbeck.build import build, names
from limbeck.data.stats import ClassCounts
from limbeck.losses.edge import edges
from limbeck.record import UserError

CLASSES, COUNTS = 5, ClassCounts([50, 20, 20, 5, 5], [100] * 5)
SHAPE = (3, CLASSES, 6, 8)


SETTINGS = {"edge": {"width": 1}}
"""Where the default is no use on so few pixels."""


def make(kind):
    return build("losses", {"kind": kind, **SETTINGS.get(kind, {})}, "test", class_counts=COUNTS)


def distils(kind):
    return "teacher" in inspect.signature(make(kind).forward).parameters


DISTILLATION = [kind for kind in names("losses") if distils(kind)]
TASK = [kind for kind in names("losses") if not distils(kind)]
BLIND = ("attention", "cgd", "cosine", "cwd", "hint", "pkd")
"""Losses that do not look at labels by their own formula, so that void is nothing to them."""


ONE_CHANNEL = ("edge",)
"""Losses of a head that says yes or no."""


def maps(seed=0, shape=SHAPE):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (2 * torch.randn(shape, generator=rng) for _ in range(2))
    target = torch.randint(0, CLASSES, (shape[0], *shape[2:]), generator=rng)
    target[:, 0] = 255
    return student, teacher, target


def called(kind, student, teacher, target):
    student = student[:, :1] if kind in ONE_CHANNEL else student
    return make(kind)(student, teacher, target) if distils(kind) else make(kind)(student, target)


@pytest.fixture(params=names("losses"))
def kind(request):
    return request.param


def test_both_sorts_are_here():
    assert {"attention", "cgd", "cosine", "cwd", "ifvd", "kd"} <= set(DISTILLATION)
    assert {"boundary", "cross_entropy", "dice", "edge", "focal", "lovasz", "ohem"} <= set(TASK)


def test_a_loss_is_a_positive_float32_scalar(kind):
    loss = called(kind, *maps())
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss > 0


def test_a_gradient_reaches_every_image_of_the_student(kind):
    student, teacher, target = maps()
    student.requires_grad_()
    called(kind, student, teacher, target).backward()
    assert torch.isfinite(student.grad).all()
    assert (student.grad.abs().amax((1, 2, 3)) > 0).all()


def test_the_teacher_stays_out_of_the_graph(kind):
    student, teacher, target = maps()
    before = teacher.clone()
    called(kind, student.requires_grad_(), teacher, target).backward()
    assert teacher.grad is None
    assert torch.equal(teacher, before)


@pytest.mark.parametrize("kind", DISTILLATION)
def test_agreement_costs_nothing(kind):
    student, _, target = maps()
    student.requires_grad_()
    loss = called(kind, student, student.detach().clone(), target)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("kind", DISTILLATION)
def test_disagreement_costs_more_the_further_it_goes(kind):
    student, teacher, target = maps()
    losses = [called(kind, teacher + share * (student - teacher), teacher, target) for share in (0.0, 0.3, 0.6, 1.0)]
    assert all(a < b for a, b in itertools.pairwise(losses))


@pytest.mark.parametrize("kind", TASK)
def test_the_right_answer_costs_next_to_nothing(kind):
    _, _, target = maps()
    right = 50 * F.one_hot(target.clamp(max=CLASSES - 1), CLASSES).movedim(-1, 1).float()
    if kind == "edge":
        right = 50 * (2 * edges(target, 1)[:, None].float() - 1)
    assert called(kind, right, None, target).item() == pytest.approx(0, abs=1e-6)


def test_a_batch_without_a_valid_pixel(kind):
    student, teacher, target = maps()
    student.requires_grad_()
    loss = called(kind, student, teacher, torch.full_like(target, 255))
    loss.backward()
    assert torch.isfinite(student.grad).all()
    if kind not in BLIND:
        assert loss.item() == 0
        assert not student.grad.any()


@pytest.mark.parametrize("kind", DISTILLATION)
def test_labels_are_optional(kind):
    student, teacher, _ = maps()
    assert torch.isfinite(called(kind, student, teacher, None))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_of_any_size_stays_finite(kind, dtype):
    student, teacher, target = maps()
    student, teacher = ((50 * tensor).clamp(-100, 100).to(dtype) for tensor in (student, teacher))
    student.requires_grad_()
    loss = called(kind, student, teacher, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    in_full = called(kind, student.detach().float(), teacher.float(), target)
    torch.testing.assert_close(loss, in_full, rtol=1e-5, atol=1e-5)


def test_memory_format_does_not_matter(kind):
    student, teacher, target = maps()
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (student, teacher)]
    torch.testing.assert_close(called(kind, *last, target), called(kind, student, teacher, target))


def test_order_of_images_does_not_matter(kind):
    inputs = maps()
    order = torch.tensor([2, 0, 1])
    mixed = [tensor[order] for tensor in inputs]
    torch.testing.assert_close(called(kind, *mixed), called(kind, *inputs))


def test_a_batch_twice_costs_the_same(kind):
    if "repeat" in getattr(make(kind), "lacks", ()):
        pytest.skip("its formula counts the pixels of the batch")
    inputs = maps()
    twice = [torch.cat([tensor, tensor]) for tensor in inputs]
    torch.testing.assert_close(called(kind, *twice), called(kind, *inputs))


def test_void_pixels_change_nothing(kind):
    student, teacher, target = maps()
    other = student.clone()
    other[:, :, 0] += torch.randn(CLASSES, 1)
    same = torch.isclose(called(kind, other, teacher, target), called(kind, student, teacher, target))
    assert same != (kind in BLIND)


def test_a_constant_on_a_channel_is_nothing_to_cwd():
    student, teacher, target = maps()
    shifted = student + torch.tensor([5.0, -3.0, 0.0, 1.0, 9.0])[:, None, None]
    torch.testing.assert_close(called("cwd", shifted, teacher, target), called("cwd", student, teacher, target))


def test_a_constant_on_a_pixel_is_nothing_to_kd():
    student, teacher, target = maps()
    shifted = student + torch.randn(3, 1, 6, 8)
    torch.testing.assert_close(
        called("kd", shifted, teacher, target), called("kd", student, teacher, target), rtol=1e-4, atol=1e-5
    )


ANY_CHANNELS = [kind for kind in DISTILLATION if getattr(make(kind), "any_channels", False)]


def test_some_compare_any_number_of_channels():
    assert ANY_CHANNELS == ["attention", "ifvd"]


@pytest.mark.parametrize("kind", ANY_CHANNELS)
def test_channels_in_any_order_and_number_are_the_same_to_them(kind):
    student, teacher, target = maps()
    wide = torch.cat([teacher, teacher], 1)[:, torch.randperm(2 * CLASSES)]
    torch.testing.assert_close(called(kind, student, wide, target), called(kind, student, teacher, target))


@pytest.mark.parametrize("kind", [kind for kind in DISTILLATION if getattr(make(kind), "reads_labels", False)])
def test_labels_are_read_where_it_is_said(kind):
    student, teacher, target = maps()
    assert called(kind, student, teacher, None) == 0
    assert called(kind, student, teacher, (target + 1).where(target != 255, 255) % CLASSES) > 0


@pytest.mark.parametrize("kind", ["cosine", "kd", "cross_entropy", "focal"])
def test_whole_images_have_logits_too(kind):
    student, teacher = (tensor[:, :, 0, 0] for tensor in maps(shape=(6, CLASSES, 1, 1))[:2])
    target = torch.tensor([0, 4, -1, 1, 1, 2])
    student.requires_grad_()
    loss = called(kind, student, teacher, target)
    loss.backward()
    as_maps = called(kind, student.detach()[..., None, None], teacher[..., None, None], (target % 256)[:, None, None])
    torch.testing.assert_close(loss, as_maps)
    assert (kind in BLIND) == bool(student.grad[2].any())


@pytest.mark.parametrize("kind", ["boundary", "dice", "lovasz", "ohem"])
def test_losses_of_areas_refuse_whole_images(kind):
    with pytest.raises(UserError, match=f"{kind} is a loss of maps"):
        make(kind)(torch.randn(2, CLASSES), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "ohem", "threshold": 0}, r"threshold must be in \(0, 1\]"),
        ({"kind": "ohem", "min_kept": -1}, "min_kept must be >= 0"),
        ({"kind": "focal", "gamma": -0.5}, "gamma must be >= 0"),
        ({"kind": "boundary", "width": 4}, "width must be odd"),
        ({"kind": "boundary", "tolerance": 0}, "tolerance must be odd"),
        ({"kind": "cgd", "group_size": 0}, "group_size must be >= 1"),
        ({"kind": "cgd", "shuffle_every": -1}, "shuffle_every must be >= 0"),
        ({"kind": "attention", "power": 0.5}, "power must be >= 1"),
        ({"kind": "cross_entropy", "class_weights": [1.0, 2.0]}, "class_weights has 2 numbers, but there are 5"),
        ({"kind": "focal", "class_weights": [0, 0, 0, 0, 0]}, "must not be negative, nor all 0"),
        (
            {"kind": "cross_entropy", "class_weights": "inverse"},
            "test.class_weights: .*'inverse_frequency', .*got 'inverse'",
        ),
    ],
)
def test_impossible_settings_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        build("losses", spec, "test", class_counts=COUNTS)


@pytest.mark.parametrize("kind", ["kd", "cwd", "cgd"])
@pytest.mark.parametrize("temperature", [0, -1])
def test_impossible_temperatures_are_refused(kind, temperature):
    with pytest.raises(UserError, match="temperature must be > 0"):
        build("losses", {"kind": kind, "temperature": temperature}, "test")


@pytest.mark.parametrize("width", [0, -4])
def test_edges_have_a_width(width):
    with pytest.raises(UserError, match="width must be >= 1"):
        build("losses", {"kind": "edge", "width": width}, "test")


def test_an_edge_has_one_channel():
    student, _, target = maps()
    with pytest.raises(UserError, match=r"logits \[n, 1, h, w\], got \[3, 5, 6, 8\]"):
        make("edge")(student, target)


def test_cross_entropy_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="label_smoothing"):
        build("losses", {"kind": "cross_entropy", "label_smoothing": 1.0}, "test", class_counts=COUNTS)
    with pytest.raises(UserError, match="labelled"):
        build("losses", {"kind": "cross_entropy", "class_weights": "log_frequency"}, "test", class_counts=None)
