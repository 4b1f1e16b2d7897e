"""Weights that torchvision offers, read without unpickling anything but tensors."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor, nn

from limbeck.data.local import NotHereError, may_download
from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["address", "categories", "library_weights", "load_backbone", "named_weights"]


def library_weights(arch: str, name: str) -> dict[str, Tensor]:
    """The state dict that torchvision calls ``name`` (``DEFAULT`` is its best one) for ``arch``, downloaded once.

    Raises:
        UserError: If there are no such weights, or they cannot be downloaded.
    """
    try:
        offered = torchvision.models.get_model_weights(arch).__members__
    except ValueError:
        raise UserError(
            f"{arch}: torchvision has no weights for it; `backbone: imagenet` or a file would work."
        ) from None
    if name not in offered:
        raise UserError(f"{arch}: no weights {name!r}.{nearest(name, list(offered))} Known: {', '.join(offered)}.")
    return _download(offered[name].url)


def categories(arch: str, name: str) -> tuple[str, ...]:
    """The classes of torchvision's weights of this name for an architecture; empty if it has no such weights."""
    try:
        found = torchvision.models.get_model_weights(arch)[name]
    except (KeyError, ValueError):
        return ()
    return tuple(found.meta.get("categories", ()))


def named_weights(name: str) -> dict[str, Tensor]:
    """The state dict of torchvision's full name of a set of weights, such as ``ResNet50_Weights.DEFAULT``.

    Raises:
        UserError: If there are no such weights, or they cannot be downloaded.
    """
    return _download(address(name))


def address(name: str) -> str:
    """Where the weights of such a name lie.

    Raises:
        UserError: If there are no such weights.
    """
    try:
        return str(torchvision.models.get_weight(name).url)
    except (ValueError, AttributeError, KeyError):
        offered = [
            weights.__name__ for weights in map(torchvision.models.get_model_weights, torchvision.models.list_models())
        ]
        near = nearest(name.partition(".")[0], offered)
        raise UserError(f"{name}: torchvision has no weights of this name.{near}") from None


def _download(url: str) -> dict[str, Tensor]:
    """Weights at ``url`` through torch.hub's cache, with the hash in their name checked as they come."""
    file = Path(torch.hub.get_dir(), "checkpoints", urlparse(url).path.rpartition("/")[2])
    if not file.is_file() and not may_download():
        raise NotHereError(url)
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{url}: could not be downloaded ({error}). Fetch it elsewhere and put it at {file}, "
            "or train from random weights (`backbone: random`, no `weights`)."
        ) from error
    return state


def load_backbone(backbone: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill a backbone from the state dict of a classifier (``features.*``) or of a segmenter (``backbone.*``)."""
    plain = {key.removeprefix("features.").removeprefix("backbone."): value for key, value in state.items()}
    backbone.load_state_dict({key: plain[key] for key in backbone.state_dict()})
