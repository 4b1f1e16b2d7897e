"""Who learns what from whom: teachers of the student, teachers of those, and the terms that each learns by."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from limbeck.place import Place
from limbeck.recipe.losses import Term
from limbeck.recipe.schema import Recipe
from limbeck.recipe.teaching import Teacher
from limbeck.recipe.training import Distil

__all__ = ["LOGITS", "TEACHER", "Lesson", "Seat", "everyone", "is_teacher", "lesson", "seats", "sides"]

LOGITS = "logits"
"""The place that means a network's own output."""

TEACHER = "teacher"
"""Role of a teacher without a name; one of the name ``big`` is ``teacher-big``."""


@dataclass(frozen=True)
class Seat:
    """A teacher of a recipe.

    Attributes:
        role: ``teacher``, ``teacher-big``: folder, stage and rows of its network.
        section: What the recipe says of it.
        where: And where.
    """

    role: str
    section: Teacher
    where: Place

    @property
    def name(self) -> str:
        """What terms call it; empty if it has no name."""
        return self.section.name or ""

    def at(self, path: str) -> str:
        """A path of this teacher among those of all: ``big:layer4``, or ``layer4`` where it has no name."""
        return f"{self.name}:{path}" if self.name else path


@dataclass(frozen=True)
class Lesson:
    """What a network learns from others.

    Attributes:
        seats: Its teachers.
        rows: The terms, with their number in the recipe.
        distil: Their section.
        where: Where that stands.
    """

    seats: tuple[Seat, ...]
    rows: tuple[tuple[int, Term], ...]
    distil: Distil
    where: Place

    @property
    def networks(self) -> tuple[Seat, ...]:
        """The teachers that are networks of the run, whose outputs on an image never change."""
        return tuple(seat for seat in self.seats if not seat.section.is_own)

    @property
    def own(self) -> Seat | None:
        """The learner's own average, if it is among the teachers."""
        return next((seat for seat in self.seats if seat.section.is_own), None)

    def places(self, at: str) -> tuple[str, ...]:
        """Where the other side of ``at`` comes from: one place for each teacher that it means."""
        _, name, path = sides(at)
        return tuple(seat.at(path) for seat in self.seats if name in (None, seat.name))

    def paths(self, seat: Seat) -> list[str]:
        """What the terms look at in a teacher."""
        everything = [sides(at) for _, row in self.rows for at in row.places]
        return list(dict.fromkeys(path for _, name, path in everything if name in (None, seat.name)))

    def without_own(self) -> "Lesson":
        """The lesson without the learner's own average; a term that looks at it alone is left out."""
        left = replace(self, seats=self.networks)
        rows = tuple((index, row) for index, row in self.rows if all(left.places(at) for at in row.places))
        return replace(left, rows=rows)

    def on_logits(self) -> "Lesson":
        """The lesson with the terms alone that compare logits with logits."""
        rows = tuple((index, row) for index, row in self.rows if all(_is_of_logits(at) for at in row.places))
        return replace(self, rows=rows)

    def row(self, index: int) -> Place:
        """Where a term stands."""
        return self.where / "terms" / index


def sides(at: str) -> tuple[str, str | None, str]:
    """Student's path, teacher's name and path of ``a -> name:b``; without a name None; one path stands for both."""
    student, arrow, teacher = (part.strip() for part in at.partition("->"))
    name, colon, path = (teacher if arrow else student).rpartition(":")
    return (student if arrow else path), (name if colon else None), path


def _is_of_logits(at: str) -> bool:
    student, _, teacher = sides(at)
    return student == teacher == LOGITS


def is_teacher(role: str) -> bool:
    """Whether a role is a teacher's."""
    return role == TEACHER or role.startswith(f"{TEACHER}-")


def everyone(recipe: Recipe) -> list[Seat]:
    """All teachers at every depth; who teaches another comes before it."""
    return list(_walk(recipe, recipe.place))


def seats(recipe: Recipe) -> dict[str, Seat]:
    """Every teacher that is a network of the run, by role; who teaches another comes before it."""
    return {seat.role: seat for seat in everyone(recipe) if not seat.section.is_own}


def _walk(learner: Recipe | Teacher, where: Place) -> Iterator[Seat]:
    for seat in _seats_of(learner, where):
        yield from _walk(seat.section, seat.where)
        yield seat


def _seats_of(learner: Recipe | Teacher, where: Place) -> tuple[Seat, ...]:
    """Who teaches a section, one step deep."""
    teachers = learner.teacher
    places = [where / "teacher"] if len(teachers) == 1 else [where / "teacher" / i for i in range(len(teachers))]
    return tuple(
        Seat(f"{TEACHER}-{section.name}" if section.name else TEACHER, section, place)
        for section, place in zip(teachers, places, strict=True)
    )


def lesson(recipe: Recipe, role: str) -> Lesson:
    """What the network of a role learns from others, and from whom.

    A quantized student, and one that is trained on for comparison, learn from logits, and not from their own average:
    the graph that quantization trains has no average that could be asked.
    """
    if role == "student-baseline":
        return Lesson((), (), Distil(), recipe.place / "distil")
    seat = seats(recipe).get(role)
    learner, where = (seat.section, seat.where) if seat else (recipe, recipe.place)
    rows = tuple(enumerate(learner.distil.terms))
    found = Lesson(_seats_of(learner, where), rows, learner.distil, where / "distil")
    return found if seat or role == "student" else found.without_own().on_logits()
