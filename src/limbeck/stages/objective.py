"""From the recipe to what is trained: losses on the labels, distillation terms, the objective."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.build import build, find
from limbeck.data.stats import ClassCounts, count_classes
from limbeck.data.transforms import input_size
from limbeck.graph.network import aux_heads
from limbeck.losses._presets import Preset
from limbeck.place import Place, nearest
from limbeck.recipe import Recipe, Train
from limbeck.recipe import Term as TermSection
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.dry_run import refuse_loss
from limbeck.train.labels import TaskTerm, of_heads
from limbeck.train.objective import Modes, Objective, eager_modes
from limbeck.train.taps import LOGITS, Tapped
from limbeck.train.teacher import Source
from limbeck.train.terms import Term, compared, make_term, split_path

__all__ = ["logits_terms", "make_objective", "make_terms", "preset_of", "refuse_unknown_path", "task_terms"]


def make_objective(
    context: Context, model: nn.Module, settings: Train, terms: Sequence[Term], teacher: Source | None,
    modes: Modes | None = None, normalisation: Any = None,
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
        model, task, terms=terms, teacher=teacher, mean=normalised.mean, std=normalised.std,
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


def logits_terms(context: Context) -> list[TermSection]:
    """The distillation terms that look at logits alone: QAT trains on these, and so does what it is compared with."""
    return [row for row in context.recipe.distil.terms if all(split_path(at) == (LOGITS, LOGITS) for at in row.places)]


def make_terms(
    context: Context, student: nn.Module, teacher: nn.Module, sections: Sequence[TermSection] | None = None
) -> list[Term]:
    """The distillation terms, bound to both networks by a dry run of one image.

    Raises:
        UserError: If a loss, a path or a shape does not fit.
    """
    recipe = context.recipe
    rows = [(index, row) for index, row in enumerate(recipe.distil.terms) if sections is None or row in sections]
    for index, _ in rows:
        refuse_unknown_path(context, index, student, "student")
        refuse_unknown_path(context, index, teacher, "teacher")
    shapes = {
        "student": shapes_of(context, student, [split_path(at)[0] for _, row in rows for at in row.places], "student"),
        "teacher": shapes_of(context, teacher, [split_path(at)[1] for _, row in rows for at in row.places], "teacher"),
    }
    names = _names([row.kind for row in recipe.distil.terms])
    terms = []
    for index, row in rows:
        where = recipe.place / "distil" / "terms" / index
        preset = preset_of(row, where, recipe.root)
        classes = shapes["student"][LOGITS][1]
        loss = build("losses", {**preset.settings, **row.spec}, where, recipe.root, num_classes=classes)
        if _wanted(loss) == 2:
            raise UserError(f"{where}: {row.kind} looks at labels alone; its place is in train.task.")
        paths = [split_path(at) for at in row.places]
        pairs = [(shapes["student"][mine], shapes["teacher"][theirs]) for mine, theirs in paths]
        weight = row.weight or preset.weight_on((*pairs[0][1][:2], *compared(*pairs[0])))
        pair = pairs[0] if isinstance(row.at, str) else pairs
        terms.append(make_term(names[index], loss, row.at, pair, weight, row.schedule, where, row.edges))
    return terms


def preset_of(row: TermSection, where: Place, root: Path) -> Preset:
    """What ``compat`` of a row of ``distil`` means for its loss; the loss's own defaults without it.

    Raises:
        UserError: If the loss has no settings of that name.
    """
    if row.compat is None:
        return Preset()
    known: Mapping[str, Preset] = getattr(find("losses", row.kind, where / "kind", root), "presets", {})
    if row.compat not in known:
        there = f"Known: {', '.join(known)}." if known else "It has none."
        raise UserError(
            f"{where / 'compat'}: {row.kind} has no settings {row.compat!r}.{nearest(row.compat, list(known))} {there}"
        )
    return known[row.compat]


def refuse_unknown_path(context: Context, index: int, model: nn.Module, owner: str) -> None:
    """See that a network has the place that a row of ``distil`` names.

    Raises:
        UserError: With the row's place, and the nearest names.
    """
    paths = [split_path(at)[owner == "teacher"] for at in context.recipe.distil.terms[index].places]
    try:
        Tapped(model, paths, owner).close()
    except UserError as error:
        raise UserError(f"{context.recipe.place / 'distil' / 'terms' / index / 'at'}: {error}") from error


def shapes_of(context: Context, model: nn.Module, paths: Sequence[str], owner: str) -> dict[str, torch.Size]:
    """Shapes of the tapped tensors at the recipe's input size; the network is left in the mode it was in."""
    if not paths:
        return {}
    tapped, training = Tapped(model, paths, owner), model.training
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), eval_mode(model):
            size = input_size(context.recipe.data.size, context.recipe.data.resize)
            image = torch.zeros(1, len(getattr(model, "mean", "rgb")), *size, device=device)
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
