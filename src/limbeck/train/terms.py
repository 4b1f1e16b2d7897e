"""Distillation terms: a loss, the two places it compares, its weight and how that moves."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.place import Place
from limbeck.recipe import Ramp
from limbeck.record import UserError
from limbeck.train.taps import LOGITS

__all__ = ["Match", "Term", "factor", "make_term", "split_path"]


def split_path(at: str) -> tuple[str, str]:
    """Student's and teacher's path of ``a -> b``; one path stands for both."""
    student, arrow, teacher = (part.strip() for part in at.partition("->"))
    return (student, teacher) if arrow else (student, student)


def factor(ramp: Ramp, share: float) -> float:
    """What a term's weight is multiplied with after this share of the training."""
    rising = min(1.0, share / ramp.warmup) if ramp.warmup else 1.0
    if ramp.decay is None:
        return rising
    start, end = ramp.decay
    falling = (end - share) / (end - start) if end > start else float(share < start)
    return rising * min(1.0, max(0.0, falling))


@dataclass(frozen=True)
class Match:
    """Two places that a term compares, as found by a dry run."""

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]
    projector_params: int


class Term(nn.Module):
    """One row of ``distil``: resizes to the coarser grid, projects channels, and weighs its loss.

    Sizes, void mask and float32 are settled here, once; the loss gets equal sizes.
    """

    def __init__(self, name: str, loss: nn.Module, match: Match, weight: float, ramp: Ramp, where: Place) -> None:
        super().__init__()
        self.name, self.loss, self.match, self.weight, self.ramp = name, loss, match, weight, ramp
        self.where = where
        bare = match.projector_params == 0
        self.projector = nn.Identity() if bare else _projector(match.student_shape, match.teacher_shape)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None, share: float) -> Tensor:
        """Weighted scalar loss after this share of the training."""
        student = self.projector(student)
        if student.ndim == 2:
            return self._weighted(student.float(), teacher.float(), target, share)
        size = min(student.shape[-2:], teacher.shape[-2:], key=lambda s: s[0] * s[1])
        student, teacher = _resized(student.float(), size), _resized(teacher.float(), size)
        if target is not None:
            target = _nearest(target, size) if target.ndim > 1 else None  # an image's class has no place on a map
        return self._weighted(student, teacher, target, share)

    def _weighted(self, student: Tensor, teacher: Tensor, target: Tensor | None, share: float) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):  # it would multiply matrices in 16 bits
            loss: Tensor = self.loss(student, teacher, target)
        return self.weight * factor(self.ramp, share) * loss


def make_term(
    name: str, loss: nn.Module, at: str, shapes: tuple[torch.Size, torch.Size], weight: float, ramp: Ramp, where: Place
) -> Term:
    """Bind a loss to two tensors of these shapes; channels that differ get a trained linear projector.

    A loss with ``any_channels`` compares any numbers of channels and gets none.

    Raises:
        UserError: If a place gives neither a map [n, c, h, w] nor a vector [n, c], only one of them does, or the logits
            have different class counts.
    """
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
    channels = shapes[0][1], shapes[1][1]
    if LOGITS in (student, teacher) and not getattr(loss, "any_channels", False) and channels[0] != channels[1]:
        raise UserError(f"{where}: the student has {channels[0]} classes, the teacher {channels[1]}; they must agree.")
    bare = channels[0] == channels[1] or getattr(loss, "any_channels", False)
    params = 0 if bare else channels[0] * channels[1]
    return Term(name, loss, Match(student, teacher, tuple(shapes[0]), tuple(shapes[1]), params), weight, ramp, where)


def _projector(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Module:
    """From the student's channels to the teacher's, one position at a time."""
    if len(student) == 2:
        return nn.Linear(student[1], teacher[1], bias=False)
    return nn.Conv2d(student[1], teacher[1], 1, bias=False)


def _resized(tensor: Tensor, size: torch.Size) -> Tensor:
    if tensor.shape[-2:] == size:
        return tensor
    return F.interpolate(tensor, size, mode="bilinear", align_corners=False)


def _nearest(target: Tensor, size: torch.Size) -> Tensor:
    if target.shape[-2:] == size:
        return target
    return F.interpolate(target[:, None].float(), size, mode="nearest-exact")[:, 0].long()
