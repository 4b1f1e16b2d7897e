"""The section of a recipe about what `limbeck search` tries."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from limbeck.recipe.section import Count, Section

__all__ = ["Range", "Search"]


class Range(Section):
    """Numbers between two; whole ones if both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    """Draw the exponent and not the number."""
    step: Annotated[int | float, Field(gt=0)] | None = None
    """Only ``low`` and every so much more."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0, and no step")
        return self


class Search(Section):
    """Values that `limbeck search` chooses by what earlier ones gave."""

    space: Annotated[dict[str, Range | list[Any]], Field(min_length=1)]
    """A dotted key with a range, such as `{low: 1e-4, high: 1e-2, log: true}`, or a list of choices."""
    trials: Count = 20
    """Runs in all."""
    latency: bool = False
    """Look for fast networks too, and not for good ones alone: then there is no best run, but those none beats."""
    row: str | None = None
    """Row whose score and latency count, such as student.int8.onnxruntime; what ships, if absent."""
    sampler: Literal["tpe", "random"] = "tpe"
