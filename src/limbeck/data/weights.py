"""Weights into a model: matched by name and shape, reported, refused when they fit only in part."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from limbeck.data.tensor_file import read_tensors
from limbeck.record import UserError

__all__ = [
    "BODIES",
    "Report",
    "encoder_parts",
    "in_parts",
    "load_backbone",
    "load_tensors",
    "load_weights",
]

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What data parallelism, torch.compile, training frameworks and wrappers put before every name."""

SHOWN = 8
COUNTER = "num_batches_tracked"
"""Batch norm's step counter: old files lack it and nothing here depends on it."""


BODIES = ("backbone", "encoder", "segformer")
"""First names of the parts that were, or would be, pretrained, where a network does not say; all else is head."""


@dataclass(frozen=True)
class Report:
    """How the tensors of a file met those of a model.

    Attributes:
        source: Where the tensors come from.
        matched: Names that were loaded.
        missing: Names the model has and the source lacks.
        unexpected: Names the source has and the model lacks.
        mismatched: Name, shape in the source, shape in the model.
    """

    source: str
    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]]

    def __str__(self) -> str:
        """One line for what fits and one for each way in which something does not, eight names each."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        shapes = [f"{name} {list(theirs)} instead of {list(ours)}" for name, theirs, ours in self.mismatched]
        lines = [
            f"{self.source}: {len(self.matched)} of {total} tensors loaded",
            *_listed("not in it, as initialised", self.missing),
            *_listed("in it, but not in the model", self.unexpected),
            *_listed("of another shape, as initialised", shapes),
        ]
        return "\n  ".join(lines)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{what} ({len(names)}): {', '.join(names[:SHOWN])}{more}"] if names else []


def load_weights(model: nn.Module, path: Path, *, partial: bool = False) -> Report:
    """Load the weights of a file or folder into ``model``: what ``read_tensors`` reads, :func:`load_tensors` loads."""
    return load_tensors(model, read_tensors(path), str(path), partial=partial)


def load_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str, *, partial: bool = False, fresh: Sequence[str] = ()
) -> Report:
    """Load tensors into ``model``, all of them or, with an error, none.

    Common prefixes are taken off when more names match without them, and ``model.old_names``, pairs of a pattern and
    its replacement, may translate what earlier releases of a library called its layers. A model that knows another
    library's layout has ``model.from_elsewhere``, which takes tensors and returns them as its own, or as they are, and
    may have ``model.advice``: from names to what should be written instead. Names that end as one of ``model.unused``
    are left out.
    Auxiliary heads are optional on both sides: a file without them leaves them as they are, and those of a file that
    the model lacks are left out.

    Args:
        model: Changed in place, once everything is known to fit.
        tensors: Names and values; floating point of any width.
        source: What to call them in messages.
        partial: Accept whatever matches, as long as something does.
        fresh: Names or leading parts of names that may stay as they were initialised.

    Raises:
        UserError: If something is missing, superfluous or of another shape, and neither ``partial`` nor ``fresh``
            accepts it; or if the tensors are integers where the model computes in floating point.
    """
    own = _own(model)
    named = _best(_namings(tensors, model), own)
    report = _compared(named, own, source)
    _refuse_integers(named, own, report)
    optional = (*fresh, *getattr(model, "aux", {}))
    if not report.matched or not (partial or _acceptable(report, optional)):
        raise UserError(_explained(report, _advice(model, named)))
    model.load_state_dict({name: named[name] for name in report.matched}, strict=False)
    return report


def encoder_parts(model: nn.Module) -> tuple[str, ...]:
    """What weights of a backbone fit in a network: paths in ``model.encoder_path``, else the first one of ``BODIES``.

    Raises:
        UserError: If there are no such parts.
    """
    known = {*model.state_dict(), *(name for name, _ in model.named_modules())}
    own = getattr(model, "encoder_path", None)
    wanted = [own] if isinstance(own, str) else list(own or [])
    found = wanted or [name for name in BODIES if name in known][:1]
    if not found or not known.issuperset(found):
        names = " or ".join(wanted or BODIES)
        raise UserError(
            f"{type(model).__name__}: no submodule is called {names}; a network whose encoder has another name says "
            'so: `self.encoder_path = "stem"`, or a list of names.'
        )
    return tuple(found)


def in_parts(name: str, parts: Sequence[str]) -> bool:
    """Whether a tensor of this name belongs to one of the parts of a network."""
    return any(_under(name, part) for part in parts)


def load_backbone(model: nn.Module, tensors: Mapping[str, Tensor], source: str, *, partial: bool = False) -> Report:
    """Load the encoder of ``model`` alone, from weights of a backbone, a classifier or a whole network like it.

    What is no part of the encoder, such as a classifier's last layer, is left out; but a file that holds more of one
    of the encoder's own parts, as a deeper network's does, is of another encoder.

    Raises:
        UserError: If the model has no encoder, nothing matches, or something is missing, superfluous or of another
            shape and ``partial`` does not accept it.
    """
    encoder = encoder_parts(model)
    path = f"{encoder[0]}." if len(encoder) == 1 else ""
    own = {name: value for name, value in _own(model).items() if in_parts(name, encoder)}
    heads = ("", *(f"{body}." for body in (*BODIES, "features")))
    bare = [
        {f"{path}{name.removeprefix(head)}": value for name, value in one.items() if name.startswith(head)}
        for one in _namings(tensors, model)
        for head in heads
    ]
    named = _best([*_namings(tensors, model), *bare], own)
    parts = {name.removeprefix(path).partition(".")[0] for name in own}
    inside = {n: v for n, v in named.items() if n.removeprefix(path).partition(".")[0] in parts}
    shown = encoder[0] if path else "all but the head"
    report = _compared({n: v for n, v in inside.items() if n.startswith(path)}, own, f"{source} ({shown})")
    _refuse_integers(inside, own, report)
    if not report.matched or not (partial or not (report.missing or report.mismatched or report.unexpected)):
        raise UserError(_explained(report))
    model.load_state_dict({name: inside[name] for name in report.matched}, strict=False)
    return report


def _own(model: nn.Module) -> dict[str, Tensor]:
    """What a file must hold: the model's state without the steps that batch norms counted."""
    return {name: value for name, value in model.state_dict().items() if not name.endswith(COUNTER)}


def _namings(tensors: Mapping[str, Tensor], model: nn.Module) -> list[dict[str, Tensor]]:
    """The tensors under every name that they may have in ``model``, what changes least first."""
    unused = (COUNTER, *getattr(model, "unused", ()))
    plain = {name: value for name, value in tensors.items() if not name.endswith(unused) and name != "n_averaged"}
    seen = [prefix for prefix in PREFIXES if any(prefix in name for name in plain)]
    chains = itertools.chain.from_iterable(itertools.permutations(seen, length) for length in range(len(seen) + 1))
    stripped = [{_without(name, chain): value for name, value in plain.items()} for chain in chains]
    old_names = getattr(model, "old_names", ())
    renamed = [{_translated(name, old_names): value for name, value in one.items()} for one in stripped if old_names]
    translate = getattr(model, "from_elsewhere", None)
    return stripped + renamed + ([dict(translate(one)) for one in stripped] if translate else [])


def _best(candidates: Sequence[dict[str, Tensor]], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The naming under which most tensors are the model's own; of equals, the first."""
    return max(candidates, key=lambda candidate: len(candidate.keys() & own.keys()))


def _without(name: str, prefixes: Sequence[str]) -> str:
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    return name


def _translated(name: str, old_names: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in old_names:
        name = re.sub(pattern, replacement, name)
    return name


def _compared(named: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str) -> Report:
    shared = [name for name in own if name in named]
    differing = [(name, tuple(named[name].shape), tuple(own[name].shape)) for name in shared]
    return Report(
        source,
        matched=[name for name, theirs, ours in differing if theirs == ours],
        missing=[name for name in own if name not in named],
        unexpected=[name for name in named if name not in own],
        mismatched=[(name, theirs, ours) for name, theirs, ours in differing if theirs != ours],
    )


def _refuse_integers(named: Mapping[str, Tensor], own: Mapping[str, Tensor], report: Report) -> None:
    integers = [n for n in report.matched if own[n].is_floating_point() and not named[n].is_floating_point()]
    if integers:
        raise UserError(
            f"{report.source}: {integers[0]} holds {named[integers[0]].dtype}, the model computes in floating point. "
            "These look like quantized weights; the checkpoint they were made from would work."
        )


def _acceptable(report: Report, optional: Sequence[str]) -> bool:
    absent = [*report.missing, *(name for name, _, _ in report.mismatched)]
    superfluous = [name for name in report.unexpected if "aux" not in name.partition(".")[0]]
    return not superfluous and all(in_parts(name, optional) for name in absent)


def _under(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _advice(model: nn.Module, named: Mapping[str, Tensor]) -> str | None:
    """What the model knows of files with these names, if it has ``advice`` to give."""
    advice = getattr(model, "advice", None)
    found: str | None = advice(named) if callable(advice) else None
    return found


def _explained(report: Report, advice: str | None = None) -> str:
    """The message of a refusal: what does not fit, what that probably means, what would work."""
    total = len(report.matched) + len(report.missing) + len(report.mismatched)
    head, _, rest = str(report).partition("\n")
    head = f"{report.source}: only {len(report.matched)} of the model's {total} tensors are in it; nothing was loaded."
    lines = [head, *rest.splitlines()]
    classes = {(theirs[0], ours[0]) for _, theirs, ours in report.mismatched if theirs[1:] == ours[1:] and theirs}
    if len(classes) == 1 and not report.missing:
        ((theirs, ours),) = classes
        lines.append(f"  It was trained for {theirs} classes, the model has {ours}.")
    if advice:
        lines.append(f"  {advice}")
    elif 2 * len(report.matched) < total:
        lines.append("  It looks like another architecture: check `kind` and its arguments.")
    if report.matched:
        lines.append("  `partial: true` would load what fits and leave the rest as initialised.")
    return "\n".join(lines)
