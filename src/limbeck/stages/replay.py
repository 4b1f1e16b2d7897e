"""Where and how much a teacher's outputs are kept, so that each view of an image is shown to it once."""

import shutil
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from limbeck import show
from limbeck.data.stats import cache_folder
from limbeck.data.weight_file import state_digest
from limbeck.recipe.lesson import TEACHER, Lesson, Seat
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.plan import by_content
from limbeck.stages.teachers import Staff
from limbeck.stages.training_data import training
from limbeck.stages.unlabelled import unlabelled
from limbeck.train.cache import Entries, gib
from limbeck.train.replay import Replayed, entry_shape
from limbeck.train.teacher import Source, Teacher
from limbeck.train.terms import Term

__all__ = ["describe_cache", "kept_or_asked"]

Shapes = Mapping[str, tuple[int, ...]]


def kept_or_asked(
    context: Context, role: str, staff: Staff, terms: Sequence[Term], precision: str
) -> Mapping[str, Source]:
    """The teachers themselves by name or, with ``cache: replay``, what they said before about each view.

    The files are in the cache folder and not in the run's: the runs of a sweep that differ in their losses share them.
    The learner's own average changes at each step, and is asked as ever.

    Raises:
        UserError: If they would exceed the budget or the disk.
    """
    distil = staff.lesson.distil
    if distil.cache == "online":
        return staff.teachers
    images, folder = len(training(context, role)), cache_folder() / "teacher"
    refuse_too_much(staff.lesson, shapes_at(staff.lesson, terms), images)
    seats = [seat for seat in staff.lesson.networks if seat.name in staff.teachers]
    kept = {seat.name: _entries(context, role, staff, seat, terms, precision) for seat in seats}
    everything = [(name, place, entries) for name, own in kept.items() for place, entries in own.items()]
    missing = sum(entries.missing_bytes for _, _, entries in everything)
    if missing > shutil.disk_usage(folder).free:
        raise UserError(f"{folder}: the teacher's outputs need {gib(missing)} more, and the disk has less than that.")
    for name, place, entries in everything:
        who = f"{TEACHER}-{name}" if name else TEACHER
        show.say(f"{role}: {who}.{place}: {entries.known} of {images * distil.views} outputs are in {entries.path}")
    return {name: Replayed(staff.teachers[name], own) for name, own in kept.items()}


def _entries(
    context: Context, role: str, staff: Staff, seat: Seat, terms: Sequence[Term], precision: str
) -> dict[str, Entries]:
    """The files of one teacher's outputs, by path."""
    about = decides(context, role, seat, staff.teachers[seat.name], precision)
    images, views, folder = len(training(context, role)), staff.lesson.distil.views, cache_folder() / "teacher"
    return {
        path: Entries(folder, about | {"place": path}, images, views, entry_shape(shape))
        for path, shape in shapes_at(staff.lesson, terms, seat).items()
    }


def shapes_at(found: Lesson, terms: Sequence[Term], seat: Seat | None = None) -> Shapes:
    """Shapes of one teacher's outputs that the terms look at, for one image, by path; without it of all, by place."""
    everything = {place: shape for term in terms for place, shape in term.sources.items()}
    networks = {one.name: one for one in found.networks if seat in (None, one)}
    split = [(*place.rpartition(":")[::2], place, shape) for place, shape in everything.items()]
    return {path if seat else place: shape for name, path, place, shape in split if name in networks}


def decides(context: Context, role: str, seat: Seat, teacher: Teacher, precision: str) -> dict[str, Any]:
    """All that a teacher's outputs depend on."""
    data = context.recipe.data
    digests = [context.dataset("training").digest()]
    digests += [unlabelled(context).digest()] if data.unlabelled else []
    own = {"input_size": seat.section.input_size, "classes": seat.section.classes}
    return {
        "teacher": state_digest(teacher.model), "network": by_content(seat.section.spec),
        "mean": teacher.mean.flatten().tolist(), "std": teacher.std.flatten().tolist(),
        "precision": seat.section.precision or precision,
        "data": [data.spec, context.alpha, *digests], "seed": context.seed(role), "size": context.size(role),
        "resize": data.resize.model_dump(mode="json"), "augment": data.augment.model_dump(mode="json"),
    } | {key: value for key, value in own.items() if value is not None}  # fmt: skip


def sizes(shapes: Shapes, images: int, views: int) -> dict[str, int]:
    """Bytes of each place's outputs."""
    return {place: 2 * prod(shape[1:]) * images * views for place, shape in shapes.items()}


def refuse_too_much(found: Lesson, shapes: Shapes, images: int) -> None:
    """See that what is to be kept fits the recipe's budget.

    Raises:
        UserError: If not; says how much each place needs and what would fit.
    """
    distil = found.distil
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
        f"{found.where / 'cache_gib'}: {distil.views} views of {images} images need {gib(total)} "
        f"({listed}), allowed are {gib(round(budget))}. Allow more, or try "
        f"{' or '.join([*ways, 'distil.cache=online'])}."
    )


def describe_cache(found: Lesson, terms: Sequence[Term], images: int | None) -> list[str]:
    """A line about what will be kept of a teacher; nothing where it is asked online.

    Raises:
        UserError: If that exceeds the budget.
    """
    distil, shapes = found.distil, shapes_at(found, terms)
    if distil.cache == "online" or not shapes:
        return []
    if images is not None:
        refuse_too_much(found, shapes, images)
    needed = sum(sizes(shapes, images or 1, distil.views).values())
    whole = f"{images} images, {gib(needed)} of {distil.cache_gib:g} GiB" if images else f"each image, {gib(needed)}"
    listed = ", ".join(f"{place} {'x'.join(map(str, shape[1:]))}" for place, shape in shapes.items())
    return [f"cache    {distil.views} views of {whole}: {listed} in 16 bits, under {cache_folder() / 'teacher'}"]
