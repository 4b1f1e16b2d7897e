"""Where and how much a teacher's outputs are kept, so that each view of an image is shown to it once."""

import shutil
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from limbeck import show
from limbeck.data.stats import cache_folder
from limbeck.data.weight_file import state_digest
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.plan import by_content
from limbeck.stages.training_data import training
from limbeck.stages.unlabelled import unlabelled
from limbeck.train.cache import Entries, gib
from limbeck.train.replay import Replayed, entry_shape
from limbeck.train.teacher import Source, Teacher
from limbeck.train.terms import Term

__all__ = ["describe_cache", "kept_or_asked"]

Shapes = Mapping[str, tuple[int, ...]]


def kept_or_asked(context: Context, role: str, teacher: Teacher, terms: Sequence[Term], precision: str) -> Source:
    """The teacher itself or, with ``cache: replay``, what it said before about each view.

    The files are in the cache folder and not in the run's: the runs of a sweep that differ in their losses share them.

    Raises:
        UserError: If they would exceed the budget or the disk.
    """
    distil = context.recipe.distil
    if distil.cache == "online":
        return teacher
    shapes = shapes_at(terms)
    images, folder = len(training(context, role)), cache_folder() / "teacher"
    refuse_too_much(context, shapes, images)
    about = decides(context, teacher, precision)
    kept = {
        place: Entries(folder, about | {"place": place}, images, distil.views, entry_shape(shape))
        for place, shape in shapes.items()
    }
    missing = sum(entries.missing_bytes for entries in kept.values())
    if missing > shutil.disk_usage(folder).free:
        raise UserError(f"{folder}: the teacher's outputs need {gib(missing)} more, and the disk has less than that.")
    for place, entries in kept.items():
        show.say(f"{role}: teacher.{place}: {entries.known} of {images * distil.views} outputs are in {entries.path}")
    return Replayed(teacher, kept)


def shapes_at(terms: Sequence[Term]) -> Shapes:
    """Shapes of the teacher's outputs that the terms look at, for one image, by place."""
    return {match.teacher: match.teacher_shape for term in terms for match in term.matches}


def decides(context: Context, teacher: Teacher, precision: str) -> dict[str, Any]:
    """All that a teacher's outputs depend on."""
    recipe, data = context.recipe, context.recipe.data
    digests = [context.dataset("training").digest()]
    digests += [unlabelled(context).digest()] if data.unlabelled else []
    return {
        "teacher": state_digest(teacher.model), "network": by_content(context.section("teacher").spec),
        "mean": teacher.mean.flatten().tolist(), "std": teacher.std.flatten().tolist(), "precision": precision,
        "data": [data.spec, context.alpha, *digests], "seed": recipe.seed, "size": data.size,
        "resize": data.resize.model_dump(mode="json"), "augment": data.augment.model_dump(mode="json"),
    }  # fmt: skip


def sizes(shapes: Shapes, images: int, views: int) -> dict[str, int]:
    """Bytes of each place's outputs."""
    return {place: 2 * prod(shape[1:]) * images * views for place, shape in shapes.items()}


def refuse_too_much(context: Context, shapes: Shapes, images: int) -> None:
    """See that what is to be kept fits the recipe's budget.

    Raises:
        UserError: If not; says how much each place needs and what would fit.
    """
    distil = context.recipe.distil
    needed = sizes(shapes, images, distil.views)
    total, budget = sum(needed.values()), distil.cache_gib * 2**30
    if total <= budget:
        return
    listed = ", ".join(f"teacher.{place} {gib(size)}" for place, size in needed.items())
    fitting = int(distil.views * budget / total)
    ways = [f"distil.views={fitting}"] if fitting else []
    largest = max(needed, key=lambda place: needed[place])
    ways += [f"leave out the terms at teacher.{largest}"] if len(needed) > 1 else []
    raise UserError(
        f"{context.recipe.place / 'distil' / 'cache_gib'}: {distil.views} views of {images} images need {gib(total)} "
        f"({listed}), allowed are {gib(round(budget))}. Allow more, or try "
        f"{' or '.join([*ways, 'distil.cache=online'])}."
    )


def describe_cache(context: Context, terms: Sequence[Term], images: int | None) -> list[str]:
    """A line about what will be kept of a teacher; nothing where it is asked online.

    Raises:
        UserError: If that exceeds the budget.
    """
    distil = context.recipe.distil
    if distil.cache == "online" or not terms:
        return []
    shapes = shapes_at(terms)
    if images is not None:
        refuse_too_much(context, shapes, images)
    needed = sum(sizes(shapes, images or 1, distil.views).values())
    whole = f"{images} images, {gib(needed)} of {distil.cache_gib:g} GiB" if images else f"each image, {gib(needed)}"
    listed = ", ".join(f"{place} {'x'.join(map(str, shape[1:]))}" for place, shape in shapes.items())
    return [f"cache    {distil.views} views of {whole}: {listed} in 16 bits, under {cache_folder() / 'teacher'}"]
