"""Faults that were found in the losses of public distillation toolkits, each as a test that ours do not have it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.losses.attention import Attention
from limbeck.losses.cgd import ChannelGroups
from limbeck.losses.cwd import ChannelWise
from limbeck.losses.dist import Dist
from limbeck.losses.dkd import Decoupled
from limbeck.losses.hint import Hint
from limbeck.losses.ifvd import IntraClassVariation, likeness
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.losses.mgd import MaskedGenerative
from limbeck.losses.pairwise import PairWise
from limbeck.losses.pkd import Pearson
from limbeck.losses.review import Review
from limbeck.place import Place
from limbeck.recipe import Ramp
from limbeck.train.ramps import factor
from limbeck.train.terms import make_term


def maps(shape=(2, 5, 6, 8), scale=2.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(shape, generator=rng) for _ in range(2))
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=rng)
    return student, teacher, target


def test_mmrazor_dkd_ignores_its_reduction_and_grows_with_the_batch():
    student, teacher, target = maps((4, 10, 1, 1))
    student, teacher, target = student[..., 0, 0], teacher[..., 0, 0], target[..., 0, 0]
    one = Decoupled()(student, teacher, target)
    many = Decoupled()(student.repeat(16, 1), teacher.repeat(16, 1), target.repeat(16))
    torch.testing.assert_close(many, one)


def test_torchdistill_kd_needs_an_alpha_and_forgets_the_square_of_the_temperature_without():
    # Without tau^2 the gradient of nearly uniform logits falls with tau^2; with it, it stays.
    student, teacher, _ = maps(scale=0.01)
    slopes = []
    for temperature in (1.0, 8.0):
        given = student.clone().requires_grad_()
        KnowledgeDistillation(temperature)(given, teacher, None).backward()
        slopes.append(given.grad.norm())
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0.02, atol=0)


def test_torchdistill_standardises_logits_over_the_width_of_the_image():
    student, teacher, _ = maps()
    expected = KnowledgeDistillation(2.0, standardise=True)(student, teacher, None)
    # The class axis alone matters: each pixel by itself gives the same, and a scale for each pixel gives it too.
    rows = [tensor.movedim(1, -1).reshape(-1, 5) for tensor in (student, teacher)]
    torch.testing.assert_close(KnowledgeDistillation(2.0, standardise=True)(*rows, None), expected)
    stretched = student * torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(1)).add(0.5)
    torch.testing.assert_close(KnowledgeDistillation(2.0, standardise=True)(stretched, teacher, None), expected)


def test_torchdistill_dist_adds_the_correlation_that_it_should_reduce():
    student, teacher, _ = maps()
    for loss in (Dist(gamma=0.0), Dist(beta=0.0), Pearson()):
        near, far, opposite = (loss(given, teacher, None) for given in (teacher + 0.1 * student, student, -teacher))
        assert near < far < opposite
        given = student.clone().requires_grad_()
        loss(given, teacher, None).backward()
        assert loss(student - 0.1 * given.grad / given.grad.norm(), teacher, None) < loss(student, teacher, None)


def test_cirkd_class_memory_holds_pixels_of_any_class():
    _, teacher, target = maps()
    members = F.one_hot(target.flatten(1), 5).transpose(1, 2).float()
    found = likeness(teacher.flatten(2), members)
    for image in range(2):
        for label in target[image].unique():
            own = teacher[image][:, target[image] == label]
            expected = F.cosine_similarity(own, own.mean(1, keepdim=True), dim=0)
            torch.testing.assert_close(found[image][target[image].flatten() == label], expected)


def test_cirkd_pairs_of_images_in_a_python_loop():
    """One product for the batch, and what it means does not depend on how many images a process gets."""
    student, teacher, _ = maps()
    whole = PairWise()(student, teacher, None)
    each = [PairWise()(student[n : n + 1], teacher[n : n + 1], None) for n in range(2)]
    torch.testing.assert_close(whole, torch.stack(each).mean())


@pytest.mark.parametrize(
    "loss", [ChannelWise(1.0), ChannelGroups(2, 1.0), KnowledgeDistillation()], ids=lambda o: type(o).__name__
)
def test_cirkd_cwd_takes_the_logarithm_of_a_softmax_that_underflows(loss):
    student, teacher, _ = maps(scale=300.0)
    assert F.softmax(student.flatten(2), -1).log().isinf().any(), "as it was"
    student.requires_grad_()
    found = loss(student, teacher, None)
    found.backward()
    assert torch.isfinite(found)
    assert torch.isfinite(student.grad).all()


def test_cirkd_cwd_divides_by_channels_before_the_projection():
    torch.manual_seed(0)
    shapes = torch.Size([1, 4, 6, 8]), torch.Size([1, 12, 6, 8])
    one = make_term("cwd", ChannelWise(2.0), "a", shapes, 1.0, Ramp(), Place("r"))
    student, teacher = torch.randn(2, 4, 6, 8), torch.randn(2, 12, 6, 8)
    torch.testing.assert_close(
        one(student, teacher, None, 0.5), ChannelWise(2.0)(one.projector(student), teacher, None)
    )
    repeated = ChannelWise()(*(tensor.repeat(1, 3, 1, 1) for tensor in (teacher, teacher.flip(3))), None)
    torch.testing.assert_close(repeated, ChannelWise()(teacher, teacher.flip(3), None))


LOSSES = {
    "attention": Attention(), "cgd": ChannelGroups(), "cwd": ChannelWise(), "dist": Dist(), "dkd": Decoupled(),
    "hint": Hint(), "ifvd": IntraClassVariation(5), "kd": KnowledgeDistillation(), "mgd": MaskedGenerative(0.0),
    "pairwise": PairWise(), "pkd": Pearson(),
}  # fmt: skip
LOSSES["mgd"].bind([(2, 5, 6, 8)], [(2, 5, 6, 8)])


@pytest.mark.parametrize("kind", LOSSES)
def test_skd_and_ifvd_throw_a_detached_tensor_away(kind):
    student, teacher, target = maps()
    assert LOSSES[kind](student, teacher.requires_grad_(), target).requires_grad, "the formula alone would teach both"
    loss = copy.deepcopy(LOSSES[kind])
    one = make_term(kind, loss, "a", (student.shape, teacher.shape), 1.0, Ramp(), Place("r"))
    one(student.requires_grad_(), teacher, target, 0.5).backward()
    assert teacher.grad is None
    assert student.grad.any()


def test_skd_and_ifvd_kl_is_divided_by_the_number_of_classes():
    student, teacher, _ = maps()
    wide = [torch.cat([tensor, torch.full_like(tensor, -200.0)], 1) for tensor in (student, teacher)]  # never taken
    torch.testing.assert_close(KnowledgeDistillation()(*wide, None), KnowledgeDistillation()(student, teacher, None))


@pytest.mark.parametrize("kind", LOSSES)
def test_mmrazor_views_maps_that_are_channels_last(kind):
    student, teacher, target = maps()
    expected = LOSSES[kind](student, teacher, target)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (student, teacher)]
    torch.testing.assert_close(LOSSES[kind](*last, target), expected)
    flipped = [tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in (student, teacher)]
    torch.testing.assert_close(LOSSES[kind](*flipped, target), expected)


def test_segdistill_attention_is_the_mean_of_channels_without_a_norm():
    student, teacher, _ = maps()
    torch.testing.assert_close(Attention()(9 * student, teacher, None), Attention()(student, teacher, None))
    torch.testing.assert_close(Attention()(-student, teacher, None), Attention()(student, teacher, None))
    assert Attention()(student, student.flip(3), None) > 0


def test_segdistill_schedules_start_anew_when_a_training_is_taken_up():
    """A counter that is lost with the process is no part of them."""
    ramp = Ramp(unit="steps", warmup=20, decay=(60, 80))
    whole = [factor(ramp, (step + 0.5) / 100, 100) for step in range(100)]
    taken_up = [factor(copy.deepcopy(ramp), (step + 0.5) / 100, 100) for step in range(37, 100)]
    assert whole[37:] == taken_up
    groups = ChannelGroups(2, shuffle_every=5)
    student, teacher, _ = maps()
    for _ in range(7):
        groups(student, teacher, None)
    assert int(groups.state_dict()["seen"]) == 7, "batches that decide the order of channels are saved"


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_epsilon_of_1e_8_is_nought_in_half_precision(kind, dtype):
    """Constant maps, absent classes, features that are 0 all over: where every guard is needed."""
    student, _, target = maps()
    for level in (0.0, 3.0):
        for given in (student, torch.full_like(student, level)):
            mine, theirs = given.to(dtype).requires_grad_(), torch.full_like(student, level, dtype=dtype)
            loss = LOSSES[kind](mine, theirs, target)
            loss.backward()
            assert torch.isfinite(loss)
            assert torch.isfinite(mine.grad.float()).all()


def test_an_epsilon_of_1e_8_is_nought_under_autocast_too():
    shapes = torch.Size([1, 5, 6, 8]), torch.Size([1, 7, 6, 8])
    for kind, loss in LOSSES.items():
        if kind == "mgd":
            continue  # bound above
        same = kind in ("dkd", "dist", "kd")  # of classes
        pair = (shapes[0], shapes[0]) if same else shapes
        one = make_term(kind, loss, "a", pair, 1.0, Ramp(), Place("r"))
        student = torch.zeros(2, 5, 6, 8, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            found = one(student, torch.zeros(2, *pair[1][1:]), torch.zeros(2, 6, 8, dtype=torch.long), 0.5)
        found.backward()
        assert torch.isfinite(found)
        assert torch.isfinite(student.grad).all()


def test_what_a_loss_trains_itself_is_saved_with_its_term():
    shapes = [
        (torch.Size([1, 4, 8, 8]), torch.Size([1, 6, 8, 8])),
        (torch.Size([1, 8, 4, 4]), torch.Size([1, 9, 4, 4])),
    ]
    review = make_term("review", Review(), ["a", "b"], shapes, 1.0, Ramp(), Place("r"))
    mgd = make_term("mgd", MaskedGenerative(), "a", shapes[0], 1.0, Ramp(), Place("r"))
    for term in (review, mgd):
        assert {name for name, _ in term.named_parameters()} <= set(term.state_dict())
        assert sum(p.numel() for p in term.loss.parameters()) > 0
    assert isinstance(mgd.projector, nn.Conv2d), "to the generator's width"
    assert isinstance(review.projector, nn.Identity)
