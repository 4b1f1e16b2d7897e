"""Where and how much a teacher's outputs are kept, so that each view of an image is shown to it once."""

import shutil
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from limbeck import show
from limbeck.data.stats import cache_folder
from limbeck.data.weight_file import state_digest
from limbeck.recipe.lesson import LOGITS, TEACHER, Lesson, Seat
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.plan import by_content
from limbeck.stages.teachers import Staff
from limbeck.stages.training_data import training
from limbeck.stages.unlabelled import unlabelled
from limbeck.train.cache import Entries, gib
from limbeck.train.keep import Form, Top, Whole
from limbeck.train.replay import Replayed
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
    if distil.cache == "online" or not staff.teachers:
        return staff.teachers
    refuse_keep(staff.lesson, terms)
    images, folder = len(training(context, role)), cache_folder() / "teacher"
    refuse_too_much(staff.lesson, terms, images)
    seats = [seat for seat in staff.lesson.networks if seat.name in staff.teachers]
    kept = {seat.name: _entries(context, role, staff, seat, terms, precision) for seat in seats}
    everything = [(name, place, entries) for name, own in kept.items() for place, (entries, _) in own.items()]
    missing = sum(entries.missing_bytes for _, _, entries in everything)
    if missing > shutil.disk_usage(folder).free:
        raise UserError(f"{folder}: the teacher's outputs need {gib(missing)} more, and the disk has less than that.")
    for name, place, entries in everything:
        who = f"{TEACHER}-{name}" if name else TEACHER
        show.say(f"{role}: {who}.{place}: {entries.known} of {images * distil.views} outputs are in {entries.path}")
    for term in terms:
        form = form_of(staff.lesson, terms, next(iter(term.sources)))
        term.top = (form, _temperature(term)) if isinstance(form, Top) else None
    return {name: Replayed(staff.teachers[name], own) for name, own in kept.items()}


def _entries(
    context: Context, role: str, staff: Staff, seat: Seat, terms: Sequence[Term], precision: str
) -> dict[str, tuple[Entries, Form]]:
    """The files of one teacher's outputs, and their form, by path."""
    about = decides(context, role, seat, staff.teachers[seat.name], precision)
    images, views, folder = len(training(context, role)), staff.lesson.distil.views, cache_folder() / "teacher"
    found: dict[str, tuple[Entries, Form]] = {}
    for place, shape in shapes_at(staff.lesson, terms).items():
        name, _, path = place.rpartition(":")
        if name == seat.name:
            form = form_of(staff.lesson, terms, place)
            what = {"place": path} | ({"keep": [form.count, *form.temperatures]} if isinstance(form, Top) else {})
            found[path] = Entries(folder, about | what, images, views, form.shape(shape)), form
    return found


def shapes_at(found: Lesson, terms: Sequence[Term]) -> Shapes:
    """Shapes of the outputs of teachers that are networks of the run, for one image, by place."""
    names = {seat.name for seat in found.networks}
    everything = {place: shape for term in terms for place, shape in term.sources.items()}
    return {place: shape for place, shape in everything.items() if place.rpartition(":")[0] in names}


def form_of(found: Lesson, terms: Sequence[Term], place: str) -> Form:
    """What is kept of the outputs at a place."""
    keep = found.distil.keep
    if keep == "full" or not _kept_in_part(found, place):
        return Whole()
    asked = {_temperature(term) for term in terms if place in term.sources}
    return Top(keep, tuple(sorted(asked)))


def _kept_in_part(found: Lesson, place: str) -> bool:
    """Whether a place is one of logits that are kept; the learner's own average is asked each time."""
    name, _, path = place.rpartition(":")
    return path == LOGITS and name in {seat.name for seat in found.networks}


def _temperature(term: Term) -> float:
    return float(getattr(term.loss, "temperature"))  # noqa: B009


def refuse_keep(found: Lesson, terms: Sequence[Term]) -> None:
    """See that the terms on logits can do with the most likely classes, where no more is kept.

    Raises:
        UserError: If one cannot, or all classes would be kept.
    """
    keep = found.distil.keep
    if keep == "full":
        return
    for term in terms:
        if not any(_kept_in_part(found, place) for place in term.sources):
            continue
        classes = next(iter(term.sources.values()))[1]
        if keep >= classes:
            raise UserError(f"{found.where / 'keep'}: there are {classes} classes; `full` keeps all of them.")
        if not getattr(term.loss, "takes_rest", False) or len(term.sources) > 1 or term.match.student != LOGITS:
            raise UserError(
                f"{term.where}: with distil.keep: {keep} the only term on logits is kd (without standardise, against "
                "one teacher): other losses need all of them. Write distil.keep: full, or leave this term out."
            )


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


def sizes(found: Lesson, terms: Sequence[Term], images: int) -> dict[str, int]:
    """Bytes of each place's outputs."""
    shapes = {place: form_of(found, terms, place).shape(shape) for place, shape in shapes_at(found, terms).items()}
    return {place: 2 * prod(shape) * images * found.distil.views for place, shape in shapes.items()}


def refuse_too_much(found: Lesson, terms: Sequence[Term], images: int) -> None:
    """See that what is to be kept fits the recipe's budget.

    Raises:
        UserError: If not; says how much each place needs and what would fit.
    """
    distil = found.distil
    needed = sizes(found, terms, images)
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
    refuse_keep(found, terms)
    if images is not None:
        refuse_too_much(found, terms, images)
    needed = sum(sizes(found, terms, images or 1).values())
    whole = f"{images} images, {gib(needed)} of {distil.cache_gib:g} GiB" if images else f"each image, {gib(needed)}"
    listed = ", ".join(f"{place} {'x'.join(map(str, shape[1:]))}" for place, shape in shapes.items())
    listed += "" if distil.keep == "full" else f", of logits {distil.keep} classes and the rest,"
    return [f"cache    {distil.views} views of {whole}: {listed} in 16 bits, under {cache_folder() / 'teacher'}"]
