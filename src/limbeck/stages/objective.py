"""From the recipe to what is trained: losses on the labels, distillation terms, the objective."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from limbeck.build import build
from limbeck.data.stats import ClassCounts, count_classes
from limbeck.data.transforms import input_size
from limbeck.graph.network import aux_heads
from limbeck.place import Place
from limbeck.recipe import Recipe, Train
from limbeck.recipe import Term as TermSection
from limbeck.recipe.lesson import Lesson, Seat, sides
from limbeck.record import UserError
from limbeck.stages.compat import preset_of
from limbeck.stages.context import Context
from limbeck.stages.dry_run import refuse_loss
from limbeck.train.average import Average
from limbeck.train.combine import combined_shape
from limbeck.train.labels import TaskTerm, of_heads
from limbeck.train.objective import Modes, Objective, eager_modes
from limbeck.train.taps import LOGITS, Tapped
from limbeck.train.teacher import Source
from limbeck.train.terms import Term, compared, make_term

__all__ = ["make_objective", "make_terms", "refuse_unknown_paths", "task_terms"]


def make_objective(
    context: Context, model: nn.Module, settings: Train, terms: Sequence[Term],
    teacher: Source | Mapping[str, Source] | None,
    modes: Modes | None = None, normalisation: Any = None, own: Average | None = None,
) -> Objective:  # fmt: skip
    """What is trained: the student, its losses on the labels, and the terms."""
    where = context.recipe.place / "train" / "task"
    specs = [*(loss.spec for loss in settings.task), *_own_losses(model).values()]
    weighted = any(spec.get("class_weights") not in (None, "per_image") for spec in specs)
    counts = count_classes(context.dataset("training")) if weighted else None
    task = task_terms(context.recipe, model, settings, where, counts)
    for term in task:
        if term.at == LOGITS:
            refuse_loss(context, term.loss, context.num_classes, where)
    if settings.sync_batch_norm and context.device != "cpu":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    normalised: Any = normalisation or model
    return Objective(
        model, task, terms=terms, teacher=teacher, own=own, mean=normalised.mean, std=normalised.std,
        modes=modes or eager_modes(model, settings.freeze_batch_norm),
    )  # fmt: skip


def task_terms(
    recipe: Recipe, model: nn.Module, settings: Train, where: Place, counts: ClassCounts | None
) -> list[TaskTerm]:
    """The losses against the labels: the recipe's on the logits, and those of the model's auxiliary heads."""
    places = [where / index for index in range(len(settings.task))] if len(settings.task) > 1 else [where]
    names = _names([loss.kind for loss in settings.task]) if len(settings.task) > 1 else ["task"]
    task = [
        TaskTerm(name, _task_loss(recipe, row.spec, place, counts), row.weight, ramp=row.schedule)
        for name, row, place in zip(names, settings.task, places, strict=True)
    ]
    heads: dict[str, float | TaskTerm] = {
        path: head for path, head in aux_heads(model).items() if not isinstance(head, dict)
    }
    for path, spec in _own_losses(model).items():
        own = {key: value for key, value in spec.items() if key != "weight"}
        loss = _task_loss(recipe, own, f"{type(model).__name__}.aux[{path!r}]", counts)
        heads[path] = TaskTerm(path, loss, spec.get("weight", 1.0))
    return [*task, *of_heads(heads, task)]


def _names(kinds: Sequence[str]) -> list[str]:
    """Names in the log: the kinds, the user's own without their file, numbered where one is there twice."""
    short = [kind.rpartition(":")[2] for kind in kinds]
    return [name if short.count(name) == 1 else f"{name}.{index}" for index, name in enumerate(short)]


def _own_losses(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Auxiliary heads that do not learn by the recipe's loss, with their own."""
    return {path: head for path, head in aux_heads(model).items() if isinstance(head, dict)}


def _task_loss(recipe: Recipe, spec: dict[str, Any], where: Place | str, counts: ClassCounts | None) -> Any:
    loss = build("losses", spec, where, recipe.root, class_counts=counts)
    if _wanted(loss) == 3:
        raise UserError(f"{where}: {spec['kind']} compares a student with a teacher; its place is in distil.")
    return loss


def _wanted(loss: Any) -> int:
    """How many things a loss must be given: 2 are logits and target, 3 are student, teacher and target."""
    parameters = inspect.signature(getattr(loss, "forward", loss)).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in plain and parameter.default is parameter.empty for parameter in parameters)


def make_terms(context: Context, found: Lesson, student: nn.Module, teachers: Mapping[str, nn.Module]) -> list[Term]:
    """The distillation terms, bound to the networks by a dry run of one image.

    Args:
        context: The run.
        found: What the student learns, and from whom.
        student: The student.
        teachers: Those that the terms name, by their name.

    Raises:
        UserError: If a loss, a path or a shape does not fit.
    """
    for index, row in found.rows:
        _refuse_unknown_paths(student, [sides(at)[0] for at in row.places], "student", found.row(index))
    paths = [sides(at)[0] for _, row in found.rows for at in row.places]
    mine = shapes_of(context, student, paths, "student", context.recipe.data.size)
    theirs: dict[str, torch.Size] = {}
    for seat in found.seats:
        if seat.name in teachers:
            refuse_unknown_paths(found, seat, teachers[seat.name])
            size, paths = seat.section.input_size or context.recipe.data.size, found.paths(seat)
            shapes = shapes_of(context, teachers[seat.name], paths, seat.role, size)
            theirs |= {seat.at(path): shape for path, shape in shapes.items()}
    names = _names([row.kind for row in found.distil.terms])
    return [_term(context, found, index, row, names[index], mine, theirs) for index, row in found.rows]


def _term(
    context: Context, found: Lesson, index: int, row: TermSection, name: str,
    mine: Mapping[str, torch.Size], theirs: Mapping[str, torch.Size],
) -> Term:  # fmt: skip
    where, root = found.row(index), context.recipe.root
    preset = preset_of(row, where, root)
    loss = build("losses", {**preset.settings, **row.spec}, where, root, num_classes=mine[LOGITS][1])
    if _wanted(loss) == 2:
        raise UserError(f"{where}: {row.kind} looks at labels alone; its place is in train.task.")
    paths = [sides(at) for at in row.places]
    sources = [{place: tuple(theirs[place]) for place in found.places(at)} for at in row.places]
    pairs = [
        (mine[student], combined_shape(list(own.values()), where / "at"))
        for (student, _, _), own in zip(paths, sources, strict=True)
    ]
    if getattr(loss, "reads_labels", False) and not getattr(loss, "any_channels", False):
        _refuse_features(row, where, pairs[0][1], mine[LOGITS][1])
    weight = row.weight or preset.weight_on((*pairs[0][1][:2], *compared(*pairs[0])))
    places = [f"{student} -> {teacher}" for student, _, teacher in paths]
    at, pair = (places[0], pairs[0]) if isinstance(row.at, str) else (places, pairs)
    return make_term(name, loss, at, pair, weight, row.schedule, where, row.edges, row.combine, sources)


def _refuse_features(row: TermSection, where: Place, teacher: torch.Size, classes: int) -> None:
    """A loss that reads labels and compares channel with channel takes channels for classes."""
    if teacher[1] != classes:
        raise UserError(
            f"{where / 'at'}: {row.kind} compares classes, and {row.places[0]} gives {teacher[1]} channels for "
            f"{classes} classes; compare logits."
        )


def refuse_unknown_paths(found: Lesson, seat: Seat, model: nn.Module) -> None:
    """See that a teacher has the places that the terms name.

    Raises:
        UserError: With the term's place, and the nearest names.
    """
    for index, row in found.rows:
        meant = [sides(at)[2] for at in row.places if seat.at(sides(at)[2]) in found.places(at)]
        _refuse_unknown_paths(model, meant, seat.role, found.row(index))


def _refuse_unknown_paths(model: nn.Module, paths: Sequence[str], owner: str, where: Place) -> None:
    try:
        Tapped(model, paths, owner).close()
    except UserError as error:
        raise UserError(f"{where / 'at'}: {error}") from error


def shapes_of(
    context: Context, model: nn.Module, paths: Sequence[str], owner: str, size: tuple[int, int]
) -> dict[str, torch.Size]:
    """Shapes of the tapped tensors for images of this size; the network is left in the mode it was in."""
    if not paths:
        return {}
    tapped, training = Tapped(model, paths, owner), model.training
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), eval_mode(model):
            shape = input_size(size, context.recipe.data.resize)
            image = torch.zeros(1, len(getattr(model, "mean", "rgb")), *shape, device=device)
            return {path: tensor.shape for path, tensor in tapped(image)[1].items()}
    finally:
        tapped.close()
        model.train(training)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for the time of the block; an exported graph, which has no such modes, is left alone."""
    if isinstance(model, torch.fx.GraphModule):
        yield
        return
    model.eval()
    yield
