"""Rows of a recipe that name a loss: what it looks at, what it weighs, and how that moves."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from limbeck.recipe.section import Component, Count, Positive, Section

__all__ = ["Edges", "Ramp", "TaskLoss", "Term"]

Moment = Annotated[float, Field(ge=0)]


class Ramp(Section):
    """Weight of a loss over the training, as a factor between 0 and 1."""

    unit: Literal["share", "steps"] = "share"
    """What the numbers below count: shares of all steps, or steps."""
    start: Moment = 0.0
    """Nothing before this."""
    warmup: Moment = 0.0
    """Rises linearly from 0 to 1 over so much, from ``start`` on."""
    decay: tuple[Moment, Moment] | None = None
    """Falls linearly from 1 to 0 between these two."""
    stop: Moment | None = None
    """Nothing from this on."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        moments = [self.start, self.warmup, *(self.decay or ()), *([] if self.stop is None else [self.stop])]
        if self.unit == "share" and max(moments) > 1:
            raise ValueError(f"shares of all steps are at most 1; with unit: steps {max(moments):g} would be a step")
        if self.decay and self.decay[0] > self.decay[1]:
            raise ValueError(f"decay ends at {self.decay[1]}, before it begins at {self.decay[0]}")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop {self.stop} is not after start {self.start}: the weight would always be 0")
        if self.decay and self.decay[1] <= self.start:
            raise ValueError(
                f"decay ends at {self.decay[1]}, not after start {self.start}: the weight would always be 0"
            )
        if self.unit == "share" and self.start == 1:
            raise ValueError("start 1 is the end of the training: the weight would always be 0")
        return self


class Edges(Section):
    """More weight, or none, for positions where classes meet."""

    width: Count = 5
    """Positions across a band around each edge, on the grid where both sides are compared."""
    weight: Annotated[float, Field(ge=0)] = 4.0
    """In the band, as against 1 elsewhere; 0 leaves the band out."""


class TaskLoss(Component):
    """The loss against the labels."""

    kind: str = "cross_entropy"
    weight: Annotated[float, Field(ge=0)] = 1.0
    schedule: Ramp = Ramp()


class Term(Component):
    """One distillation term: a loss between a student's and a teacher's tensor."""

    at: str | list[str] = "logits"
    """``logits``, one path for both, ``student.path -> teacher.path``, or ``-> name:teacher.path`` for one of several
    teachers; a list for a loss of several levels."""
    weight: Positive | None = None
    """1 if absent, or what ``compat`` says."""
    schedule: Ramp = Ramp()
    compat: str | None = None
    """Settings and weight of a paper or toolkit, by the name that the loss gives them; keys beside it win."""
    edges: Edges | None = None
    """Weighs positions by the edges of the labels, for losses that take weights."""
    combine: Literal["mean", "confidence"] = "mean"
    """What several teachers say together where none is named: their mean, or weighted by how right each is."""

    @field_validator("at", mode="before")
    @classmethod
    def _paths(cls, at: Any) -> Any:
        each = [at] if isinstance(at, str) else at
        if isinstance(each, list) and each and all(isinstance(path, str) and _is_place(path) for path in each):
            return at
        raise ValueError("at is logits, a path, student.path -> teacher.path, or a list of such")

    @property
    def places(self) -> list[str]:
        """``at`` as a list."""
        return [self.at] if isinstance(self.at, str) else self.at


def _is_place(at: str) -> bool:
    """Whether it names something on each side of at most one arrow."""
    sides = at.split("->")
    return len(sides) <= 2 and all(side.rpartition(":")[2].strip() for side in sides)
