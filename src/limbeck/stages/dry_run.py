"""One empty image through a network, before anything long begins."""

from typing import Any

import torch

from limbeck.data.transforms import input_size
from limbeck.place import Place
from limbeck.record import UserError
from limbeck.stages.context import Context

__all__ = ["refuse_loss", "refuse_other_answers"]


@torch.no_grad()
def refuse_other_answers(context: Context, model: Any, where: Place | str) -> None:
    """See that a network takes the recipe's images and answers as its task asks; its mode stays what it was.

    Raises:
        UserError: If it does not run at this size, or gives maps where classes are wanted, or the other way round.
    """
    height, width = input_size(context.recipe.data.size, context.recipe.data.resize)
    training = model.training
    model.eval()
    try:
        logits = model(torch.zeros(2, len(model.mean), height, width, device=next(model.parameters()).device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: does not run on images of {height}x{width} (data.size): {reason}") from error
    finally:
        model.train(training)
    if logits.ndim != (4 if context.task.dense else 2):
        wanted = "maps [n, c, h, w]" if context.task.dense else "one class an image, [n, c]"
        other = "classification" if context.task.dense else "segmentation"
        raise UserError(
            f"{where}: gives {list(logits.shape)} for two images; {context.task.name} wants {wanted}. Choose another "
            f"network, or write task: {{kind: {other}}}."
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
