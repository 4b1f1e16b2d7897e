"""What every network looks like from outside: plain logits, its normalisation, auxiliary heads that can go."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "as_logits", "aux_heads", "without_aux"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def without_aux(model: nn.Module) -> nn.Module:
    """A copy of ``model`` without its auxiliary heads: same logits, fewer parameters, an empty ``aux``."""
    bare = copy.deepcopy(model)
    for name in aux_heads(bare):
        bare.set_submodule(name, _Dropped())
    bare.__dict__["aux"] = {}
    return bare


class _Dropped(nn.Module):
    """Stands where an auxiliary head was, for a ``forward`` that still calls it in training mode."""

    def forward(self, *features: Any) -> Any:
        return features[0]


def aux_heads(model: nn.Module) -> dict[str, float | dict[str, Any]]:
    """Auxiliary heads of a model by path: a weight of the training's loss there, or a loss with ``kind``, ``weight``.

    Raises:
        UserError: If ``model.aux`` names a submodule that is not there, or a value is neither of both.
    """
    heads = getattr(model, "aux", {})
    if not isinstance(heads, Mapping):
        raise UserError(
            f"{type(model).__name__}.aux is a {type(heads).__name__}; it must map paths of auxiliary heads to loss "
            "weights. A submodule needs another name."
        )
    known = [name for name, _ in model.named_modules() if name]
    for name in heads:
        if name not in known:
            raise UserError(f"{type(model).__name__}.aux: there is no submodule {name!r}.{nearest(name, known)}")
    return {name: _head(head, f"{type(model).__name__}.aux[{name!r}]") for name, head in heads.items()}


def _head(head: Any, where: str) -> float | dict[str, Any]:
    weight = head.get("weight", 1.0) if isinstance(head, Mapping) else head
    if isinstance(head, Mapping) and not isinstance(head.get("kind"), str):
        raise UserError(f"{where} has no kind; a loss of its own looks like {{'kind': 'edge', 'weight': 20.0}}.")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
        raise UserError(f"{where}: a weight of at least 0 is needed, got {weight!r}.")
    return dict(head) if isinstance(head, Mapping) else head


def as_logits(model: nn.Module) -> nn.Module:
    """Make a network from anywhere obey the contract of this room; returns the same module, paths and keys untouched.

    Its output may be a tensor, a mapping or object with ``out`` or ``logits``, or a sequence whose first item is the
    logits. ``mean``, ``std`` and ``aux`` are kept where it has them, else they are ImageNet's and empty. Doing it twice
    does no harm.

    Raises:
        UserError: If it is no module, or its ``mean``, ``std`` or ``aux`` cannot be right; on the first forward, if its
            output is none of the above.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"the model is a {type(model).__name__}; the function a recipe names must return a torch.nn.Module."
        )
    model.__dict__["aux"] = aux_heads(model)
    for name, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        model.__dict__[name] = _triple(getattr(model, name, default), f"{type(model).__name__}.{name}")
    if _plain_logits not in model._forward_hooks.values():
        model.register_forward_hook(_plain_logits)
    return model


def _triple(value: Any, where: str) -> tuple[float, float, float]:
    if isinstance(value, Tensor | nn.Module):
        raise UserError(
            f"{where} is a {type(value).__name__}; three numbers are needed. A network that normalises its input itself"
            " keeps them under another name and has mean = (0, 0, 0), std = (1, 1, 1)."
        )
    if len(value) != 3:
        raise UserError(f"{where} is {list(value)}; three numbers for images in 0..1 are needed: red, green, blue.")
    red, green, blue = (float(number) for number in value)
    return red, green, blue


def _plain_logits(module: nn.Module, _: Any, output: Any) -> Tensor:
    """A forward hook rather than a wrapper, so that tap paths and state-dict keys stay the user's own."""
    found = output
    if isinstance(output, Mapping):
        found = output.get("out", output.get("logits"))
    elif isinstance(output, list | tuple) and output:
        found = output[0]
    elif hasattr(output, "logits"):
        found = output.logits
    if isinstance(found, Tensor):
        return found
    shown = f"a mapping with {', '.join(map(repr, output))}" if isinstance(output, Mapping) else type(output).__name__
    raise UserError(
        f"{type(module).__name__}.forward returns {shown}; a tensor, 'out', 'logits' or a sequence would work."
    )
