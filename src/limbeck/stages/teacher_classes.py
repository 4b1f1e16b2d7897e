"""What a teacher that is taken as it is calls the data's classes: the same in the same order, or mapped explicitly."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.artifact.metadata import Metadata
from limbeck.place import Place, nearest, placed
from limbeck.recipe import Model, Teacher
from limbeck.record import UserError
from limbeck.stages.context import Context, labels_of, plain_name

__all__ = ["Outputs", "outputs_of"]


@dataclass(frozen=True)
class Outputs:
    """How many classes a network tells apart, and which of them are each of the data's; None where they agree."""

    count: int
    groups: list[list[int]] | None = None


def outputs_of(context: Context, section: Model, where: Place, ours: Sequence[str]) -> Outputs:
    """What a network gives, and how the data's classes come out of it.

    A class of the data may be several of the teacher's: their probabilities are added. The teacher's classes that the
    data do not have are dropped, and the rest share their probability in proportion.

    Args:
        context: The run.
        section: Student or teacher.
        where: Its place in the recipe.
        ours: The data's classes.

    Raises:
        UserError: If a teacher's classes are known to be others and no ``classes`` says which is which, or that names
            a class which is not there, or leaves one of the data's out.
    """
    if not isinstance(section, Teacher) or section.train is not None:
        return Outputs(len(ours))
    known = _carried_groups(section)
    with placed(where / "weights"):
        theirs = _names(context, section)
    if section.classes is None:
        _refuse_others(theirs, ours, where)
        return known or Outputs(len(ours))
    found = _mapped(section.classes, theirs, list(ours), where / "classes")
    return _twice(known, found) if known else found


def _carried_groups(section: Teacher) -> Outputs | None:
    """Of a weight file of ours whose network was mapped before."""
    file = Path(section.weights or "")
    metadata = Metadata.read(file) if file.is_file() else None
    architecture: dict[str, Any] = (metadata.architecture if metadata else None) or {}
    groups = architecture.get("class_groups")
    return Outputs(architecture["num_classes"], groups) if groups else None


def _twice(known: Outputs, found: Outputs) -> Outputs:
    """A mapping of what a mapping gives: both in one, from what the network itself tells apart."""
    inner = known.groups or []
    groups = inner if found.groups is None else [[one for at in group for one in inner[at]] for group in found.groups]
    return Outputs(known.count, groups)


def _names(context: Context, section: Teacher) -> tuple[str, ...]:
    """Its classes by id; empty where nobody knows them."""
    source = section.weights or ""
    if context.weight_file(section) or Path(source).is_dir():
        return labels_of(source).classes
    if section.kind in ("torchvision", "torchvision_classifier"):
        from limbeck.models._torchvision import categories

        return categories(str((section.model_extra or {}).get("arch", "")), source)
    return labels_of(source).classes if "/" in source and ":" not in section.kind else ()


def _refuse_others(theirs: Sequence[str], ours: Sequence[str], where: Place) -> None:
    unnamed = [f"LABEL_{index}" for index in range(len(ours))]  # what transformers writes where nobody gave names
    if not theirs or list(theirs) == unnamed or list(map(plain_name, theirs)) == list(map(plain_name, ours)):
        return
    same = {plain_name(name) for name in theirs} == {plain_name(name) for name in ours}
    differing = [n for n, (a, b) in enumerate(zip(theirs, ours, strict=False)) if plain_name(a) != plain_name(b)]
    first = f", first {differing[0]}: {theirs[differing[0]]!r} there, {ours[differing[0]]!r} here" if differing else ""
    way = "the same in another order" if same else f"{len(theirs)} classes, the data have {len(ours)}"
    raise UserError(
        f"{where}: its classes are not the data's ({way}{first}). Say what it calls them, such as `classes: "
        f"{{{theirs[-1]}: {ours[-1]}, ...}}`; or `classes: {{order: [...]}}` with the data's names in its order; or "
        "`classes: {order: data}` if only the spelling differs."
    )


def _mapped(given: dict[str, Any], theirs: Sequence[str], ours: list[str], where: Place) -> Outputs:
    order = given.get("order") if len(given) == 1 else None
    if order == "data":
        return Outputs(len(ours))
    pairs = list(enumerate(order)) if isinstance(order, list) else _pairs(given, theirs, where)
    count = len(order) if isinstance(order, list) else len(theirs)
    if theirs and count != len(theirs):
        raise UserError(f"{where / 'order'}: {count} names, but its weights have {len(theirs)} classes.")
    groups: list[list[int]] = [[] for _ in ours]
    for index, name in sorted(pairs, key=lambda pair: pair[0]):
        if name is not None:
            groups[_index(name, ours, where, "the data have")].append(index)
    missing = [name for name, group in zip(ours, groups, strict=True) if not group]
    if missing:
        raise UserError(
            f"{where}: none of its classes is the data's {', '.join(map(repr, missing[:5]))}"
            f"{' and others' if len(missing) > 5 else ''}; a teacher must know them all."
        )
    return Outputs(count) if groups == [[index] for index in range(count)] else Outputs(count, groups)


def _pairs(given: dict[str, Any], theirs: Sequence[str], where: Place) -> list[tuple[int, Any]]:
    if not theirs:
        raise UserError(f"{where}: its weights do not name their classes; give `order`: the data's names in its order.")
    pairs: list[tuple[int, Any]] = []
    for name, ours in given.items():
        if isinstance(ours, list):
            raise UserError(f"{where / name}: one class of the data, or null; a list is for `order` alone.")
        pairs.append((_index(name, list(theirs), where / name, "it has"), ours))
    return pairs


def _index(name: str | int, known: list[str], where: Place, who: str) -> int:
    """Id of a class by its name or id."""
    by_name = {plain_name(one): index for index, one in enumerate(known)}
    if isinstance(name, str) and plain_name(name) in by_name:
        return by_name[plain_name(name)]
    if str(name).isdecimal() and int(name) < len(known):
        return int(name)
    hint = nearest(str(name), known)
    raise UserError(
        f"{where}: no class {name!r}.{hint} {who.capitalize()} {', '.join(known[:12])}, ... ({len(known)})."
    )
