"""What every loss keeps to; a new file in the room is tested the day it appears."""

import inspect
import itertools

import pytest
import torch
from torch.nn import functional as F

from limbeck.build import build, names
from limbeck.data.stats import ClassCounts
from limbeck.losses.edge import edges
from limbeck.place import Place
from limbeck.recipe import Ramp
from limbeck.record import UserError
from limbeck.train.terms import make_term

CLASSES, COUNTS = 5, ClassCounts([50, 20, 20, 5, 5], [100] * 5)
SHAPE = (3, CLASSES, 6, 8)


SETTINGS = {"edge": {"width": 1}}
"""Where the default is no use on so few pixels."""


def make(kind):
    found = build("losses", {"kind": kind, **SETTINGS.get(kind, {})}, "test", class_counts=COUNTS, num_classes=CLASSES)
    if hasattr(found, "bind"):
        torch.manual_seed(0)
        shapes = [SHAPE, (*SHAPE[:2], 3, 4)] if has(found, "levels") else [SHAPE]
        found.bind(shapes, shapes)
    return found


def has(loss, name):
    return getattr(loss, name, False)


def distils(kind):
    return "teacher" in inspect.signature(make(kind).forward).parameters


DISTILLATION = [kind for kind in names("losses") if distils(kind)]
TASK = [kind for kind in names("losses") if not distils(kind)]
PROPERTIES = {"equality", "void", "batch_split", "repeat", "permutation", "compile"}
"""What a formula may lack; then the test sees that it does."""


ONE_CHANNEL = ("edge",)
"""Losses of a head that says yes or no."""


def lacks(kind, what):
    return what in getattr(make(kind), "lacks", ())


def maps(seed=0, shape=SHAPE, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (2 * torch.randn(shape, generator=rng).to(dtype) for _ in range(2))
    target = torch.randint(0, CLASSES, (shape[0], *shape[2:]), generator=rng)
    target[:, 0] = 255
    return student, teacher, target


def called(kind, student, teacher, target, loss=None, **weights):
    loss = make(kind) if loss is None else loss
    student = student[:, :1] if kind in ONE_CHANNEL else student
    torch.manual_seed(1)  # for losses that draw
    if has(loss, "levels"):
        student, teacher = ([maps, maps[..., ::2, ::2]] for maps in (student, teacher))
    return loss(student, teacher, target, **weights) if distils(kind) else loss(student, target)


@pytest.fixture(params=names("losses"))
def kind(request):
    return request.param


def test_both_sorts_are_here():
    assert {
        "attention", "cgd", "cosine", "cwd", "dist", "dkd", "hint", "ifvd", "kd", "mgd", "pairwise", "pkd", "review",
    } <= set(DISTILLATION)  # fmt: skip
    assert {"boundary", "cross_entropy", "dice", "edge", "focal", "lovasz", "ohem"} <= set(TASK)


def test_what_it_lacks_is_known(kind):
    assert getattr(make(kind), "lacks", frozenset()) <= PROPERTIES


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


def bound(kind, student, teacher):
    """The term of a loss, as a recipe makes it; several levels are the one twice."""
    loss = build("losses", {"kind": kind}, "test", num_classes=CLASSES)
    shapes = student.shape, teacher.shape
    at, pairs = (["a", "b"], [shapes, shapes]) if has(loss, "levels") else ("a", shapes)
    return make_term(kind, loss, at, pairs, 2.0, Ramp(), Place("recipe"))


@pytest.mark.parametrize("kind", DISTILLATION)
def test_the_teacher_stays_out_of_the_graph(kind):
    student, teacher, target = maps()
    before = teacher.clone()
    one = bound(kind, student, teacher.requires_grad_())
    part = one.part({"a": student.requires_grad_(), "b": student}, {"a": teacher, "b": teacher}, target, 0.5)
    part.backward()
    assert teacher.grad is None
    assert torch.equal(teacher, before)
    assert torch.isfinite(student.grad).all()
    assert student.grad.any()


@pytest.mark.parametrize("kind", DISTILLATION)
def test_maps_of_other_sizes_and_channels_are_brought_together(kind):
    student, _, target = maps(dtype=torch.bfloat16)
    logits = kind in ("dist", "dkd", "kd")  # of classes, of which both have the same
    for shape in ((3, CLASSES, 13, 17), (3, CLASSES if logits else 7, 3, 4)):
        teacher = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        given = student.clone().requires_grad_()
        one = bound(kind, given, teacher)
        one.part({"a": given, "b": given}, {"a": teacher, "b": teacher}, target, 0.5).backward()
        assert torch.isfinite(given.grad).all()
        assert given.grad.any()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in one.parameters())


@pytest.mark.parametrize("kind", [kind for kind in DISTILLATION if has(make(kind), "maps_only")])
def test_maps_are_told_from_vectors_before_the_first_step(kind):
    with pytest.raises(UserError, match=r"compares maps \[n, c, h, w\]; student.a gives \(3, 5\)"):
        bound(kind, torch.randn(3, 5), torch.randn(3, 5))


@pytest.mark.parametrize("kind", DISTILLATION)
def test_agreement_costs_nothing(kind):
    student, _, target = maps()
    student.requires_grad_()
    loss = called(kind, student, student.detach().clone(), target)
    loss.backward()
    assert (loss.item() == pytest.approx(0, abs=1e-6)) != lacks(kind, "equality")
    assert (student.grad.abs().max() < 1e-6) != lacks(kind, "equality")


@pytest.mark.parametrize("kind", [kind for kind in DISTILLATION if not lacks(kind, "equality")])
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
    if not lacks(kind, "void"):
        assert loss.item() == 0
        assert not student.grad.any()


def test_absent_classes(kind):
    """All of one class, and a class that no pixel has."""
    student, teacher, target = maps()
    for labels in (torch.zeros_like(target), torch.where(target == 3, 255, target)):
        given = student.clone().requires_grad_()
        loss = called(kind, given, teacher, labels)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(given.grad).all()


@pytest.mark.parametrize("kind", DISTILLATION)
def test_gradients_are_those_of_the_formula(kind):
    student, teacher, target = maps(shape=(2, CLASSES, 4, 6), dtype=torch.float64)
    loss = make(kind).double()
    assert torch.autograd.gradcheck(
        lambda given: called(kind, given, teacher, target, loss), student.requires_grad_(), fast_mode=True
    )
    assert called(kind, student, teacher, target, loss).dtype == torch.float64


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
    same = torch.isclose(called(kind, *mixed), called(kind, *inputs), rtol=1e-5)
    assert same != lacks(kind, "permutation")


def test_a_batch_twice_costs_the_same(kind):
    inputs = maps()
    twice = [torch.cat([tensor, tensor]) for tensor in inputs]
    same = torch.isclose(called(kind, *twice), called(kind, *inputs), rtol=1e-5)
    assert same != lacks(kind, "repeat")


def test_two_halves_cost_what_the_whole_does(kind):
    inputs = maps(shape=(4, *SHAPE[1:]))
    halves = [called(kind, *(tensor[half] for tensor in inputs)) for half in (slice(2), slice(2, 4))]
    same = torch.isclose(torch.stack(halves).mean(), called(kind, *inputs), rtol=1e-5)
    assert same != lacks(kind, "batch_split")


def test_void_pixels_change_nothing(kind):
    student, teacher, target = maps()
    other = student.clone()
    other[:, :, 0] += torch.randn(CLASSES, 1)
    same = torch.isclose(called(kind, other, teacher, target), called(kind, student, teacher, target))
    assert same != lacks(kind, "void")


@pytest.mark.slow
def test_torch_compiles_it_as_one_graph(kind):
    student, teacher, target = maps()
    loss = make(kind)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    student.requires_grad_()
    if lacks(kind, "compile"):
        with pytest.raises(RuntimeError, match="data-dependent"):
            called(kind, student, teacher, target, compiled)
        return
    found = called(kind, student, teacher, target, compiled)
    torch.testing.assert_close(found, called(kind, student, teacher, target, loss))
    found.backward()
    assert torch.isfinite(student.grad).all()


WEIGHED = [kind for kind in DISTILLATION if "weights" in inspect.signature(make(kind).forward).parameters]


def test_some_take_weights_of_positions():
    assert WEIGHED == ["cgd", "cosine", "cwd", "dist", "dkd", "hint", "ifvd", "kd"]


@pytest.mark.parametrize("kind", WEIGHED)
def test_weights_of_positions(kind):
    student, teacher, target = maps()
    weights = torch.rand(target.shape, generator=torch.Generator().manual_seed(3))
    given = student.clone().requires_grad_()
    loss = called(kind, given, teacher, target, weights=weights)
    loss.backward()
    assert torch.isfinite(given.grad).all()
    plain = called(kind, student, teacher, target)
    assert loss != plain
    even = [called(kind, student, teacher, target, weights=torch.full_like(weights, level)) for level in (1.0, 0.25)]
    torch.testing.assert_close(torch.stack(even), torch.stack([plain, plain]))
    torch.testing.assert_close(called(kind, student, teacher, target, weights=7 * weights), loss.detach())


@pytest.mark.parametrize("kind", WEIGHED)
def test_positions_of_weight_nought_are_not_there(kind):
    student, teacher, target = maps()
    weights = torch.ones(target.shape)
    weights[:, :, 5:] = 0
    if kind == "ifvd":  # whose centres are of all pixels
        target[:, :, 5:] = 255
    given = student.clone().requires_grad_()
    loss = called(kind, given, teacher, target, weights=weights)
    loss.backward()
    assert not given.grad[..., 5:].any()
    torch.testing.assert_close(loss, called(kind, *(tensor[..., :5] for tensor in (student, teacher, target))))
    nothing = called(kind, given, teacher, target, weights=torch.zeros_like(weights))
    given.grad = None
    nothing.backward()
    assert torch.isfinite(given.grad).all()
    assert kind == "cosine" or nothing == 0


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
    assert ANY_CHANNELS == ["attention", "ifvd", "pairwise", "review"]


@pytest.mark.parametrize("kind", [kind for kind in ANY_CHANNELS if not hasattr(make(kind), "bind")])
def test_channels_in_any_order_and_number_are_the_same_to_them(kind):
    student, teacher, target = maps()
    wide = torch.cat([teacher, teacher], 1)[:, torch.randperm(2 * CLASSES)]
    torch.testing.assert_close(called(kind, student, wide, target), called(kind, student, teacher, target))


@pytest.mark.parametrize("kind", [kind for kind in DISTILLATION if getattr(make(kind), "reads_labels", False)])
def test_labels_are_read_where_it_is_said(kind):
    student, teacher, target = maps()
    assert called(kind, student, teacher, None) == 0
    assert called(kind, student, teacher, (target + 1).where(target != 255, 255) % CLASSES) > 0


WHOLE = [kind for kind in DISTILLATION if not has(make(kind), "maps_only")]


def test_some_compare_whole_images():
    assert WHOLE == ["cosine", "dist", "dkd", "hint", "kd", "pkd"]


@pytest.mark.parametrize("kind", [*WHOLE, "cross_entropy", "focal"])
def test_whole_images_have_logits_too(kind):
    student, teacher = (tensor[:, :, 0, 0] for tensor in maps(shape=(6, CLASSES, 1, 1))[:2])
    target = torch.tensor([0, 4, -1, 1, 1, 2])
    student.requires_grad_()
    loss = called(kind, student, teacher, target)
    loss.backward()
    as_maps = called(kind, student.detach()[..., None, None], teacher[..., None, None], (target % 256)[:, None, None])
    torch.testing.assert_close(loss, as_maps)
    assert lacks(kind, "void") == bool(student.grad[2].any())
