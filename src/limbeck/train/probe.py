"""What each term of a distillation does to the student: whether it gives a gradient, how strong, in which direction.

The steps that are looked at follow from the schedule alone, and a look reuses the step's own graph: a training with
and one without it end with the same bits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from limbeck import show
from limbeck.data.sample import void_of
from limbeck.data.views import Batch
from limbeck.record import UserError
from limbeck.train.objective import Objective, Step
from limbeck.train.terms import Term

__all__ = ["Probe", "Pull", "lines", "record"]

CHECKED = 3
"""First active steps of a term in which it must have given the student a gradient."""

MEASURED = 0.05
"""Share of the steps after which the gradients are compared; a term that is not active then, at its nearest step."""

MILD = (0.1, 10.0)
"""Ratios of a term's gradient to the labels' for which no other weight is suggested."""

TASK = "task"


@dataclass(frozen=True)
class Pull:
    """How strongly and where to a part of the loss pulls the student, at the full weight of its row.

    Attributes:
        norm: Of its gradient over all parameters of the student; None where it is not finite.
        ratio: Of this norm to that of the labels; None for what the others are compared with.
        cosine: Of the angle between both gradients.
        weight: The row's.
        suggested: The weight at which both norms are equal, where the ratio is below 0.1 or above 10; none against the
            student's own average, whose gradient is small because it is hardly older than the student.
    """

    norm: float | None
    ratio: float | None = None
    cosine: float | None = None
    weight: float | None = None
    suggested: float | None = None


class Probe:
    """Looks at the gradients of an objective's terms in a few of its steps, on every process the same ones.

    Args:
        objective: What is trained.
        steps: Steps of the training.
    """

    def __init__(self, objective: Objective, steps: int) -> None:
        self._student, self._steps = objective.student, steps
        self._terms: list[Term] = list(objective.terms)  # type: ignore[arg-type]
        self._checks = {term.name: self._first_active(term) for term in self._terms}
        self._at = {term.name: self._measuring_step(term) for term in self._terms}
        self._silent = dict.fromkeys(self._checks, 0)
        self._own = {term.name for term in self._terms if _of_own(term, objective)}

    def due(self, step: int) -> bool:
        """Whether this step, counted from 0, is looked at."""
        return step in self._at.values() or any(step in steps for steps in self._checks.values())

    def look(self, step: int, found: Step, batch: Batch, scale: float | None = None) -> dict[str, Pull]:
        """Check and measure what is due, before the step's own backward pass.

        Args:
            step: Counted from 0.
            found: What the step's first batch gave.
            batch: That batch.
            scale: What the loss is multiplied with in fp16, where gradients would be 0 otherwise.

        Returns:
            The pull of the labels and of the terms by name; empty unless some are due.

        Raises:
            UserError: If a term gave no gradient in its first active steps, or one that is not finite.
        """
        active = [term for term in self._terms if term.name in found.live]
        for term in active:
            if step in self._checks[term.name]:
                self._check(term, step, self._gradient(found.live[term.name], scale), batch, scaled=scale is not None)
        return self._compared(step, found, [term for term in active if step == self._at[term.name]], scale)

    def _first_active(self, term: Term) -> list[int]:
        return list(islice((step for step in range(self._steps) if self._factor(term, step) > 0), CHECKED))

    def _measuring_step(self, term: Term) -> int | None:
        """The first active step after the share, else the last before it; None where there is none at all."""
        start = min(self._steps - 1, math.ceil(MEASURED * self._steps))
        later, before = range(start, self._steps), range(start - 1, -1, -1)
        return next((step for step in (*later, *before) if self._factor(term, step) > 0), None)

    def _factor(self, term: Term, step: int) -> float:
        return term.strength((step + 0.5) / self._steps, self._steps) / term.weight

    def _gradient(self, part: Tensor, scale: float | None) -> Tensor | None:
        """Over all parameters of the student, in one vector; None where the part does not depend on any."""
        if not part.requires_grad:
            return None
        parameters = [parameter for parameter in self._student.parameters() if parameter.requires_grad]
        scaled = part if scale is None else part * scale
        found = torch.autograd.grad(scaled, parameters, retain_graph=True, allow_unused=True)
        if all(gradient is None for gradient in found):
            return None
        pairs = zip(found, parameters, strict=True)
        flat = torch.cat([(torch.zeros_like(p) if g is None else g).flatten().float() for g, p in pairs])
        return flat if scale is None else flat / scale

    def _check(self, term: Term, step: int, pull: Tensor | None, batch: Batch, scaled: bool) -> None:
        """Raise where a term says nothing; a scaled loss may overflow in its first steps, and is scaled less then."""
        if pull is None:
            raise UserError(
                f"{term.where}: {term.name} cannot teach the student anything: no trained parameter of it leads to "
                f"student.{term.match.student}. Frozen or detached layers in front of it? Compare another place."
            )
        finite = bool(torch.isfinite(pull).all())
        if not finite and not scaled:
            raise UserError(
                f"{term.where}: {term.name} gives the student a gradient that is not finite at step {step + 1}. A "
                "larger temperature, or another loss for this place, would work."
            )
        steps = self._checks[term.name]
        silent = finite and not bool(pull.any()) and term.name not in self._own  # which begins as the student is
        self._silent[term.name] += silent and _says_something(batch)
        if step == steps[-1] and self._silent[term.name] == len(steps):  # fewer after going on from a checkpoint
            raise UserError(_silent(term, len(steps)))

    def _compared(self, step: int, found: Step, terms: Sequence[Term], scale: float | None) -> dict[str, Pull]:
        """Pulls of the terms against that of the labels, or of the first term where the labels have no weight."""
        if not terms:
            return {}
        names = {term.name for term in self._terms}
        labels = [part for name, part in found.live.items() if name not in names and part.requires_grad]
        own = self._gradient(torch.stack(labels).sum(), scale) if labels else None
        result = {TASK: Pull(_norm(own))} if own is not None and bool(own.any()) else {}
        for term in terms:
            pull = self._gradient(found.live[term.name], scale)
            pull = torch.zeros(1) if pull is None else pull / self._factor(term, step)  # as once the weight has risen
            if own is None or not result:
                own, result[term.name] = pull, Pull(_norm(pull), weight=term.weight)
            else:
                result[term.name] = _against(own, pull, term.weight, suggest=term.name not in self._own)
        return result


def _of_own(term: Term, objective: Objective) -> bool:
    """Whether a term looks at the student's own average, which is hardly another network at first."""
    own = objective.own
    return own is not None and any(place.rpartition(":")[0] == own.name for place in term.sources)


def _against(reference: Tensor, pull: Tensor, weight: float, suggest: bool) -> Pull:
    norm, other = _norm(pull), _norm(reference)
    if norm is None or not other:
        return Pull(norm, weight=weight)
    cosine = float(torch.dot(pull, reference)) / (norm * other) if norm and pull.shape == reference.shape else None
    ratio = norm / other
    mild = not norm or not suggest or MILD[0] <= ratio <= MILD[1]
    suggested = None if mild else float(f"{weight / ratio:.2g}")
    return Pull(norm, ratio, cosine, weight, suggested)


def _norm(vector: Tensor) -> float | None:
    found = float(torch.linalg.vector_norm(vector, dtype=torch.float64))
    return found if math.isfinite(found) else None


def _says_something(batch: Batch) -> bool:
    """Whether the batch has a pixel or an image that is not void: all losses may be flat where there is none."""
    target, labelled = batch.get("target"), batch.get("labelled")
    if target is None:
        return True
    valid = target != void_of(target)
    if labelled is not None:
        valid = valid & labelled.view(-1, *[1] * (target.ndim - 1))
    return bool(valid.any())


def _silent(term: Term, steps: int) -> str:
    places = f"student.{term.match.student} and teacher.{term.match.teacher}"
    return (
        f"{term.where}: {term.name} gave the student a gradient of 0 in its first {steps} steps. Likely: {places} are "
        "the same already, the loss is saturated (a temperature far too low), or every pixel it looks at is void. "
        "distil.probe=false lets it be."
    )


def lines(pulls: Mapping[str, Pull], terms: Sequence[nn.Module]) -> list[str]:
    """The pulls as aligned lines under a head, with the change of the recipe that is suggested."""
    keys = {str(term.name): ".".join(map(str, term.where.keys)) for term in terms if isinstance(term, Term)}
    against = next((name for name, pull in pulls.items() if pull.ratio is None), TASK)
    rows = [("term", "gradient", f"against {against}", "angle", "weight", "try")]
    for name, pull in pulls.items():
        change = "" if pull.suggested is None else f"{keys[name]}.weight={pull.suggested:g}"
        norm, ratio, weight = (_cell(value) for value in (pull.norm, pull.ratio, pull.weight))
        rows.append((name, norm, ratio, _angle(pull.cosine), weight, change))
    return show.aligned(rows)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _angle(cosine: float | None) -> str:
    return "-" if cosine is None else f"{math.degrees(math.acos(max(-1.0, min(1.0, cosine)))):.0f}\N{DEGREE SIGN}"


def record(pulls: Mapping[str, Pull]) -> dict[str, dict[str, float | None]]:
    """The pulls as they are logged; what a part has not is left out."""
    return {
        name: {key: value for key, value in asdict(pull).items() if value is not None or key == "norm"}
        for name, pull in pulls.items()
    }
