"""The objective: everything that is trained, and the loss of a batch."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limbeck.data.sample import void_of
from limbeck.data.views import Batch
from limbeck.graph.network import with_channels
from limbeck.train.average import Average
from limbeck.train.labels import TaskTerm
from limbeck.train.taps import LOGITS, Tapped
from limbeck.train.teacher import Source, asked, channels
from limbeck.train.terms import Term

__all__ = ["Modes", "Objective", "Step", "eager_modes"]

Modes = Callable[[bool, float], None]
"""``modes(train, share)`` puts the student in the mode it has after this share of the training."""


@dataclass
class Step:
    """What a batch gave: the loss, its parts (weighted, ``live`` ones with their gradients) and the logits."""

    loss: Tensor
    parts: dict[str, Tensor]
    logits: Tensor
    live: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module):
    """Losses on the labels plus weighted agreement with a teacher; the teacher is held, not owned.

    Args:
        student: Network that is trained.
        task: Losses of what the student computes and the target; weights of 0 train on the teacher alone.
        terms: Distillation terms.
        teacher: What the terms' other side comes from, if there are any; several by the names that places begin with.
        own: The student's own average, if it teaches too.
        mean: What the student's input is normalised with.
        std: Likewise.
        modes: Puts the student in train or eval mode; an exported graph needs its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        student: nn.Module,
        task: Sequence[TaskTerm],
        *,
        terms: Sequence[Term] = (),
        teacher: Source | Mapping[str, Source] | None = None,
        own: Average | None = None,
        mean: Sequence[float],
        std: Sequence[float],
        modes: Modes | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.task, self.terms = nn.ModuleList(task), nn.ModuleList(terms)
        several = dict(teacher) if isinstance(teacher, Mapping) else {"": teacher} if teacher is not None else {}
        self._teachers = several | ({own.name: own} if own else {})  # no submodules: never saved, switched or optimised
        self._own = [own]
        self._taps = [
            Tapped(student, [*(t.at for t in task), *(m.student for t in terms for m in t.matches)], "student")
        ]
        self._modes = modes or eager_modes(student)
        self.seconds = {"teacher": 0.0, "loss": 0.0}
        self.timed = True
        self.steps: int | None = None  # of the whole training, for schedules that count steps
        self.register_buffer("mean", channels(mean), persistent=False)
        self.register_buffer("std", channels(std), persistent=False)

    def mode(self, train: bool, share: float = 0.0) -> None:
        """Switch to training or evaluation; the only way to do so."""
        self._modes(train, share)

    def forward(self, batch: Batch, share: float) -> Step:
        """Loss of a batch after this share of the training."""
        image, target = batch["image"], batch.get("target")
        with self._timed("teacher"):
            heard = [term for term in self._distil() if term.strength(share, self.steps)]
            wanted = asked(self._teachers, batch, {place for term in heard for place in term.sources})
        logits, taps = self._taps[0]((with_channels(image, self.mean.shape[1]) - self.mean).div_(self.std))
        with self._timed("loss"):
            truth = _meant(target, batch.get("labelled"))
            parts = self._task_parts(taps, truth, share)
            taps, wanted = _ready(taps), _ready(wanted)
            for term in self._distil():
                seen = truth if term.reads_labels else target
                parts[term.name] = term.part(taps, wanted, seen, share, self.steps, truth)
        loss = torch.stack(list(parts.values())).sum()
        return Step(loss, {name: part.detach() for name, part in parts.items()}, logits, parts)

    def _distil(self) -> list[Term]:
        return [term for term in self.terms if isinstance(term, Term)]

    def _task_parts(self, taps: Mapping[str, Tensor], target: Tensor | None, share: float) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        for term in self.task if target is not None else ():
            assert isinstance(term, TaskTerm)
            found = term(taps, target, share, self.steps)
            parts[term.name] = parts[term.name] + found if term.name in parts else found
        return parts

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        self._synchronise()
        start = time.perf_counter()
        yield
        self._synchronise()
        self.seconds[what] += time.perf_counter() - start

    def _synchronise(self) -> None:
        if self.timed and self.mean.is_cuda:
            torch.cuda.synchronize()

    @property
    def own(self) -> Average | None:
        """The student's own average, if it teaches: it follows the student after each step, and is saved with it."""
        return self._own[0]

    def close(self) -> None:
        """Take all hooks off the student and the teachers."""
        self._taps[0].close()
        for teacher in self._teachers.values():
            teacher.close()


def eager_modes(student: nn.Module, freeze_batch_norm: float = 1.0) -> Modes:
    """Modes of an eager network; batch norm statistics stay once ``share`` reaches ``freeze_batch_norm``."""

    def modes(train: bool, share: float) -> None:
        student.train(train)
        if train and share >= freeze_batch_norm:
            for module in student.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    return modes


def _ready(places: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Logits in float32, class after class in memory, once for all terms: softmaxes are fastest on those."""
    logits = {at for at in places if at.rpartition(":")[2] == LOGITS}
    return {at: tensor.float().contiguous() if at in logits else tensor for at, tensor in places.items()}


def _meant(target: Tensor | None, labelled: Tensor | None) -> Tensor | None:
    """The target as losses that read its classes may see it: void all over where it has no labels."""
    if target is None or labelled is None or labelled.all():
        return target
    return torch.where(labelled.view(-1, *[1] * (target.ndim - 1)), target, void_of(target))
