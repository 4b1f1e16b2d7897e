"""Build everything a recipe names, without data or weights, and refuse what would fail after six hours."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.build import build, find
from limbeck.build import check as check_arguments
from limbeck.datasets import drawn
from limbeck.datasets._absent import absent
from limbeck.place import Place
from limbeck.recipe import Model, Recipe, Train
from limbeck.recipe.lesson import lesson, seats
from limbeck.record import UserError
from limbeck.stages.context import WEIGHT_SUFFIXES, Context, data_root
from limbeck.stages.licences import described, terms
from limbeck.stages.unlabelled import unlabelled

__all__ = ["check", "files"]

ASSUMED_CLASSES = 21
NO_DOWNLOAD = {"backbone": "random", "encoder_weights": None}
"""Arguments of models that name a library's weights, and what takes none."""


@dataclass(frozen=True)
class _Data:
    """What is known of the data: number of classes, a line to show, and the data set or else its class."""

    num_classes: int
    line: str
    source: Any
    counted: bool = True
    """Whether the number of classes is theirs, and not assumed."""
    images: int | None = None
    """Images that a taught network is trained on, unlabelled ones too; None where they are not here."""
    names: tuple[str, ...] | None = None
    """Of the classes; None where they are not known yet."""


def files(sources: Sequence[str]) -> list[str]:
    """Recipe files of the given files and folders.

    Raises:
        UserError: If there are none, or a folder holds none.
    """
    if not sources:
        raise UserError("check: name a recipe, or a folder of them.")
    found: list[str] = []
    for source in sources:
        inside = sorted(str(path) for path in Path(source).rglob("*.yaml")) if Path(source).is_dir() else [source]
        if not inside:
            raise UserError(f"{source}: no recipe (*.yaml) in this folder.")
        found += inside
    return found


def check(recipe: Recipe, *, to_run: bool = False) -> list[str]:
    """Build data, networks, losses, terms, quantizers, exporters and runtimes of a recipe.

    Args:
        recipe: The recipe.
        to_run: Miss weight files too, which a recipe that is only looked at need not have here.

    Returns:
        What was found, a line each: data, networks, weights that are here, matched layers, licences.

    Raises:
        UserError: For the first thing that would not work; only data that are not on this machine are forgiven.
    """
    from limbeck.stages.dry_run import refuse_keys_of_maps

    context = Context(recipe, Path())
    build("tasks", recipe.task.spec, recipe.place / "task", recipe.root)
    refuse_keys_of_maps(context)
    data = _data(context)
    student, about = _network(context, "student", data, to_run)
    lines = [data.line, *about]
    networks = {"student": student}
    for role, seat in seats(recipe).items():
        networks[role], about = _network(context, role, data, to_run)
        lines += about
        _losses(context, networks[role], [(seat.section.train, seat.where / "train")], data.num_classes)
    learners = [role for role in (*seats(recipe), "student") if lesson(recipe, role).rows]
    for role in learners:
        lines += [f"{role} learns:"] * (len(learners) > 1) + _matches(context, role, networks, data)
    after = [(spec.qat, recipe.place / "quantize" / i / "qat") for i, spec in enumerate(recipe.quantize)]
    _losses(context, student, [(recipe.train, recipe.place / "train"), *after], data.num_classes)
    for index, spec in enumerate(recipe.quantize):
        build("quantizers", spec.spec, recipe.place / "quantize" / index, recipe.root)
    _exports(context)
    for index, runtime in enumerate(recipe.bench.runtimes if recipe.bench else []):
        find("runtimes", runtime, recipe.place / "bench" / "runtimes" / index, recipe.root)
    return lines + [f"licence  {line}" for line in described(terms(recipe, data.source))]


def _data(context: Context) -> _Data:
    """The data if they are here, else what their kind says of itself."""
    recipe = context.recipe
    where = recipe.place / "data"
    component = find("datasets", recipe.data.kind, where / "kind", recipe.root)
    given = {key: value for key, value in recipe.data.spec.items() if key != "kind"}
    check_arguments(component, given, where, recipe.data.kind, {"split": "", "root": Path(), "where": where})
    try:
        training, scored = context.dataset("training"), context.dataset(recipe.evaluate.split)
    except UserError as error:
        if not absent(recipe.data.spec, data_root(), recipe.root):
            raise
        known = getattr(component, "classes", None) or given.get("classes")
        counted = isinstance(known, tuple | list)
        count = len(known) if isinstance(known, tuple | list) else ASSUMED_CLASSES
        missing = str(error).splitlines()[0]
        line = f"data     {recipe.data.kind}, {count} classes; not here: {missing}"
        return _Data(count, line, component, counted, names=tuple(known) if isinstance(known, tuple | list) else None)
    own = recipe.train.batch if recipe.train else None
    batch, place = (own, recipe.place / "train") if own else (recipe.data.batch, where)
    length, sources = drawn(training)
    if recipe.train and length < batch:
        raise UserError(f"{place / 'batch'}: {batch} images a batch, but only {length} to train on.")
    for dataset in (training, scored):
        _ = dataset[0]  # what is wrong with all of them shows in the first
    count = len(scored.classes)
    shown = f"{len(training)} training and {len(scored)} {recipe.evaluate.split} images under {data_root()}"
    more = 0
    if recipe.data.unlabelled:
        more = len(unlabelled(context))
        shown += f", plus {more} unlabelled"
    if sources:
        names = zip(getattr(training, "sources", ()), sources, strict=True)
        shown += "; an epoch draws " + ", ".join(f"{draws} of {name}'s {num}" for name, (num, draws) in names)
    line = f"data     {recipe.data.kind}, {count} classes, {shown}"
    return _Data(count, line, scored, images=len(training) + more, names=tuple(scored.classes))


def _exports(context: Context) -> None:
    """Build the exporters, and see that each writes one file of its own into the run's folder.

    Raises:
        UserError: If two entries are of one kind, or a kind is no part of a file name.
    """
    recipe = context.recipe
    kinds: list[str] = []
    for index, export in enumerate(recipe.export):
        where = recipe.place / "export" / index
        if export.kind in kinds:
            raise UserError(f"{where}: a second entry of kind {export.kind!r} would overwrite the file of the first.")
        build("exporters", export.spec, where, recipe.root)
        kinds.append(export.kind)


def _network(context: Context, role: str, data: _Data, to_run: bool) -> tuple[Any, list[str]]:
    """The network of a section, which runs and whose weights fit, and lines about it."""
    from limbeck.bench.size import params_m
    from limbeck.data.local import NotHereError, no_downloads
    from limbeck.graph.network import in_classes
    from limbeck.stages.dry_run import is_missing_file, refuse_other_answers, refuse_weights
    from limbeck.stages.teacher_classes import Outputs, outputs_of

    section, where, outputs = context.section(role), context.where(role), Outputs(data.num_classes)
    with suppress(NotHereError), no_downloads():
        if data.names is not None and (to_run or not is_missing_file(section.weights)):
            outputs = outputs_of(context, section, where, data.names)
    model: Any = in_classes(_built(context, section, where, outputs.count), outputs.groups)
    refuse_other_answers(context, model, where, data.num_classes if data.counted else None, context.size(role))
    found = [*refuse_weights(context, section, model, where, files=to_run, whole=data.counted)]
    found += [model.loaded] if getattr(model, "loaded", None) is not None else []
    return model, [
        f"{role:8} {section.kind}, {params_m(model):.2f} M parameters",
        *(f"weights  {one}" for one in found),
    ]


def _built(context: Context, section: Model, where: Place, num_classes: int) -> Any:
    """The network with weights that a library or the hub calls by a name, if they are on this machine already."""
    from limbeck.data.local import NotHereError, no_downloads

    if _has_named_weights(section, where, context.recipe.root):
        try:
            with no_downloads():
                return context.network(section.model_copy(update=_without_download(section)), where, num_classes)
        except NotHereError:
            pass  # they are tried where they are needed
        except UserError as error:
            _bare(context, section, where, num_classes)  # what is wrong without them has a place of its own
            raise UserError(f"{where / 'weights'}: {error}") from error
    return _bare(context, section, where, num_classes)


def _has_named_weights(section: Model, where: Place, root: Path) -> bool:
    """Whether ``weights`` is for a builder of ours to find; what the user's own code does with names is not known."""
    source = section.weights
    if source is None or ":" in section.kind or Path(source).is_file() or Path(source).suffix in WEIGHT_SUFFIXES:
        return False
    return "pretrained" in inspect.signature(find("models", section.kind, where / "kind", root)).parameters


def _bare(context: Context, section: Model, where: Place, num_classes: int) -> Any:
    """The network of a section with random weights; a missing weight file is no error here."""
    return context.network(
        section.model_copy(update={"weights": None, **_without_download(section)}), where, num_classes
    )


def _without_download(section: Model) -> dict[str, Any]:
    return {name: value for name, value in NO_DOWNLOAD.items() if section.model_extra and name in section.model_extra}


def _matches(context: Context, role: str, networks: Mapping[str, Any], data: _Data) -> list[str]:
    """The table of what is compared with what, at which sizes, through which projector; what will be kept of it."""
    from limbeck.stages.compat import meanings
    from limbeck.stages.matched import matched, never, table
    from limbeck.stages.objective import make_terms
    from limbeck.stages.replay import describe_cache
    from limbeck.stages.training_data import plan_for

    found = lesson(context.recipe, role)
    asked = {seat.name: networks[role if seat.section.is_own else seat.role] for seat in found.seats}
    rows = make_terms(context, found, networks[role], asked)
    settings = context.section(role).train if role != "student" else context.recipe.train
    planned = plan_for(context, role, settings).steps if rows and settings and data.images is not None else None
    return [
        *table(matched(context, rows)),
        *(never(rows, planned) if planned else ()),
        *meanings(found, context.recipe.root),
        *describe_cache(found, rows, data.images),
    ]


def _losses(context: Context, model: Any, sections: Sequence[tuple[Train | None, Place]], num_classes: int) -> None:
    """Build the losses on the labels of a network's trainings, those of its auxiliary heads too, and try them."""
    from limbeck.data.stats import ClassCounts
    from limbeck.stages.dry_run import refuse_head_factor, refuse_loss
    from limbeck.stages.objective import task_terms
    from limbeck.train.taps import LOGITS

    counts = ClassCounts([1] * num_classes, [num_classes] * num_classes)
    for section, where in sections:
        if section is not None:
            refuse_head_factor(model, section, where)
            for term in task_terms(context.recipe, model, section, where / "task", counts):
                if term.at == LOGITS:
                    refuse_loss(context, term.loss, num_classes, where / "task")
