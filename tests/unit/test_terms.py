import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.losses.attention import Attention
from limbeck.losses.cwd import ChannelWise
from limbeck.losses.ifvd import IntraClassVariation
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.losses.lovasz import Lovasz
from limbeck.place import Place
from limbeck.recipe import Optimizer, Ramp
from limbeck.record import UserError
from limbeck.train.labels import TaskTerm
from limbeck.train.objective import Objective
from limbeck.train.optim import make_optimizer
from limbeck.train.teacher import Teacher
from limbeck.train.terms import factor, make_term, split_path

WHERE = Place("recipe.yaml", ("distil", 0), {("distil", 0): 12})
EVEN = Ramp()


class Seen(nn.Module):
    """A loss that remembers what it was given."""

    def forward(self, student, teacher, target):
        self.given = student, teacher, target
        return (student.mean() - teacher.mean()).square()


def term(student=(1, 4, 8, 12), teacher=(1, 4, 8, 12), at="backbone", loss=None, weight=1.0, ramp=EVEN):
    shapes = torch.Size(student), torch.Size(teacher)
    return make_term("cwd", loss or Seen(), at, shapes, weight, ramp, WHERE)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("logits", ("logits", "logits")),
        ("backbone.4", ("backbone.4", "backbone.4")),
        ("backbone.16 -> backbone.layer4", ("backbone.16", "backbone.layer4")),
        ("a->b", ("a", "b")),
        ("logits -> backbone", ("logits", "backbone")),
    ],
)
def test_paths(at, expected):
    assert split_path(at) == expected


@pytest.mark.parametrize(
    ("ramp", "share", "expected"),
    [
        (Ramp(), 0.0, 1.0),
        (Ramp(), 1.0, 1.0),
        (Ramp(warmup=0.2), 0.0, 0.0),
        (Ramp(warmup=0.2), 0.05, 0.25),
        (Ramp(warmup=0.2), 0.2, 1.0),
        (Ramp(warmup=0.2), 0.9, 1.0),
        (Ramp(decay=(0.5, 1.0)), 0.4, 1.0),
        (Ramp(decay=(0.5, 1.0)), 0.75, 0.5),
        (Ramp(decay=(0.5, 1.0)), 1.0, 0.0),
        (Ramp(decay=(0.5, 0.7)), 0.9, 0.0),
        (Ramp(decay=(0.5, 0.5)), 0.49, 1.0),
        (Ramp(decay=(0.5, 0.5)), 0.51, 0.0),
        (Ramp(warmup=0.5, decay=(0.0, 1.0)), 0.25, 0.5 * 0.75),
    ],
)
def test_factor(ramp, share, expected):
    assert factor(ramp, share) == pytest.approx(expected)


def test_weight_and_factor_scale_the_loss():
    student, teacher = torch.randn(1, 4, 8, 12), torch.randn(1, 4, 8, 12)
    plain = term()(student, teacher, None, 0.1)
    scaled = term(weight=3.0, ramp=Ramp(warmup=0.2))(student, teacher, None, 0.1)
    torch.testing.assert_close(scaled, 1.5 * plain)


def test_the_larger_map_is_brought_to_the_coarser_grid():
    for sizes in [((8, 12), (16, 24)), ((16, 24), (8, 12)), ((16, 24), (5, 7))]:
        student, teacher = (torch.randn(2, 4, *size) for size in sizes)
        one = term(student.shape, teacher.shape)
        one(student, teacher, None, 0.5)
        coarser = min(sizes)
        for given, own in zip(one.loss.given, (student, teacher), strict=False):
            expected = F.interpolate(own, coarser, mode="bilinear", align_corners=False)
            assert torch.equal(given, own if tuple(own.shape[-2:]) == coarser else expected)


def test_maps_of_one_size_are_not_touched():
    student, teacher = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12)
    one = term()
    one(student, teacher, None, 0.5)
    assert torch.equal(one.loss.given[0], student)
    assert torch.equal(one.loss.given[1], teacher)


def test_labels_come_to_the_same_grid_without_mixing():
    target = torch.randint(0, 2, (1, 15, 23), generator=torch.Generator().manual_seed(0)) * 3
    target[:, :5] = 255
    one = term()
    one(torch.randn(1, 4, 8, 12), torch.randn(1, 4, 8, 12), target, 0.5)
    found = one.loss.given[2]
    rows, columns = ([int((i + 0.5) * large / small) for i in range(small)] for large, small in ((15, 8), (23, 12)))
    assert torch.equal(found, target[:, rows][:, :, columns])  # the label under the centre of each cell
    assert found.dtype == torch.int64
    assert set(found.unique().tolist()) == {0, 3, 255}


def test_the_loss_computes_in_float32():
    one = term()
    one(torch.randn(1, 4, 8, 12).bfloat16(), torch.randn(1, 4, 8, 12).bfloat16(), None, 0.5)
    assert one.loss.given[0].dtype == one.loss.given[1].dtype == torch.float32


def test_autocast_ends_before_the_loss():
    features = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12)
    target = torch.randint(0, 3, (2, 8, 12))
    one, task = term(loss=IntraClassVariation()), TaskTerm("task", Lovasz())
    expected = one(*features, target, 0.5), task({"logits": features[0]}, target)
    with torch.autocast("cpu", torch.bfloat16):
        found = one(*features, target, 0.5), task({"logits": features[0]}, target)
        assert IntraClassVariation()(*features, target) != expected[0], "autocast does matter to it"
    assert (found[0].dtype, found[0].item(), found[1].item()) == (torch.float32, *(e.item() for e in expected))


def test_a_projector_only_where_channels_differ():
    plain, projected = term(), term(teacher=(1, 6, 8, 12))
    assert isinstance(plain.projector, nn.Identity)
    assert list(plain.parameters()) == []
    assert plain.match.projector_params == 0
    assert [tuple(p.shape) for p in projected.parameters()] == [(6, 4, 1, 1)]
    assert projected.match.projector_params == 24
    projected(torch.randn(1, 4, 8, 12), torch.randn(1, 6, 8, 12), None, 0.5)
    assert projected.loss.given[0].shape == (1, 6, 8, 12)


def test_no_projector_where_a_loss_takes_any_channels():
    one = term((1, 4, 8, 12), (1, 6, 8, 12), loss=Attention())
    assert list(one.parameters()) == []
    assert one.match.projector_params == 0
    assert one(torch.randn(1, 4, 8, 12), torch.randn(1, 6, 16, 24), None, 0.5) > 0


def test_the_projector_is_trained(student, teacher):
    one = term((1, 12, 8, 12), (1, 16, 8, 12), loss=ChannelWise())
    objective = Objective(
        student, [TaskTerm("task", nn.CrossEntropyLoss())], terms=[one],
        teacher=Teacher(teacher, teacher.mean, teacher.std, ["backbone"]), mean=student.mean, std=student.std,
    )  # fmt: skip
    optimizer = make_optimizer(objective, Optimizer())
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(one.projector.weight) in optimised
    assert any(name.endswith("projector.weight") for name in objective.state_dict())
    before = one.projector.weight.clone()
    batch = {"image": torch.rand(2, 3, 16, 24), "target": torch.zeros(2, 8, 12, dtype=torch.long)}
    objective(batch, 0.5).loss.backward()
    optimizer.step()
    assert not torch.equal(one.projector.weight, before)


def test_class_counts_must_agree_on_logits():
    with pytest.raises(UserError, match=r"recipe\.yaml:12: distil\.0: the student has 4 classes, the teacher 6"):
        term(teacher=(1, 6, 8, 12), at="logits", loss=KnowledgeDistillation())


def test_maps_have_four_dimensions():
    with pytest.raises(UserError, match=r"recipe\.yaml:12: distil\.0: teacher\.b gives shape \(1, 96, 768\)"):
        term(teacher=(1, 96, 768), at="a -> b")


def test_the_match_says_what_is_compared():
    match = term((1, 4, 8, 12), (1, 6, 16, 24), at="a.0 -> b.1").match
    assert (match.student, match.teacher) == ("a.0", "b.1")
    assert (match.student_shape, match.teacher_shape) == ((1, 4, 8, 12), (1, 6, 16, 24))
