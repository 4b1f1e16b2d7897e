"""Sections of a recipe about networks that teach: each may learn from teachers of its own first."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
    model_validator,
)

from limbeck.place import nearest
from limbeck.recipe.training import Distil, Model

__all__ = ["OWN", "Teacher", "Teachers"]

OWN = "ema"
"""Kind of the teacher that is the running average of the student itself."""

OWN_KEYS = ("kind", "name", "decay", "precision")
"""All that there is to say about that one; the rest is the student's."""


def _one_or_several(value: Any, several: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, dict):
        return [Teacher.model_validate(value)]
    return [] if value is None else several(value)


def _as_written(value: Any, several: SerializerFunctionWrapHandler) -> Any:
    found = several(value)
    return (found[0] if found else None) if len(found) < 2 else found


class Teacher(Model):
    """A network that teaches: trained by this run or taken as it is, or the student's own average (``kind: ema``)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)] | None = None
    """What terms call it in ``at: a -> name:b``; needed where there are several."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Of its weights, the order of its images and their views; the recipe's if absent."""
    input_size: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]] | None = None
    """Its own input size, [height, width]; ``data.size`` if absent."""
    classes: dict[str, str | int | list[str | None] | None] | None = None
    """What it calls the data's classes, ``its name or id: the data's``; or ``order``: the data's names in its order."""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Of its forward pass while it teaches; that of the training if absent."""
    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of ``kind: ema``: the share of the average that stays at each step; 0.999 if absent."""
    teacher: "Teachers" = []
    """Who teaches it, before it teaches itself."""
    distil: Distil = Distil()
    """What it learns from them."""

    @property
    def is_own(self) -> bool:
        """Whether it is the student's own average, and no network of the run."""
        return self.kind == OWN

    @model_validator(mode="after")
    def _taught(self) -> Self:
        if self.is_own:
            self._refuse_more_than_own()
            return self
        if self.decay is not None:
            raise ValueError(f"decay is for kind: {OWN}; a moving average of this training's weights is train.ema")
        if self.weights is None and self.train is None:
            raise ValueError("the teacher has neither weights nor a train section")
        if bool(self.distil.terms) != bool(self.teacher):
            given, missing = ("distil", "teacher") if self.distil.terms else ("teacher", "distil")
            raise ValueError(f"{given} inside a teacher needs {missing} there too")
        if self.distil.terms and self.train is None:
            raise ValueError("a teacher that is taken as it is learns nothing; leave distil out, or give it train")
        if self.classes is not None and self.train is not None:
            raise ValueError("a teacher trained here has the data's classes; leave out classes, or train")
        return self

    def _refuse_more_than_own(self) -> None:
        fields = {key: field.default for key, field in type(self).model_fields.items() if key not in OWN_KEYS}
        given = [key for key, default in fields.items() if getattr(self, key) != default] + list(self.model_extra or {})
        if given:
            hint = nearest(given[0], list(OWN_KEYS))
            raise ValueError(
                f"kind: {OWN} is the student's own average and has no {given[0]!r}.{hint} It takes name, decay and "
                "precision"
            )


Teachers = Annotated[list[Teacher], WrapValidator(_one_or_several), WrapSerializer(_as_written)]
"""Who teaches a network; a single one may stand without a list."""

Teacher.model_rebuild()
