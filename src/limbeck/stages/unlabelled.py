"""Images of a recipe that are not its training split: those without labels, and those that are scored."""

from pathlib import Path

from limbeck.data.unlabelled import Unlabelled
from limbeck.record import UserError
from limbeck.stages.context import Context, data_root

__all__ = ["scored_files", "unlabelled"]


def unlabelled(context: Context) -> Unlabelled:
    """The images without labels that the recipe adds for the teacher.

    Raises:
        UserError: If there are none, or one of them is scored.
    """
    where = context.recipe.place / "data" / "unlabelled"
    folder = data_root() / str(context.recipe.data.unlabelled)
    return Unlabelled(folder, where, context.dataset("training")[0], scored_files(context))


def scored_files(context: Context) -> list[Path]:
    """Images that are, or may later be, scored; a data set without a test split has only the others."""
    found: list[Path] = []
    for split in dict.fromkeys((context.recipe.evaluate.split, "validation", "test")):
        try:
            found += [pair.image for pair in getattr(context.dataset(split), "pairs", ())]
        except UserError:
            if split != "test":
                raise
    return found
