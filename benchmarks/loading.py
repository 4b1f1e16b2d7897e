"""How fast images are prepared, and what preparing them costs a training step; prints JSON.

Images per second: Limbeck without a cache, with each cache, and torchvision's v2 transforms doing the same from the
same files, all in this process and turn about. Step: a training step fed by the real loader against one on a batch that
is always ready, turn about, for each number of worker processes; beside the ratio of their times that of this process'
seconds of CPU, which other work on the machine moves less.

    python benchmarks/loading.py camvid/quick --seconds 4 --steps 25 --rounds 6 --workers 0 1
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from limbeck.data.cache import Remembered
from limbeck.data.cache_file import Stored
from limbeck.data.sampler import Batches
from limbeck.data.transforms import GREY, Augmentation
from limbeck.data.views import Views, load
from limbeck.place import Place
from limbeck.recipe import Recipe, read
from limbeck.recipe.lesson import lesson, sides
from limbeck.runtimes._cores import physical_cores
from limbeck.stages.context import Context
from limbeck.stages.data import Source
from limbeck.stages.objective import make_objective, make_terms
from limbeck.stages.train import accelerator_for
from limbeck.train.fit import fit
from limbeck.train.optim import make_optimizer
from limbeck.train.teacher import Teacher


class Torchvision:
    """The usual way: decode, v2 transforms on tv_tensors, by torchvision's own classes."""

    def __init__(self, samples: Any, recipe: Recipe) -> None:
        self.pairs = samples.pairs
        (height, width), augment = recipe.data.size, recipe.data.augment
        low, high = augment.scale or (1.0, 1.0)
        fill = {tv_tensors.Image: GREY, tv_tensors.Mask: 255}
        self.transform = v2.Compose([
            v2.Resize((height, width), antialias=True),
            v2.ScaleJitter((height, width), (low, high), antialias=True),
            v2.RandomCrop((height, width), pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(0.5 if augment.flip else 0.0),
            v2.ColorJitter(augment.color, augment.color, augment.color, augment.color / 10),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        pair = self.pairs[key[0]]
        image = tv_tensors.Image(np.array(Image.open(pair.image).convert("RGB")).transpose(2, 0, 1))
        mask = tv_tensors.Mask(np.array(Image.open(pair.mask))[None])
        return self.transform(image, mask)


def images_per_second(recipe: Recipe, seconds: float, rounds: int) -> dict[str, float]:
    source = Source(recipe.name, recipe.data.spec, Place("recipe"), recipe.root)
    plain = source.split("training")
    augmentation = Augmentation(recipe.data.size, recipe.data.resize, recipe.data.augment)
    with tempfile.TemporaryDirectory() as folder:
        kept = {
            "limbeck": plain,
            "limbeck_memory": Remembered(plain, plain.classes),
            "limbeck_disk": Remembered(Stored(plain, Path(folder), "bench", 2**34), plain.classes, budget=0),
        }
        ways: dict[str, Any] = {name: Views(samples, augmentation, recipe.seed) for name, samples in kept.items()}
        for name in ("limbeck_memory", "limbeck_disk"):
            for index in range(len(plain)):
                _ = kept[name][index]
        ways["torchvision_v2"] = Torchvision(plain, recipe)
        found: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds):
            for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
                found[name].append(_rate(ways[name], turn, seconds / rounds))
    return {name: round(statistics.median(rates), 1) for name, rates in found.items()}


def _rate(views: Any, turn: int, seconds: float) -> float:
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        _ = views[(turn * 37 + done) % len(views), turn]
        done += 1
    return done / (time.perf_counter() - start)


def step_ratio(recipe: Recipe, workers: int, steps: int, rounds: int, distilled: bool) -> dict[str, Any]:
    """Milliseconds of a step of the student, on a ready batch and with the loader, and their ratio."""
    context = Context(recipe, Path(tempfile.gettempdir()))
    assert recipe.train is not None
    settings = recipe.train.model_copy(update={"epochs": None, "steps": 10**6})
    accelerator = accelerator_for(context, settings.precision)
    student = context.network(recipe.student, recipe.place / "student", context.num_classes)
    teacher = untrained_teacher(context) if distilled else None
    terms = make_terms(context, lesson(recipe, "student"), student, {"": teacher.model}) if teacher else []
    objective = make_objective(context, student, settings, terms, teacher)
    objective.to(memory_format=torch.channels_last)
    optimizer = accelerator.prepare_optimizer(make_optimizer(objective, settings.optimizer))
    samples = context.dataset("training")
    views = Views(samples, Augmentation(recipe.data.size, recipe.data.resize, recipe.data.augment), recipe.seed)
    loader = load(views, Batches(len(samples), recipe.data.batch, recipe.seed, 0, 10**6), workers)
    real = fit(objective, loader, optimizer, settings, accelerator, first=0, steps=10**6)
    (ready,) = load(views, [[(index, 0) for index in range(recipe.data.batch)]], 0)
    fixed = fit(objective, itertools.repeat(ready), optimizer, settings, accelerator, first=0, steps=10**6)
    for index in range(len(samples)):
        _ = samples[index]  # a first epoch fills the cache
    took: dict[str, list[float]] = {"fixed": [], "real": []}
    busy: dict[str, list[float]] = {"fixed": [], "real": []}
    for turn in range(rounds):
        for name, ticks in (("fixed", fixed), ("real", real)) if turn % 2 == 0 else (("real", real), ("fixed", fixed)):
            next(ticks)
            start = time.process_time()
            took[name].append(_seconds(lambda ticks=ticks: next(ticks), steps))
            busy[name].append((time.process_time() - start) / steps)
    of_cpu = statistics.median(busy["real"]) / statistics.median(busy["fixed"])
    ratios = sorted(one / other for one, other in zip(took["real"], took["fixed"], strict=True))
    ms = {f"{name}_ms": round(1e3 * statistics.median(values), 2) for name, values in took.items()}
    middle = round(statistics.median(ratios), 3)
    return ms | {"ratio": middle, "cpu_ratio": round(of_cpu, 3), "ratios": [round(ratio, 3) for ratio in ratios]}


def untrained_teacher(context: Context) -> Teacher:
    """The recipe's teacher with random weights, which is as fast as the trained one."""
    recipe = context.recipe
    (section,) = recipe.teacher
    model = context.network(section, recipe.place / "teacher", context.num_classes)
    model.to(memory_format=torch.channels_last)
    return Teacher(model, model.mean, model.std, [sides(at)[2] for term in recipe.distil.terms for at in term.places])


def _seconds(work: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", nargs="?", default="camvid/quick")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each way to prepare images")
    parser.add_argument("--steps", type=int, default=25, help="in a turn")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    given = parser.parse_args()
    recipe = read(given.recipe)
    torch.set_num_threads(1)
    rates = images_per_second(recipe, given.seconds, given.rounds)
    steps = {
        f"{'distilled' if distilled else 'plain'}, {workers} workers": step_ratio(
            recipe, workers, given.steps, given.rounds, distilled
        )
        for distilled in (False, True)[: 1 + bool(recipe.distil.terms)]
        for workers in given.workers
    }
    found = {"recipe": recipe.name, "threads": physical_cores(), "images_per_second": rates, "step": steps}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
