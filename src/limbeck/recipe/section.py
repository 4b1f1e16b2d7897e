"""What every section of a recipe is made of.

A section with a ``kind`` is a component: keys that are listed in it belong to the section (they are reserved), all
others are arguments of the component and are checked against its signature by :mod:`limbeck.build`.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Component", "Count", "Positive", "Quality", "Section", "Share"]

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Section(BaseModel):
    """A part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )


class Component(Section):
    """A section that names a file of a room; keys that are not reserved go to the component."""

    model_config = ConfigDict(extra="allow")
    kind: str
    """File of the room, ``package.module:Name``, or ``./file.py:name`` relative to the recipe."""

    @property
    def spec(self) -> dict[str, Any]:
        """Kind and the component's own arguments."""
        return {"kind": self.kind, **(self.model_extra or {})}
