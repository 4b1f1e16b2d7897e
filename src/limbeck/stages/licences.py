"""Under what terms a run's data and weights come: said before anything is trained, and carried by exported files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.artifact.metadata import Metadata
from limbeck.build import find
from limbeck.data.licence import Licence, licence_of_weights
from limbeck.recipe import Model, Recipe
from limbeck.recipe.lesson import lesson, seats

__all__ = ["Licences", "described", "non_commercial", "of_data", "of_weights", "terms"]

Licences = dict[str, Licence | None]
"""What is used, such as ``data ade20k`` or ``weights nvidia/mit-b0``, and its terms; None where they are unknown."""

INSIDE = ("backbone", "encoder_weights")
"""Arguments of models that name weights of a part."""


def terms(recipe: Recipe, dataset: Any, role: str | None = None) -> Licences:
    """Terms of the data and of the weights that a network starts or learns from; of all that the recipe names.

    Args:
        recipe: The recipe.
        dataset: The data set or, where it is not here, its class.
        role: A teacher's, ``student``, ``student-baseline`` or ``student-longer``; None means the whole recipe.
    """
    found = of_data(recipe.data.spec, dataset, recipe.root)
    for section in _behind(recipe, role):
        found |= of_weights(section)
    if recipe.data.unlabelled and (role is None or lesson(recipe, role).rows):
        found[f"data {Path(recipe.data.unlabelled).name}"] = None
    return found


def _behind(recipe: Recipe, role: str | None) -> list[Model]:
    """Sections of the networks that a network starts or learns from, itself first."""
    everyone = seats(recipe)
    if role is None:
        return [recipe.student, *(seat.section for seat in everyone.values())]
    own: Model = everyone[role].section if role in everyone else recipe.student
    taught_by = lesson(recipe, role).networks
    return [own, *(section for seat in taught_by for section in _behind(recipe, seat.role))]


def of_data(spec: Mapping[str, Any], dataset: Any, root: Path) -> Licences:
    """Terms of a data set, of each source where it has several.

    Args:
        spec: ``kind`` and the arguments, as the recipe gives them.
        dataset: The data set or its class.
        root: Folder that a relative file of the user's own code is looked up in.
    """
    kind = str(spec["kind"])
    inner = [source["data"] for source in spec.get("sources") or () if isinstance(source, Mapping)]
    if inner:
        each = [of_data(data, find("datasets", data["kind"], "data.sources", root), root) for data in inner]
        return {name: licence for one in each for name, licence in one.items()}
    given, known = spec.get("licence"), getattr(dataset, "licence", None)
    licence = known if isinstance(known, Licence) else Licence.from_json(given)
    own = "" if licence and not given else Path(str(spec.get("path", ""))).name
    return {f"data {Path(kind).name} {own}".rstrip(): licence}


def of_weights(section: Model) -> Licences:
    """Terms of a network's weights: what its file says of itself, else what its name is known for."""
    arguments = section.model_extra or {}
    parts = [str(arguments[key]) for key in INSIDE if arguments.get(key) not in (None, "random")]
    found: Licences = {}
    for weights in (*parts, section.weights, section.backbone_weights):
        if weights:
            name = _shown(section, weights)
            found |= _of_file(weights) or {f"weights {name}": licence_of_weights(section.kind, name)}
    return found


def _of_file(weights: str) -> Licences:
    """What a weight file of ours says of itself; empty for all others."""
    file = Path(weights)
    carried = Metadata.read(file) if file.is_file() else None
    return {name: Licence.from_json(value) for name, value in carried.licences.items()} if carried else {}


def _shown(section: Model, weights: str) -> str:
    """A hub id as it is, a file or folder without the path of this machine, a library's name with its network's."""
    if Path(weights).exists() or Path(weights).is_absolute():
        return Path(weights).name
    arguments = section.model_extra or {}
    return (
        weights if "/" in weights else f"{arguments.get('encoder') or arguments.get('arch') or section.kind} {weights}"
    )


def described(found: Mapping[str, Licence | None]) -> list[str]:
    """A line for each."""
    return [f"{name}: {licence or 'licence unknown'}" for name, licence in found.items()]


def non_commercial(found: Licences) -> list[str]:
    """A line for each that is not for commercial use, and what follows from it; empty if there is none."""
    refused = {name: licence for name, licence in found.items() if licence and licence.commercial is False}
    inherits = ["Networks that start or learn from them inherit the question."] if refused else []
    return described(refused) + inherits
