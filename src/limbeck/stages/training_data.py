"""What a network of a run is trained on, and for how long."""

import itertools
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from limbeck import show
from limbeck.data.stats import Contents, contents, copies
from limbeck.data.transforms import Augmentation
from limbeck.data.unlabelled import Joined
from limbeck.data.views import Views
from limbeck.datasets import Dataset, drawn
from limbeck.recipe import Train
from limbeck.recipe.lesson import is_teacher, lesson
from limbeck.record import UserError
from limbeck.runtimes._cores import cores_given
from limbeck.stages.context import Context
from limbeck.stages.unlabelled import unlabelled
from limbeck.train.session import Plan

SHOWN = 3
"""Names in a line."""

__all__ = ["check_data", "enough_workers", "plan_for", "training", "views_of"]


def training(context: Context, role: str) -> Dataset:
    """The training split; where a teacher teaches the role, the recipe's unlabelled images too."""
    dataset = context.dataset("training")
    if not context.recipe.data.unlabelled or not is_taught(context, role):
        return dataset
    return cast(Dataset, Joined(dataset, context.cached(unlabelled(context), ())))


def is_taught(context: Context, role: str) -> bool:
    """Whether a teacher has a say in the training of a role."""
    return bool(lesson(context.recipe, role).rows)


def check_data(context: Context, role: str) -> None:
    """Read every file that a role trains on or is scored on, before the first step; remembered by digest.

    Images that are scored and trained on are said, once a run.

    Raises:
        UserError: For a file that cannot be used, or if neither labels nor a teacher say anything about the images.
    """
    wanted = dict.fromkeys(("training", "validation", context.recipe.evaluate.split))
    splits: dict[str, Any] = {split: context.dataset(split) for split in wanted}
    if is_taught(context, role) and context.recipe.data.unlabelled:
        splits["unlabelled"] = unlabelled(context)
    found = {}
    for split, dataset in splits.items():
        with show.bar(f"check of the {split} data", len(dataset), unit="images") as bar:
            found[split] = contents(dataset, partial(_advance, bar))
    _say_copies(context, found)
    if not is_taught(context, role) and not any(found["training"].counts.pixels):
        labels = "masks" if context.task.dense else "classes"
        raise UserError(
            f"{context.recipe.place / 'data'}: the training images have no {labels}, "
            f"and {role} has no teacher to learn from."
        )


def _say_copies(context: Context, found: Mapping[str, Contents]) -> None:
    """Say which scored images are trained on as well, pixel for pixel."""
    for trained, scored in itertools.product(("training", "unlabelled"), ("validation", "test")):
        if trained in found and scored in found:
            twice = copies({split: found[split].images for split in (trained, scored)})
            names = [name for splits in twice for name in splits[scored]]
            if names:
                more = ", ..." if len(names) > SHOWN else ""
                context.say_once(
                    f"data: {len(names)} of the {scored} images are {trained} images too, pixel for pixel "
                    f"({', '.join(names[:SHOWN])}{more}); what is trained on should not be scored."
                )


def _advance(bar: show.Bar, done: int, total: int) -> None:
    bar.advance(done)


def views_of(context: Context, role: str) -> Views:
    """Augmented training samples of a role; so many views of each as its teacher's outputs are kept of."""
    data, taught = context.recipe.data, lesson(context.recipe, role)
    count = taught.distil.views if taught.distil.cache == "replay" and taught.rows else None
    augmentation = Augmentation(context.size(role), data.resize, data.augment)
    return Views(training(context, role), augmentation, context.seed(role), count)


def plan_for(context: Context, role: str, settings: Train) -> Plan:
    """How long and where a role is trained.

    Raises:
        UserError: If a batch is larger than the training split.
    """
    data, length, sources = context.recipe.data, *drawn(training(context, role))
    batch = settings.batch or data.batch
    if length < batch:
        own = context.where(role) if is_teacher(role) else context.recipe.place
        where = own / "train" / "batch" if settings.batch else context.recipe.place / "data" / "batch"
        raise UserError(f"{where}: {batch} images a batch, but only {length} to train on.")
    if role == "student-baseline" and data.unlabelled:  # its epochs are shorter, its training is not
        steps = plan_for(context, "student", settings).steps
        settings = settings.model_copy(update={"epochs": None, "steps": steps})
    folder = context.folder / (f"quantize/{role}" if role.startswith("qat") else role)
    seed, metric = context.seed(role), context.task.metric
    section = {"student": "train", "student-baseline": "train"}.get(role, "quantize.0.qat")
    if is_teacher(role):
        section = ".".join(map(str, (context.where(role) / "train").keys))
    workers = enough_workers(context.device) if data.workers is None else data.workers
    probe = lesson(context.recipe, role).distil.probe
    return Plan(role, folder, context.log, settings, metric, seed, batch, workers, length, section, sources, probe)


MOST_WORKERS = 8
SHARED = Path("/dev/shm")
ENOUGH_SHARED = 2**30
"""Bytes of shared memory that batches of worker processes fit into; containers often have 64 MiB."""


def enough_workers(device: str) -> int:
    """Processes that keep the device busy: up to eight beside a GPU; threads beside a CPU, which has work enough."""
    if device == "cpu" or (SHARED.is_dir() and shutil.disk_usage(SHARED).free < ENOUGH_SHARED):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    mine = min(cores, cores_given()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(MOST_WORKERS, max(0, mine - 1))
