"""One empty image through a network, and a look at where its weights are, before anything long begins."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from limbeck.data.local import NotHereError, no_downloads
from limbeck.data.transforms import input_size
from limbeck.data.weights import Report, encoder_parts
from limbeck.place import Place, placed
from limbeck.recipe import Model, Train
from limbeck.recipe.lesson import lesson, seats
from limbeck.record import UserError
from limbeck.stages.context import WEIGHT_SUFFIXES, Context

__all__ = [
    "is_missing_file",
    "refuse_head_factor",
    "refuse_keys_of_maps",
    "refuse_loss",
    "refuse_other_answers",
    "refuse_weights",
]


@torch.no_grad()
def refuse_other_answers(
    context: Context, model: Any, where: Place | str, num_classes: int | None, size: tuple[int, int]
) -> None:
    """See that a network takes the recipe's images and answers as its task asks; its mode stays what it was.

    Args:
        context: The run.
        model: The network.
        where: Its place in the recipe.
        num_classes: Classes of the data; None where they are not known yet.
        size: What images are brought to for it, [height, width].

    Raises:
        UserError: If it does not run at this size, gives maps where classes are wanted or the other way round, or has
            another number of classes than the data.
    """
    height, width = input_size(size, context.recipe.data.resize)
    training = model.training
    model.eval()
    try:
        logits = model(torch.zeros(2, len(model.mean), height, width, device=next(model.parameters()).device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())
        named = "data.size" if size == context.recipe.data.size else "its input_size"
        raise UserError(f"{where}: does not run on images of {height}x{width} ({named}): {reason}") from error
    finally:
        model.train(training)
    if logits.ndim != (4 if context.task.dense else 2):
        wanted = "maps [n, c, h, w]" if context.task.dense else "one class an image, [n, c]"
        other = "classification" if context.task.dense else "segmentation"
        raise UserError(
            f"{where}: gives {list(logits.shape)} for two images; {context.task.name} wants {wanted}. Choose another "
            f"network, or write task: {{kind: {other}}}."
        )
    if num_classes not in (None, logits.shape[1]):
        raise UserError(
            f"{where}: tells {logits.shape[1]} classes apart, the data have {num_classes}; a builder of one's own is "
            "given `num_classes`."
        )


@torch.no_grad()
def refuse_loss(context: Context, loss: Any, num_classes: int, where: Place | str) -> None:
    """See that a loss takes such logits and targets as the task has.

    Raises:
        UserError: If it does not run, or gives anything but one number.
    """
    size = (8, 8) if context.task.dense else ()
    try:
        found = loss(torch.zeros(2, num_classes, *size), torch.zeros(2, *size, dtype=torch.int64))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shown = "maps [n, c, h, w]" if context.task.dense else "logits [n, c]"
        raise UserError(f"{where}: does not run on {shown} and their target: {error}") from error
    if not isinstance(found, torch.Tensor) or found.shape != ():
        raise UserError(f"{where}: gives {type(found).__name__} {list(getattr(found, 'shape', []))}, not one number.")


def refuse_keys_of_maps(context: Context) -> None:
    """See that nothing is asked of a classifier that only maps of classes have.

    Raises:
        UserError: If something is.
    """
    recipe = context.recipe
    scored, augment = recipe.evaluate, recipe.data.augment
    asked = [
        (recipe.place / "evaluate" / "slide", scored.slide is not None),
        (recipe.place / "evaluate" / "boundary", scored.boundary),
        (recipe.place / "data" / "augment" / "max_share", augment.max_share < 1),
    ]
    for found in (lesson(recipe, role) for role in (*seats(recipe), "student")):
        asked += [(found.row(index) / "edges", row.edges is not None) for index, row in found.rows]
    for where, given in asked:
        if given and not context.task.dense:
            raise UserError(f"{where}: a classifier sees the whole image and has no map of classes; leave this out.")


def refuse_head_factor(model: Any, settings: Train, where: Place) -> None:
    """See that a network whose head is to learn at its own rate has an encoder to tell it from.

    Raises:
        UserError: If it has none.
    """
    if settings.optimizer.head_factor != 1:
        try:
            encoder_parts(model)
        except UserError as error:
            raise UserError(f"{where / 'optimizer' / 'head_factor'}: {error}") from error


def refuse_weights(
    context: Context, section: Model, model: Any, where: Place, *, files: bool, whole: bool
) -> list[Report]:
    """Load the weights of a section that are on this machine, as its stage will; what is elsewhere is left to that.

    Args:
        files: Miss files that are not there, too.
        whole: The network has its final number of classes, so that weights of all of it can be told to fit.

    Returns:
        What fitted.

    Raises:
        UserError: If a file cannot be read or fits only in part, torchvision has no weights of such a name, or the
            network no encoder.
    """
    if section.backbone_weights is not None:
        with placed(where / "backbone_weights"):
            encoder_parts(model)
    if files:
        context.named_weights(section, where)
    else:
        absent = [key for key in ("weights", "backbone_weights") if is_missing_file(getattr(section, key))]
        section = section.model_copy(update=dict.fromkeys(absent))
    found = []
    for fit in (context.fit_backbone, context.fit_file) if whole else (context.fit_backbone,):
        with suppress(NotHereError), no_downloads():
            found.append(fit(model, section, where))
    return [report for report in found if report is not None]


def is_missing_file(source: str | None) -> bool:
    """Whether weights are in a file that is not here."""
    return source is not None and Path(source).suffix in WEIGHT_SUFFIXES and not Path(source).exists()
