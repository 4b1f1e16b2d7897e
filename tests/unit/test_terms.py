import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.losses.attention import Attention
from limbeck.losses.cosine import Cosine
from limbeck.losses.cwd import ChannelWise
from limbeck.losses.hint import Hint
from limbeck.losses.ifvd import IntraClassVariation
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.losses.lovasz import Lovasz
from limbeck.place import Place
from limbeck.recipe import Edges, Optimizer, Ramp
from limbeck.record import UserError
from limbeck.train.labels import TaskTerm
from limbeck.train.objective import Objective
from limbeck.train.optim import make_optimizer
from limbeck.train.ramps import factor
from limbeck.train.teacher import Teacher
from limbeck.train.terms import make_term, split_path

WHERE = Place("recipe.yaml", ("distil", 0), {("distil", 0): 12})
EVEN = Ramp()
SAME = (torch.Size([1, 4, 8, 12]),) * 2


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
        (Ramp(start=0.25), 0.2, 0.0),
        (Ramp(start=0.25), 0.25, 1.0),
        (Ramp(start=0.25, warmup=0.5), 0.5, 0.5),
        (Ramp(stop=0.75), 0.7, 1.0),
        (Ramp(stop=0.75), 0.75, 0.0),
        (Ramp(start=0.2, stop=0.4), 0.3, 1.0),
    ],
)
def test_factor(ramp, share, expected):
    assert factor(ramp, share) == pytest.approx(expected)


def test_a_schedule_may_count_steps():
    ramp = Ramp(unit="steps", start=2, warmup=4, decay=(8, 10), stop=9)
    found = [factor(ramp, (step + 0.5) / 20, 20) for step in range(20)]
    expected = [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 0.75, *[0] * 11]
    assert found == pytest.approx(expected)
    assert found == pytest.approx([factor(ramp, (step + 0.5) / 500, 500) for step in range(20)]), "whatever the length"
    with pytest.raises(ValueError, match="needs the number of steps"):
        factor(ramp, 0.5)


def test_cgds_published_schedule():
    """SegDistill: up over 2,000 of 160,000 steps, down from 110,000 to 120,000."""
    steps, shares = Ramp(unit="steps", warmup=2000, decay=(110000, 120000)), Ramp(warmup=0.0125, decay=(0.6875, 0.75))
    for step in (0, 999, 2000, 50000, 112345, 119999, 130000):
        share = (step + 0.5) / 160000
        assert factor(steps, share, 160000) == pytest.approx(factor(shares, share))


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


class Weighed(Seen):
    def forward(self, student, teacher, target, weights=None):
        self.weights = weights
        return super().forward(student, teacher, target)


def test_edges_become_weights_of_mean_one():
    target = torch.zeros(1, 8, 12, dtype=torch.long)
    target[:, :, 6:], target[:, :2] = 1, 255
    one = make_term("kd", Weighed(), "logits", SAME, 1.0, EVEN, WHERE, Edges(width=2, weight=4.0))
    one(torch.randn(1, 4, 8, 12), torch.randn(1, 4, 8, 12), target, 0.5)
    weights = one.loss.weights
    assert weights[target != 255].mean().item() == pytest.approx(1)
    by_hand = torch.ones(6, 12)
    by_hand[:, 5:7] = 4  # the pixels on both sides of the border; where a class meets void is none
    torch.testing.assert_close(weights[0, 2:] / weights[0, 3, 0], by_hand)
    assert one.reads_labels


def test_a_band_of_edges_is_as_wide_on_the_grid_that_is_compared():
    target = torch.zeros(1, 32, 48, dtype=torch.long)
    target[:, :, 24:] = 1
    one = make_term("kd", Weighed(), "logits", SAME, 1.0, EVEN, WHERE, Edges(width=2, weight=0.0))
    one(torch.randn(1, 4, 8, 12), torch.randn(1, 4, 32, 48), target, 0.5)
    assert (one.loss.weights[0] == 0).nonzero()[:, 1].unique().tolist() == [5, 6]
    one(torch.randn(1, 4, 8, 12), torch.randn(1, 4, 8, 12), None, 0.5)
    assert one.loss.weights is None, "without labels there are no edges"


@pytest.mark.parametrize("weight", [0.0, 4.0])
def test_batches_without_labels_have_no_edges_to_weigh(weight):
    """Weights of 1, for losses that look at void too."""
    student, teacher = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12)
    void = torch.full((2, 8, 12), 255)
    for loss in (Hint(), Cosine(), KnowledgeDistillation(mask="all"), ChannelWise()):
        plain, weighed = (
            make_term("x", loss, "logits", SAME, 1.0, EVEN, WHERE, e) for e in (None, Edges(weight=weight))
        )
        torch.testing.assert_close(weighed(student, teacher, void, 0.5), plain(student, teacher, void, 0.5))


def test_edges_are_for_losses_that_take_weights():
    with pytest.raises(UserError, match=r"distil\.0\.edges: this loss takes no weights of positions"):
        make_term("x", Seen(), "logits", SAME, 1.0, EVEN, WHERE, Edges())


class Levels(Seen):
    levels = any_channels = True

    def bind(self, student_shapes, teacher_shapes):
        self.bound = student_shapes, teacher_shapes
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, student, teacher, target):
        self.given = student, teacher
        return self.scale * sum(tensor.mean() for tensor in student)


def test_a_loss_of_several_levels_gets_lists_as_they_are():
    shapes = [
        (torch.Size([1, 4, 8, 12]), torch.Size([1, 6, 8, 12])),
        (torch.Size([1, 8, 4, 6]), torch.Size([1, 9, 5, 7])),
    ]
    one = make_term("review", Levels(), ["a -> b", "c -> d"], shapes, 2.0, EVEN, WHERE)
    assert one.loss.bound == ([(1, 4, 8, 12), (1, 8, 4, 6)], [(1, 6, 8, 12), (1, 9, 5, 7)])
    assert [name for name, _ in one.named_parameters()] == ["loss.scale"], "what it makes is trained with the term"
    taps = {"a": torch.randn(2, 4, 8, 12).half(), "c": torch.randn(2, 8, 4, 6).half()}
    wanted = {"b": torch.randn(2, 6, 8, 12), "d": torch.randn(2, 9, 5, 7)}
    expected = 2 * sum(tensor.float().mean() for tensor in taps.values())
    torch.testing.assert_close(one.part(taps, wanted, None, 0.5), expected)
    assert [tensor.shape for tensor in one.loss.given[1]] == [(2, 6, 8, 12), (2, 9, 5, 7)]


def test_other_losses_compare_one_pair_of_places():
    with pytest.raises(UserError, match=r"distil\.0\.at: this loss compares one pair of places, found a list of 2"):
        make_term("x", Seen(), ["a", "b"], [SAME, SAME], 1.0, EVEN, WHERE)


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
