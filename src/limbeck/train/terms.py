"""Distillation terms: a loss, the two places it compares, its weight and how that moves."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.data.sample import VOID
from limbeck.losses.edge import edges
from limbeck.place import Place
from limbeck.recipe import Edges, Ramp
from limbeck.record import UserError
from limbeck.train.combine import Combine, combined
from limbeck.train.keep import Top
from limbeck.train.ramps import factor
from limbeck.train.taps import LOGITS

__all__ = ["Match", "Term", "compared", "make_term", "split_path"]

Shapes = tuple[torch.Size, torch.Size]
"""Of the student's tensor and the teacher's."""


def split_path(at: str) -> tuple[str, str]:
    """Student's and teacher's path of ``a -> b``; one path stands for both."""
    student, arrow, teacher = (part.strip() for part in at.partition("->"))
    return (student, teacher) if arrow else (student, student)


@dataclass(frozen=True)
class Match:
    """Two places that a term compares, as found by a dry run.

    Attributes:
        student: The student's.
        teacher: The teacher's.
        student_shape: Of what the student gives there.
        teacher_shape: Of what the teacher gives, or several together.
        projector_params: Between the two.
        sources: Each teacher's own shape, by the place among all teachers', such as ``big:layer4``.
    """

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]
    projector_params: int
    sources: Mapping[str, tuple[int, ...]]


class Term(nn.Module):
    """One row of ``distil``: resizes to the coarser grid, projects channels, and weighs its loss.

    Sizes, void mask and float32 are settled here, once; the loss gets equal sizes. One of several levels gets lists of
    tensors as they are, and settles that itself. What several teachers gave is one tensor before.
    """

    def __init__(
        self, name: str, loss: nn.Module, matches: Sequence[Match], weight: float, ramp: Ramp, where: Place,
        edges: Edges | None = None, combine: Combine = "mean",
    ) -> None:  # fmt: skip
        super().__init__()
        self.combine: Combine = combine
        self.top: tuple[Top, float] | None = None  # what is known of the teacher's logits, and at which temperature
        self.name, self.loss, self.matches, self.weight, self.ramp = name, loss, tuple(matches), weight, ramp
        self.where, self.edges, self.levels = where, edges, getattr(loss, "levels", False)
        bare = self.match.projector_params == 0
        self.projector = nn.Identity() if bare else _projector(self.match.student_shape, self.match.teacher_shape)

    @property
    def match(self) -> Match:
        """What is compared; of several levels the first."""
        return self.matches[0]

    @property
    def reads_labels(self) -> bool:
        """Whether the target's classes matter, not only where it is void."""
        return self.edges is not None or getattr(self.loss, "reads_labels", False)

    @property
    def sources(self) -> dict[str, tuple[int, ...]]:
        """Places that its teachers' side comes from, and the shapes there."""
        return {place: shape for match in self.matches for place, shape in match.sources.items()}

    def strength(self, share: float, steps: int | None = None) -> float:
        """Its weight after this share of the training."""
        return self.weight * factor(self.ramp, share, steps)

    def part(
        self, taps: Mapping[str, Tensor], wanted: Mapping[str, Tensor], target: Tensor | None, share: float,
        steps: int | None = None, truth: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Weighted loss of what was tapped in both networks; where the weight is 0 a 0 that costs nothing.

        That 0 has gradients too, so that in every step the same parameters have some. ``truth`` is the target where it
        has labels, which teachers are weighted by.
        """
        if not self.strength(share, steps):
            own = [taps[self.match.student], *self.parameters()]
            return torch.stack([0.0 * tensor[(0,) * tensor.ndim].float() for tensor in own]).sum()
        mine = [taps[match.student] for match in self.matches]
        theirs = [self._together(match, wanted, truth) for match in self.matches]
        student, teacher = (mine, theirs) if self.levels else (mine[0], theirs[0])
        found: Tensor = self(student, teacher, target, share, steps)
        return found

    def _together(self, match: Match, wanted: Mapping[str, Tensor], truth: Tensor | None) -> Tensor:
        outputs = [wanted[place] for place in match.sources]
        return combined(outputs, truth, self.combine, logits=match.teacher == LOGITS)

    def forward(
        self, student: Tensor | list[Tensor], teacher: Tensor | list[Tensor], target: Tensor | None, share: float,
        steps: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Weighted scalar loss after this share of the training; of lists for a loss of several levels."""
        if isinstance(student, Tensor) and isinstance(teacher, Tensor):
            given = self._alike(student, teacher, target)
        else:
            given = ([tensor.float() for tensor in student], [tensor.detach().float() for tensor in teacher], target)
        with torch.autocast(teacher[0].device.type, enabled=False):  # it would multiply matrices in 16 bits
            loss: Tensor = self.loss(*given)
        return self.strength(share, steps) * loss

    def _alike(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> tuple[Any, ...]:
        """Arguments of the loss: both tensors at one size and in one precision, labels and weights on that grid."""
        student, teacher = self.projector(student.float()).float(), teacher.detach().float()
        if student.ndim == 2:
            both = self.top[0].both(student, teacher, self.top[1]) if self.top else (student, teacher)
            return *both, target
        size = tuple(teacher.shape[2:]) if self.top else compared(student.shape, teacher.shape)
        student, teacher = _resized(student, size), _resized(teacher, size)
        if self.top:
            student, teacher = self.top[0].both(student, teacher, self.top[1])
        if target is None or target.ndim == 1:  # an image's class has no place on a map
            return student, teacher, None
        target = _nearest(target, size)
        return (
            (student, teacher, target)
            if self.edges is None
            else (student, teacher, target, weighed(target, self.edges))
        )


def compared(student: tuple[int, ...], teacher: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width at which two shapes are compared, the coarser; nothing for vectors."""
    return min(tuple(student[2:]), tuple(teacher[2:]), key=prod)


def weighed(target: Int[Tensor, "n h w"], wanted: Edges) -> Float[Tensor, "n h w"]:
    """Weights of positions, of mean 1 where there is no void: one in a band around each edge, another elsewhere.

    All 1 where all is void; where everything else is in a band of weight 0, 0 there and 1 at void.
    """
    weights = torch.where(edges(target, wanted.width), wanted.weight, 1.0)
    valid = target != VOID
    mean = torch.where(valid, weights, 0.0).sum() / valid.sum().clamp(min=1)
    return weights / torch.where(mean > 0, mean, 1.0)


def make_term(
    name: str, loss: nn.Module, at: str | Sequence[str], shapes: Shapes | Sequence[Shapes], weight: float, ramp: Ramp,
    where: Place, edges: Edges | None = None, combine: Combine = "mean",
    sources: Sequence[Mapping[str, tuple[int, ...]]] | None = None,
) -> Term:  # fmt: skip
    """Bind a loss to tensors of these shapes; channels that differ get a trained linear projector.

    A loss with ``any_channels`` compares any numbers of channels and gets none. Only one with ``levels`` takes lists of
    places and shapes. A loss with ``bind`` is told the shapes, to make what it trains itself. ``sources`` has for each
    place the teachers' own shapes, where that is not what one teacher gives.

    Raises:
        UserError: If a place gives neither a map [n, c, h, w] nor a vector [n, c], only one of them does, the logits
            have different class counts, or the loss takes no list of places, or no weights of positions.
    """
    levels = getattr(loss, "levels", False)
    if not isinstance(at, str) and not levels:
        raise UserError(f"{where / 'at'}: this loss compares one pair of places, found a list of {len(at)}.")
    if edges is not None and "weights" not in inspect.signature(loss.forward).parameters:
        raise UserError(
            f"{where / 'edges'}: this loss takes no weights of positions; kd, dist and hint are some that do."
        )
    places = [at] if isinstance(at, str) else at
    pairs: Any = [shapes] if isinstance(at, str) else shapes
    theirs = sources or [{split_path(place)[1]: tuple(pair[1])} for place, pair in zip(places, pairs, strict=True)]
    matches = [_match(loss, place, pair, own, where) for place, pair, own in zip(places, pairs, theirs, strict=True)]
    bind = getattr(loss, "bind", None)
    if bind is not None:
        bind([match.student_shape for match in matches], [match.teacher_shape for match in matches])
    return Term(name, loss, matches, weight, ramp, where, edges, combine)


def _match(loss: nn.Module, at: str, shapes: Shapes, sources: Mapping[str, tuple[int, ...]], where: Place) -> Match:
    student, teacher = split_path(at)
    for owner, path, shape in (("student", student, shapes[0]), ("teacher", teacher, shapes[1])):
        if len(shape) not in (2, 4):
            raise UserError(
                f"{where}: {owner}.{path} gives shape {tuple(shape)}; a term compares maps [n, c, h, w] or vectors "
                "[n, c]."
            )
    if len(shapes[0]) != len(shapes[1]):
        raise UserError(
            f"{where}: student.{student} gives shape {tuple(shapes[0])}, teacher.{teacher} {tuple(shapes[1])}; a term "
            "compares two maps or two vectors."
        )
    if len(shapes[0]) == 2 and getattr(loss, "maps_only", False):
        raise UserError(f"{where}: this loss compares maps [n, c, h, w]; student.{student} gives {tuple(shapes[0])}.")
    channels = shapes[0][1], shapes[1][1]
    if LOGITS in (student, teacher) and not getattr(loss, "any_channels", False) and channels[0] != channels[1]:
        raise UserError(f"{where}: the student has {channels[0]} classes, the teacher {channels[1]}; they must agree.")
    bare = channels[0] == channels[1] or getattr(loss, "any_channels", False)
    params = 0 if bare else channels[0] * channels[1]
    return Match(student, teacher, tuple(shapes[0]), tuple(shapes[1]), params, sources)


def _projector(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Module:
    """From the student's channels to the teacher's, one position at a time."""
    if len(student) == 2:
        return nn.Linear(student[1], teacher[1], bias=False)
    return nn.Conv2d(student[1], teacher[1], 1, bias=False)


def _resized(tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    if tensor.shape[-2:] == size:
        return tensor
    return F.interpolate(tensor, size, mode="bilinear", align_corners=False)


def _nearest(target: Tensor, size: tuple[int, ...]) -> Tensor:
    if target.shape[-2:] == size:
        return target
    return F.interpolate(target[:, None].float(), size, mode="nearest-exact")[:, 0].long()
