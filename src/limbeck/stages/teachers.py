"""The teachers of one training: loaded, good enough, tapped where the terms look, and unchanged at its end."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from limbeck.data.weight_file import state_digest
from limbeck.recipe.lesson import Lesson, Seat, lesson
from limbeck.show import is_first_process
from limbeck.stages.context import Context
from limbeck.stages.networks import load_role
from limbeck.stages.objective import refuse_unknown_paths
from limbeck.stages.score import good_enough
from limbeck.train.average import Average
from limbeck.train.teacher import Teacher

__all__ = ["Staff", "staff_of", "unchanged"]

DECAY = 0.999


@dataclass(frozen=True)
class Staff:
    """Who teaches in one training.

    Attributes:
        lesson: Teachers and terms, as the recipe has them.
        teachers: Frozen teachers by name, the only one by an empty name if it has none.
        own: The student's own average, if it teaches.
    """

    lesson: Lesson
    teachers: Mapping[str, Teacher]
    own: Average | None = None

    @property
    def everyone(self) -> dict[str, nn.Module]:
        """All networks that terms look into, by name."""
        found = {name: teacher.model for name, teacher in self.teachers.items()}
        return found | ({self.own.name: self.own.teacher.model} if self.own else {})


def staff_of(context: Context, role: str, student: Any, accelerator: Accelerator) -> Staff:
    """The teachers that a role's terms name, on the device of its training.

    Raises:
        UserError: If one does not reach the score that the recipe asks of it, or lacks a place that a term names.
    """
    found = lesson(context.recipe, role)
    asked = [seat for seat in found.networks if found.paths(seat)]
    teachers = {seat.name: _teacher(context, found, seat, accelerator) for seat in asked}
    own = _own(context, found, found.own, student, accelerator) if found.own and found.paths(found.own) else None
    return Staff(found, teachers, own)


def _teacher(context: Context, found: Lesson, seat: Seat, accelerator: Accelerator) -> Teacher:
    model = load_role(context, seat.role)
    if is_first_process():
        good_enough(context, seat.role, model)
    model = model.to(accelerator.device, memory_format=torch.channels_last)
    refuse_unknown_paths(found, seat, model)
    size, precision = seat.section.input_size, seat.section.precision
    return Teacher(model, model.mean, model.std, found.paths(seat), size, precision)


def _own(context: Context, found: Lesson, seat: Seat, student: Any, accelerator: Accelerator) -> Average:
    refuse_unknown_paths(found, seat, student)
    average = Average(
        student, seat.section.decay or DECAY, found.paths(seat), seat.name,
        mean=student.mean, std=student.std, precision=seat.section.precision,
    )  # fmt: skip
    return average.to(accelerator.device)


@contextmanager
def unchanged(staff: Staff) -> Iterator[None]:
    """See that no frozen teacher is another one after the block."""
    before = {name: state_digest(teacher.model) for name, teacher in staff.teachers.items()}
    yield
    after = {name: state_digest(teacher.model) for name, teacher in staff.teachers.items()}
    changed = [name or "the teacher" for name in before if after[name] != before[name]]
    if changed:
        raise AssertionError(f"{', '.join(changed)} changed while a student was trained")
