"""What a step of distillation costs beside a plain one, the teacher's forward pass and torchdistill's step; JSON.

All turn about in this process, on the same networks, batches and threads; ratios are medians over the turns. Plain,
online and replay take the recipe's terms. torchdistill knows no channel-wise loss, so that its step is one of kd alone,
beside Limbeck's with kd alone; its networks are in eval mode and channels_last as Limbeck's are, and normalise the same
images. It is no part of Limbeck's environment: `pip install --no-deps --target rivals torchdistill` puts it aside;
without it those two rows are left out.

    python benchmarks/distil_step.py camvid/quick --rivals rivals --steps 4 --rounds 12
"""

import argparse
import copy
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data.sampler import Batches
from limbeck.data.stats import count_classes
from limbeck.data.transforms import Augmentation
from limbeck.data.views import Views, load
from limbeck.losses._labels import class_weights
from limbeck.recipe import Recipe, Term, read
from limbeck.recipe.lesson import lesson
from limbeck.runtimes._cores import physical_cores
from limbeck.stages.context import Context
from limbeck.stages.objective import make_objective, make_terms
from limbeck.stages.replay import shapes_at
from limbeck.stages.train import accelerator_for
from limbeck.train.cache import Entries
from limbeck.train.fit import fit
from limbeck.train.keep import Whole as Full
from limbeck.train.optim import make_optimizer
from limbeck.train.replay import Replayed
from limbeck.train.teacher import Source, Teacher

Batch = dict[str, Tensor]
Step = Callable[[], Any]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

DIFFERENT = 6
"""Batches that take turns, so that nothing is read from the processor's caches alone."""


def steps_of(recipe: Recipe, folder: Path, rivals: Path | None) -> dict[str, Step]:
    """A step of each kind."""
    context = Context(recipe, folder)
    assert recipe.train is not None
    accelerator = accelerator_for(context, recipe.train.precision)
    student, teacher = (network(context, role) for role in ("student", "teacher"))
    batches = batches_of(context)

    def step(rows: Sequence[Term], source: Callable[[Teacher, Mapping[str, Any]], Source]) -> Step:
        model = copy.deepcopy(student)
        taught = recipe.model_copy(update={"distil": recipe.distil.model_copy(update={"terms": list(rows)})})
        found = lesson(taught, "student")
        terms = make_terms(context, found, model, {"": teacher}) if rows else []
        shapes = shapes_at(found, terms)
        asked = source(Teacher(teacher, teacher.mean, teacher.std, list(shapes)), shapes) if rows else None
        objective = make_objective(context, model, recipe.train, terms, asked)
        objective.to(memory_format=torch.channels_last)
        optimizer = accelerator.prepare_optimizer(make_optimizer(objective, recipe.train.optimizer))
        ticks = fit(
            objective, itertools.cycle(batches), optimizer, recipe.train, accelerator, first=5 * 10**5, steps=10**6
        )
        return lambda: next(ticks)

    def kept(asked: Teacher, shapes: Mapping[str, Any]) -> Source:
        count = len(context.dataset("training"))
        form = Full()
        files = {at: Entries(folder, {"at": at}, count, 1, form.shape(shape)) for at, shape in shapes.items()}
        return Replayed(asked, {at: (entries, form) for at, entries in files.items()})

    alone = Teacher(teacher, teacher.mean, teacher.std, ["logits"])
    forward = itertools.cycle([channels_last(batch) for batch in batches])
    found = {
        "plain": step([], lambda asked, _: asked),
        "teacher_forward": lambda: alone(next(forward)),
        "online": step(recipe.distil.terms, lambda asked, _: asked),
        "replay": step(recipe.distil.terms, kept),
    }
    kd = [row for row in recipe.distil.terms if row.kind == "kd"][:1]
    if rivals is not None and kd:
        found["online_kd"] = step(kd, lambda asked, _: asked)
        found["torchdistill_kd"] = torchdistill(context, copy.deepcopy(student), teacher, batches, rivals)
    return found


def network(context: Context, role: str) -> Any:
    """A network of the recipe with random weights, which is as fast as a trained one."""
    model = context.network(context.section(role), context.recipe.place / role, context.num_classes)
    return model.to(memory_format=torch.channels_last).train(role == "student")


def batches_of(context: Context) -> list[Batch]:
    """Different batches of the training split, ready."""
    recipe, samples = context.recipe, context.dataset("training")
    views = Views(samples, Augmentation(recipe.data.size, recipe.data.resize, recipe.data.augment), recipe.seed, 1)
    return list(load(views, Batches(len(samples), recipe.data.batch, recipe.seed, 0, DIFFERENT), 0))


def channels_last(batch: Batch) -> Batch:
    return batch | {"image": batch["image"].contiguous(memory_format=torch.channels_last)}


class Whole(nn.Module):
    """From images in 0..1 to logits, at the images' size where torchdistill's loss on the labels needs them so."""

    def __init__(self, net: Any, resizes: bool) -> None:
        super().__init__()
        self.net, self.resizes = net, resizes
        self.mean, self.std = (torch.tensor(values).view(1, -1, 1, 1) for values in (net.mean, net.std))

    def forward(self, image: Tensor) -> Tensor:
        """Bilinear, as everywhere."""
        logits: Tensor = self.net((image - self.mean) / self.std)
        return F.interpolate(logits, image.shape[-2:], mode="bilinear") if self.resizes else logits


def torchdistill(context: Context, student: Any, teacher: Any, batches: Sequence[Batch], rivals: Path) -> Step:
    """The loop of torchdistill over a training with its KDLoss and a cross-entropy on the labels."""
    sys.path.append(str(rivals))
    from torchdistill.core.distillation import get_distillation_box

    train = context.recipe.train
    assert train is not None
    weights = train.task[0].spec.get("class_weights")
    counted = class_weights(count_classes(context.dataset("training")), weights) if isinstance(weights, str) else None
    wise = Whole(copy.deepcopy(teacher), resizes=False).eval()  # which it leaves to its user
    settings = {
        "num_epochs": 1,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "forward_hook": {"output": ["net"]}},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": train.optimizer.lr, "weight_decay": 0.01}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {
            "ce": {
                "weight": 1.0,
                "criterion": {"key": "CrossEntropyLoss", "kwargs": {"ignore_index": 255, "weight": counted}},
                "criterion_wrapper": {"key": "SimpleLossWrapper", "kwargs": {
                    "input": {"is_from_teacher": False, "module_path": ".", "io": "output"},
                    "target": {"uses_label": True},
                }},
            },
            "kd": {
                "weight": 1e-4,  # it sums over pixels
                "criterion": {"key": "KDLoss", "kwargs": {
                    "student_module_path": "net", "student_module_io": "output",
                    "teacher_module_path": ".", "teacher_module_io": "output", "temperature": 1.0, "beta": 1.0,
                }},
            },
        }}},
    }  # fmt: skip
    device = torch.device("cpu")
    box = get_distillation_box(wise, Whole(student, resizes=True), {}, settings, device, None, False, 1)
    ready = [channels_last(batch) for batch in batches]

    def steps() -> Iterator[None]:
        for batch in itertools.cycle(ready):
            box.post_forward_process(box.forward_process(batch["image"], batch["target"], {}))
            yield

    taken = steps()
    return lambda: next(taken)


def measured(steps: Mapping[str, Step], count: int, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of a step of each kind in each turn."""
    took: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(DIFFERENT + 2):
            step()  # the first of replay ask the teacher
    for turn in range(rounds):
        for name in list(steps) if turn % 2 == 0 else reversed(list(steps)):
            start = clock()
            for _ in range(count):
                steps[name]()
            took[name].append((clock() - start) / count)
    return took


def summary(took: Mapping[str, list[float]]) -> dict[str, Any]:
    """Medians, and ratios within a turn."""
    turns = [dict(zip(took, values, strict=True)) for values in zip(*took.values(), strict=True)]

    def median(ratio: Callable[[dict[str, float]], float]) -> float:
        return round(statistics.median(ratio(turn) for turn in turns), 3)

    both = lambda turn: turn["plain"] + turn["teacher_forward"]  # noqa: E731
    ratios = {
        "online / (plain + teacher_forward)": median(lambda turn: turn["online"] / both(turn)),
        "replay / plain": median(lambda turn: turn["replay"] / turn["plain"]),
        "terms' share of online": median(lambda turn: (turn["online"] - both(turn)) / turn["online"]),
    }
    if "torchdistill_kd" in took:
        ratios["online_kd / torchdistill_kd"] = median(lambda turn: turn["online_kd"] / turn["torchdistill_kd"])
    return {"ms": {name: round(1e3 * statistics.median(v), 2) for name, v in took.items()}, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", nargs="?", default="camvid/quick")
    parser.add_argument("changes", nargs="*", help="key=value")
    parser.add_argument("--steps", type=int, default=4, help="in a turn")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--rivals", type=Path, help="folder that torchdistill was installed to")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu on a machine that others use, too")
    parser.add_argument("--threads", type=int, default=physical_cores())
    given = parser.parse_args()
    recipe = read(given.recipe, given.changes)
    if given.rivals is None:
        print("without --rivals torchdistill's step is left out", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        steps = steps_of(recipe, Path(folder), given.rivals)
        torch.set_num_threads(given.threads)
        found = summary(measured(steps, given.steps, given.rounds, CLOCKS[given.clock]))
    print(
        json.dumps(
            {
                "recipe": recipe.name,
                "batch": recipe.data.batch,
                "threads": given.threads,
                "clock": given.clock,
                **found,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
