"""What every network looks like from outside: plain logits, its normalisation, auxiliary heads that can go."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "as_logits", "aux_heads", "in_classes", "with_channels", "without_aux"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)


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


def _tensor(output: Any) -> Tensor | None:
    """The logits in what a network returns."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        named = output.get("out", output.get("logits"))
        alone = [value for value in output.values() if isinstance(value, Tensor)]
        return _tensor(named) if named is not None else alone[0] if len(alone) == 1 else None
    if isinstance(output, list | tuple):
        return _tensor(output[0]) if output else None
    return getattr(output, "logits", None)


def as_logits(model: nn.Module) -> nn.Module:
    """Make a network from anywhere obey the contract of this room; returns the same module, paths and keys untouched.

    Its output may be a tensor, a mapping or object with ``out`` or ``logits`` or a single tensor, or a sequence whose
    first item is one of these. One channel z, as networks for a sigmoid have, becomes two classes with logits 0 and z:
    their softmax is the sigmoid of z. ``mean`` and ``std``, a number for each channel of the input, and ``aux`` are
    kept where it has them, else they are ImageNet's and empty. Doing it twice does no harm.

    Raises:
        UserError: If it is no module, or its ``mean``, ``std`` or ``aux`` cannot be right; on the first forward, if its
            output is none of the above.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"the model is a {type(model).__name__}; the function a recipe names must return a torch.nn.Module."
        )
    model.__dict__["aux"] = aux_heads(model)
    numbers = {}
    for name, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        numbers[name] = model.__dict__[name] = _numbers(getattr(model, name, default), f"{type(model).__name__}.{name}")
    if len(numbers["mean"]) != len(numbers["std"]):
        raise UserError(
            f"{type(model).__name__}: mean is {numbers['mean']}, std {numbers['std']}; each needs one a channel."
        )
    if _plain_logits not in model._forward_hooks.values():
        model.register_forward_hook(_plain_logits)
    return model


def in_classes(model: nn.Module, groups: Sequence[Sequence[int]] | None) -> nn.Module:
    """Let a network answer in other classes: each is one of its own, or several whose probabilities are added.

    Those of its own that are in no group are dropped. Paths and state-dict keys stay; None changes nothing.

    Args:
        model: A network that obeys the contract of this room.
        groups: For each class of the answer, its own ones; at least one.
    """
    if groups is not None:
        model.register_forward_hook(partial(_answer, [list(group) for group in groups]))
    return model


def _answer(groups: list[list[int]], _: nn.Module, __: Any, logits: Tensor) -> Tensor:
    if all(len(group) == 1 for group in groups):
        return logits.index_select(1, torch.tensor([group[0] for group in groups], device=logits.device))
    each = [logits[:, group].logsumexp(1) if len(group) > 1 else logits[:, group[0]] for group in groups]
    return torch.stack(each, 1)


def _numbers(value: Any, where: str) -> tuple[float, ...]:
    """A number for each channel of the input: red, green and blue, or grey alone, or with alpha."""
    if isinstance(value, Tensor | nn.Module):
        raise UserError(
            f"{where} is a {type(value).__name__}; numbers are needed, such as three for red, green and blue. A network"
            " that normalises its input itself keeps them under another name and has mean = (0, 0, 0), std = (1, 1, 1)."
        )
    try:
        found = tuple(float(number) for number in value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} is {value!r}; a list of numbers is needed, one a channel.") from error
    if not found:
        raise UserError(f"{where} is empty; for images in 0..1 a number a channel is needed: red, green, blue.")
    return found


def with_channels(image: Tensor, count: int) -> Tensor:
    """Images [n, c, h, w] in 0..1 with ``count`` channels, as a network takes them: grey, RGB, or RGB and alpha.

    Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), as Pillow has it; what has no alpha is opaque.

    Raises:
        UserError: If the channels are neither these nor ``count``.
    """
    found = image.shape[1]
    if found == count:
        return image
    if not {found, count} <= {1, 3, 4}:
        raise UserError(f"the images have {found} channels, the network takes {count} (mean has {count} values).")
    if count == 1:
        return (image[:, :3] * image.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    colours = image[:, :3].expand(-1, 3, -1, -1)
    return colours if count == 3 else torch.cat([colours, torch.ones_like(image[:, :1])], 1)


def _plain_logits(module: nn.Module, _: Any, output: Any) -> Tensor:
    """A forward hook rather than a wrapper, so that tap paths and state-dict keys stay the user's own."""
    found = _tensor(output)
    if found is not None:
        return torch.cat([torch.zeros_like(found), found], 1) if found.ndim > 1 and found.shape[1] == 1 else found
    shown = f"a mapping with {', '.join(map(repr, output))}" if isinstance(output, Mapping) else type(output).__name__
    raise UserError(
        f"{type(module).__name__}.forward returns {shown}; a tensor, 'out', 'logits' or a sequence would work."
    )
