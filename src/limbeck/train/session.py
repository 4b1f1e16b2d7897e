"""What happens between the steps of a training: log, validate, keep the best, save, stop, take up again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file
from torch.optim import Optimizer

from limbeck import show
from limbeck.data.sampler import Batches
from limbeck.data.views import Views, load
from limbeck.data.weight_file import save_weights
from limbeck.recipe import Train
from limbeck.record import UserError
from limbeck.stop import SIGNALS, between_steps, error_of
from limbeck.train import checkpoint, log
from limbeck.train.fit import Tick, fit
from limbeck.train.objective import Objective
from limbeck.train.optim import Ema, make_optimizer
from limbeck.train.probe import Probe, lines, record

__all__ = ["Plan", "Result", "train"]

BEST = "best.safetensors"

OUT_OF_MEMORY = ("out of memory", "allocate memory")
"""What torch says on a GPU and on a CPU; an illegal memory access is something else."""


@dataclass(frozen=True)
class Plan:
    """One training: what it is called, where it lives, how long it is.

    Attributes:
        stage: Name in the log: ``teacher``, ``student``, ``student-baseline``, ``qat``, ...
        folder: Where checkpoints and the best weights go.
        log: The run's metrics.jsonl.
        settings: The recipe's section.
        metric: Score that decides what is best, higher is better.
        seed: Of the whole run.
        batch: Images a batch over all processes.
        workers: Processes that prepare images.
        length: Training samples in an epoch.
        section: Keys of the recipe that ``settings`` come from, for advice.
        sources: Of several sources, each one's samples and samples an epoch; see :class:`limbeck.data.sampler.Batches`.
        probe: Whether the gradients of distillation terms are looked at.
    """

    stage: str
    folder: Path
    log: Path
    settings: Train
    metric: str
    seed: int
    batch: int
    workers: int
    length: int
    section: str = "train"
    sources: Sequence[tuple[int, int]] = ()
    probe: bool = True

    @property
    def per_epoch(self) -> int:
        """Steps an epoch, at least 1."""
        return max(1, self.length // (self.batch * self.settings.accumulate))

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.settings.steps or max(1, round((self.settings.epochs or 0) * self.per_epoch))

    def every(self, epochs: float) -> int:
        """Steps in so many epochs, at least 1."""
        return max(1, round(epochs * self.per_epoch))


@dataclass
class Result:
    """How a training went."""

    steps: int
    best: float | None
    best_step: int
    resumed_from: int
    stopped_early: bool = False
    seconds: float = 0.0


@dataclass
class _Progress:
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    seconds: float = 0.0
    averages: log.Averages = field(default_factory=log.Averages)

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "worse": self.worse, "seconds": self.seconds}


Validate = Callable[[], dict[str, Any]]


def train(
    plan: Plan, objective: Objective, views: Views, validate: Validate | None, accelerator: Accelerator
) -> Result:
    """Train to the end, from the newest checkpoint if there is one, and leave the student with its best weights.

    Args:
        plan: What and how long.
        objective: What is trained; on the accelerator's device after this.
        views: Training samples.
        validate: Scores of the student as it stands; None keeps the last weights.
        accelerator: Device, precision and processes.

    Raises:
        KeyboardInterrupt, Evicted: After Ctrl-C, or SIGTERM or SIGUSR1, once everything is saved.
        UserError: If memory runs out; names a batch that would fit.
    """
    objective.to(accelerator.device)
    if plan.settings.channels_last:
        objective.to(memory_format=torch.channels_last)
    optimizer = accelerator.prepare_optimizer(make_optimizer(objective, plan.settings.optimizer))
    ema = Ema(objective.student, plan.settings.ema) if plan.settings.ema else None
    torch.manual_seed(plan.seed + accelerator.process_index)
    first, progress = _resume(plan, objective, optimizer, ema, accelerator)
    result = Result(first, progress.best, progress.best_step, first, _gave_up(plan, progress), progress.seconds)
    batches = Batches(
        plan.length, plan.batch, plan.seed, first * plan.settings.accumulate, plan.steps * plan.settings.accumulate,
        accelerator.process_index, accelerator.num_processes, plan.sources,
    )  # fmt: skip
    ticks = fit(
        objective, load(views, batches, plan.workers), optimizer, plan.settings, accelerator,
        first=first, steps=plan.steps,
        probe=Probe(objective, plan.steps) if plan.probe and objective.terms else None,
    )  # fmt: skip
    with between_steps() as interrupted, show.bar(plan.stage, plan.steps, done=first) as bar, _memory(plan):
        for tick in () if _gave_up(plan, progress) else ticks:
            progress.seconds += tick.took
            if ema:
                ema.update(objective.student)
            if objective.own:
                objective.own.follow(objective.student)
            stop = _between(plan, tick, objective, ema, progress, validate, accelerator)
            bar.note = _note(tick, progress)
            bar.advance(tick.step)
            asked = _agreed(interrupted.signum, accelerator)
            if asked or stop or tick.step == plan.steps or tick.step % plan.every(plan.settings.checkpoint.every) == 0:
                _save(plan, tick.step, objective, optimizer, ema, progress, accelerator)
            result = Result(tick.step, progress.best, progress.best_step, first, stop, progress.seconds)
            if asked:
                show.say(
                    f"{plan.stage}: stopped and saved at step {tick.step} of {plan.steps}; the same command goes on."
                )
                raise error_of(asked)
            if stop:
                break
    _take_best(plan, objective, ema, validate)
    objective.close()
    return result


def _between(
    plan: Plan,
    tick: Tick,
    objective: Objective,
    ema: Ema | None,
    progress: _Progress,
    validate: Validate | None,
    accelerator: Accelerator,
) -> bool:
    """Log and validate where it is time to; True when there is no use in going on."""
    progress.averages.add(tick)
    if tick.pulls and accelerator.is_main_process:
        _tell_pulls(plan, tick, objective)
    last = tick.step == plan.steps
    epoch = round(tick.step / plan.per_epoch, 4)
    if last or tick.step % max(1, plan.per_epoch // 10) == 0:
        line = progress.averages.line()
        if accelerator.is_main_process:
            log.append(plan.log, {"stage": plan.stage, "step": tick.step, "epoch": epoch, **line})
    if validate is None or not (last or tick.step % plan.every(plan.settings.validate_every) == 0):
        return False
    scores: dict[str, Any] = {}
    if accelerator.is_main_process:
        scores = _validated(objective, ema, validate, tick.step / plan.steps)
    score = _shared(scores.get(plan.metric), accelerator)
    better = score is not None and (progress.best is None or score > progress.best)
    if better or progress.best_step == 0:
        progress.best, progress.best_step, progress.worse = score, tick.step, 0
        if accelerator.is_main_process:
            _keep_best(plan, objective, ema)
    else:
        progress.worse += 1
    if accelerator.is_main_process:
        spent = round(progress.seconds, 3)
        line = {"stage": plan.stage, "step": tick.step, "epoch": epoch, "seconds": spent, **scores, "best": better}
        log.append(plan.log, line)
    progress.averages.reset()
    return _gave_up(plan, progress)


def _tell_pulls(plan: Plan, tick: Tick, objective: Objective) -> None:
    show.say(f"{plan.stage}: gradients of the student at step {tick.step}, at full weight")
    for line in lines(tick.pulls, list(objective.terms)):
        show.say(line)
    log.append(plan.log, {"stage": plan.stage, "step": tick.step, "gradients": record(tick.pulls)})


def _gave_up(plan: Plan, progress: _Progress) -> bool:
    return plan.settings.early_stop is not None and progress.worse >= plan.settings.early_stop


def _validated(objective: Objective, ema: Ema | None, validate: Validate, share: float) -> dict[str, Any]:
    objective.mode(False, share)
    with ema.swapped(objective.student) if ema else nullcontext():
        found = validate()
    return {name: float(value) for name, value in found.items() if isinstance(value, Real)}


def _keep_best(plan: Plan, objective: Objective, ema: Ema | None) -> None:
    with ema.swapped(objective.student) if ema else nullcontext():
        save_weights(objective.student, plan.folder / BEST, {})


def _take_best(plan: Plan, objective: Objective, ema: Ema | None, validate: Validate | None) -> None:
    if validate is not None:
        objective.student.load_state_dict(load_file(plan.folder / BEST))
    elif ema:
        with torch.no_grad():
            for name, parameter in objective.student.named_parameters():
                parameter.copy_(ema.average[name])
    objective.mode(False, 1.0)


def _save(
    plan: Plan,
    step: int,
    objective: Objective,
    optimizer: Optimizer,
    ema: Ema | None,
    progress: _Progress,
    accelerator: Accelerator,
) -> None:
    if accelerator.is_main_process:
        scaler = {} if accelerator.scaler is None else accelerator.scaler.state_dict()
        state = {
            "step": step, "objective": objective.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler,
            "ema": ema.state() if ema else None, "own": objective.own.state() if objective.own else None,
            "rng": checkpoint.rng_state(), "progress": progress.state(),
        }  # fmt: skip
        checkpoint.save(plan.folder / "checkpoints", step, state, plan.settings.checkpoint.keep)
    accelerator.wait_for_everyone()


def _resume(
    plan: Plan, objective: Objective, optimizer: Optimizer, ema: Ema | None, accelerator: Accelerator
) -> tuple[int, _Progress]:
    """Take up the newest checkpoint; step 0 where there is none."""
    path = checkpoint.latest(plan.folder / "checkpoints")
    if accelerator.is_main_process:
        log.cut_back(plan.log, plan.stage, int(path.stem.split("-")[1]) if path else 0)
    if path is None:
        return 0, _Progress()
    state = checkpoint.load(path)
    objective.load_state_dict(state["objective"])
    optimizer.load_state_dict(state["optimizer"])
    if ema:
        ema.load(state["ema"])
    if objective.own:
        objective.own.load(state["own"])
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    if accelerator.is_main_process:
        checkpoint.set_rng_state(state["rng"])
    else:
        torch.manual_seed(plan.seed + accelerator.process_index + state["step"])
    show.say(f"{plan.stage}: goes on at step {state['step']} of {plan.steps}")
    return int(state["step"]), _Progress(**state["progress"])


def _shared(value: float | None, accelerator: Accelerator) -> float | None:
    """The first process's value, on all of them."""
    holder = [value]
    if accelerator.num_processes > 1:
        broadcast_object_list(holder)
    return holder[0]


def _agreed(signum: int, accelerator: Accelerator) -> int:
    """On all processes the signal that any of them was asked to stop by; 0 if none was."""
    if accelerator.num_processes == 1:
        return signum
    asked = torch.tensor([float(signum == number) for number in SIGNALS], device=accelerator.device)
    heard = accelerator.reduce(asked, reduction="sum").tolist()
    return next((int(number) for number, times in zip(SIGNALS, heard, strict=True) if times), 0)


def _note(tick: Tick, progress: _Progress) -> str:
    best = "" if progress.best is None else f"  best {progress.best:.2f}"
    return f"loss {float(tick.loss):.3f}{best}"


@contextmanager
def _memory(plan: Plan) -> Iterator[None]:
    """Turn an out-of-memory error into advice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error).lower() for sign in OUT_OF_MEMORY):
            raise
        fits = max(1, plan.batch // 2)
        raise UserError(
            f"{plan.stage}: out of memory with batches of {plan.batch}. Try {plan.section}.batch={fits} "
            f"{plan.section}.accumulate={plan.settings.accumulate * plan.batch // fits}: the same images a step."
        ) from error
