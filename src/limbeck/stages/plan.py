"""What each stage reads and builds on; equal reads give an equal fingerprint, and then its result is used again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.recipe import Model, Teacher
from limbeck.recipe.lesson import is_teacher, lesson, seats
from limbeck.recipe.teaching import OWN
from limbeck.record import UserError, digest, file_digest, flat, read_json
from limbeck.stages.context import Context
from limbeck.stages.unlabelled import unlabelled

__all__ = ["Stage", "by_content", "folder_of", "plan"]

NOT_IN_DATA = ("workers", "batch", "augment", "unlabelled", "cache", "cache_gib")
"""Keys of the data that not every stage reads, or that change nothing."""


@dataclass
class Stage:
    """A stage of one run.

    Attributes:
        name: ``teacher``, ``quantize``, ``bench``, ...
        folder: Where its record and files are.
        inputs: Fingerprints of the stages it builds on.
        reads: The recipe's keys it reads, digests of its data, and ``inputs``.
        fingerprint: Hash of ``reads``.
    """

    name: str
    folder: Path
    inputs: dict[str, str]
    reads: dict[str, Any]
    fingerprint: str
    _forgotten: bool = False

    def forget(self) -> None:
        """Take what the folder holds as not there."""
        self._forgotten = True

    def done(self) -> bool:
        """True if its record is there with the files it names; False if it is to be begun or taken up.

        Raises:
            UserError: If it was done, or begun beyond a checkpoint, with other keys; names them.
        """
        if self._forgotten:
            return False
        for file in ("record.json", "started.json"):
            if (self.folder / file).is_file() and (file == "record.json" or any(self.folder.rglob("step-*.pt"))):
                before = read_json(self.folder / file)
                if before["fingerprint"] != self.fingerprint:
                    raise UserError(_differs(self, before["reads"]))
                return file == "record.json" and self._has_files(before["result"])
        return False

    def _has_files(self, result: Any) -> bool:
        return all((self.folder / name).is_file() for name in _files(result))


def _files(result: Any) -> list[str]:
    """Names of the files that a record says are there."""
    if isinstance(result, list):
        return [name for item in result for name in _files(item)]
    if not isinstance(result, dict):
        return []
    own = [result["weights"]] if isinstance(result.get("weights"), str) else []
    own += [file["file"] for file in result.get("files", ())]
    return own + [name for key, item in result.items() if key != "files" for name in _files(item)]


def plan(context: Context) -> dict[str, Stage]:
    """All stages of a run but the report, in order."""
    recipe = context.recipe
    names = list(context.roles)
    names += ["quantize"] * bool(recipe.quantize) + ["export", "evaluate"] + ["bench"] * (recipe.bench is not None)
    found: dict[str, Stage] = {}
    for name in names:
        inputs = {before: found[before].fingerprint for before in _builds_on(context, name) if before in found}
        reads = {"recipe": by_content(_keys(context, name)), "data": _digests(context, name), "inputs": inputs}
        found[name] = Stage(name, context.folder / folder_of(context, name), inputs, reads, digest(reads))
    return found


def folder_of(context: Context, name: str) -> str:
    """Name of a stage's folder; evaluation of another split than validation has its own."""
    split = context.recipe.evaluate.split
    return f"evaluate-{split}" if name == "evaluate" and split != "validation" else name


def _builds_on(context: Context, name: str) -> tuple[str, ...]:
    """Stages whose results a stage reads."""
    if name in ("evaluate", "export", "bench"):
        teachers = tuple(seats(context.recipe))
        roles = context.roles if name == "evaluate" else (*teachers, "student")
        return (*roles, "quantize", *(["export"] if name != "export" else []))
    taught_by = tuple(seat.role for seat in lesson(context.recipe, name).networks)
    return (*taught_by, "student") if name in ("student-longer", "quantize") else taught_by


def _keys(context: Context, name: str) -> dict[str, Any]:
    """The recipe's keys that a stage reads."""
    recipe = context.recipe.resolved()
    data = {key: value for key, value in recipe["data"].items() if key not in NOT_IN_DATA}
    common = {"seed": context.seed(name), "task": recipe["task"], "data": data}
    train = {"train": _training(recipe, recipe["train"])}
    student = {"student": _without(recipe["student"], "train")}
    quantize = [spec | {"qat": _training(recipe, spec["qat"])} for spec in recipe["quantize"]]
    distil = {"distil": _read_of_distil(recipe["distil"])} | _manners(context, name)
    if is_teacher(name):
        return common | {"teacher": _teacher(recipe, seats(context.recipe)[name].section)} | _manners(context, name)
    keys: dict[str, dict[str, Any]] = {
        "student": common | train | distil | student,
        "student-baseline": common | train | student,
        "student-longer": common | distil | {"qat": [spec["qat"] for spec in quantize]},
        "quantize": common | distil | {"quantize": quantize},
        "export": {"export": recipe["export"], "runtimes": (recipe["bench"] or {}).get("runtimes")},
        "evaluate": {"evaluate": _without(recipe["evaluate"], "batch"), "data": data},
        "bench": {"bench": recipe["bench"]},
    }
    return keys[name]


def _teacher(recipe: Mapping[str, Any], section: Teacher) -> dict[str, Any]:
    """What makes a teacher what it is: not its name, nor how it teaches."""
    dumped = section.model_dump(mode="json")
    always = [*Model.model_fields, *(section.model_extra or {})]
    kept = {key: dumped[key] for key in always if key not in ("train", "min_metric")}
    kept |= {key: dumped[key] for key in ("input_size", "classes") if dumped[key] is not None}
    learnt = {"distil": _read_of_distil(dumped["distil"])} if section.distil.terms else {}
    return kept | learnt | {"train": _training(recipe, dumped["train"])}


def _manners(context: Context, name: str) -> dict[str, Any]:
    """How the teachers of a stage teach, as far as that is not their networks: precision, and what is averaged."""
    taught = lesson(context.recipe, name).seats
    asked = {seat.role: {"kind": OWN, "decay": seat.section.decay} if seat.section.is_own else {} for seat in taught}
    for seat in taught:
        asked[seat.role] |= {"precision": seat.section.precision} if seat.section.precision else {}
    found = {role: keys for role, keys in asked.items() if keys}
    return {"taught": found} if found else {}


def _training(recipe: Mapping[str, Any], train: dict[str, Any] | None) -> dict[str, Any] | None:
    """A training section with what it takes from ``data``; how often it is saved changes nothing."""
    if train is None:
        return None
    batch = train["batch"] or recipe["data"]["batch"]
    return _without(train, "checkpoint") | {"batch": batch, "augment": recipe["data"]["augment"]}


def _read_of_distil(distil: dict[str, Any]) -> dict[str, Any]:
    """The keys that change what is learnt."""
    keys = ("cache", "views", "keep") if distil["cache"] == "replay" else ()
    terms = [_without(row, "combine") if row["combine"] == "mean" else row for row in distil["terms"]]
    return {"terms": terms} | {key: distil[key] for key in keys}


def _without(section: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name != key}


def _digests(context: Context, name: str) -> dict[str, str]:
    """Digests of the splits that a stage looks at."""
    if name == "export":
        splits = ["validation"]  # whatever is scored: another split scored later leaves the files as they are
    elif name == "evaluate":
        splits = [context.recipe.evaluate.split]
    elif name == "bench" or ((name == "student" or is_teacher(name)) and not _trains(context, name)):
        splits = []
    else:
        splits = ["training", "validation"]
    found: dict[str, str] = {split: context.dataset(split).digest() for split in splits}
    if context.recipe.data.unlabelled and splits and _sees_unlabelled(context, name):
        found["unlabelled"] = unlabelled(context).digest()
    return found


def _sees_unlabelled(context: Context, name: str) -> bool:
    """Whether unlabelled images matter to a stage; the baseline takes as many steps as the student."""
    return bool(lesson(context.recipe, name).rows) if is_teacher(name) else name in (*context.roles, "quantize")


def _trains(context: Context, role: str) -> bool:
    return (context.section(role).train if is_teacher(role) else context.recipe.train) is not None


def by_content(value: Any) -> Any:
    """Replace paths of weights, code and images by a hash of what they hold: moving a file changes nothing."""
    if isinstance(value, list):
        return [by_content(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: by_content(item) for key, item in value.items()}
    for key in ("weights", "backbone_weights", "kind", "images"):
        source = str(found.get(key) or "").partition(":")[0]
        if "/" in source and Path(source).exists():
            found[key] = f"{Path(source).name} {file_digest(Path(source))}"
    return found


def _differs(stage: Stage, before: dict[str, Any]) -> str:
    old, new = flat(before), flat(stage.reads)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    shown = [f"  {key.removeprefix('recipe.')}: {old.get(key)!r} then, {new.get(key)!r} now" for key in changed[:8]]
    return (
        f"{stage.folder}: the stage {stage.name!r} was done with another recipe:\n" + "\n".join(shown) + "\n"
        f"Use `--force {stage.name}` to do it and all that builds on it again, or name=... to keep both runs."
    )
