"""Rows of ``distil`` that follow a paper or toolkit: what ``compat`` means for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.build import find
from limbeck.place import Place, nearest
from limbeck.recipe import Term
from limbeck.recipe.lesson import Lesson
from limbeck.record import UserError

if TYPE_CHECKING:
    from limbeck.losses._presets import Preset

__all__ = ["meanings", "preset_of"]


def preset_of(row: Term, where: Place, root: Path) -> "Preset":
    """What ``compat`` of a row of ``distil`` means for its loss; the loss's own defaults without it.

    Raises:
        UserError: If the loss has no settings of that name.
    """
    from limbeck.losses._presets import Preset

    if row.compat is None:
        return Preset()
    known: Mapping[str, Preset] = getattr(find("losses", row.kind, where / "kind", root), "presets", {})
    if row.compat not in known:
        there = f"Known: {', '.join(known)}." if known else "It has none."
        raise UserError(
            f"{where / 'compat'}: {row.kind} has no settings {row.compat!r}.{nearest(row.compat, list(known))} {there}"
        )
    return known[row.compat]


def meanings(found: Lesson, root: Path) -> list[str]:
    """A line for every term that follows a paper or toolkit: the settings that come from there, and its own that win.

    Raises:
        UserError: If a loss has no settings of the name.
    """
    return [_meaning(row, found.row(index), root) for index, row in found.rows if row.compat is not None]


def _meaning(row: Term, where: Place, root: Path) -> str:
    preset = preset_of(row, where, root)
    own = [key for key in preset.settings if key in row.spec] + (["weight"] if row.weight else [])
    wins = f"; {', '.join(own)} as written there" if own else ""
    return f"{'.'.join(map(str, where.keys))}: {row.kind} as in {row.compat} is {preset}{wins}"
