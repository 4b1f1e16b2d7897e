"""Classifiers of timm, with its keys, with weights of the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from limbeck.data.tensor_file import read_tensors
from limbeck.data.weights import load_tensors
from limbeck.models._hub import hub_file, hub_json
from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["timm_classifier"]

TASK = "classification"

OURS = ("pretrained", "num_classes", "in_chans", "checkpoint_path", "features_only", "pretrained_cfg", "cache_dir")
"""Arguments of timm that are set here or make no sense in a classifier of colour images."""


def timm_classifier(
    *,
    num_classes: int,
    arch: str = "resnet18",
    options: dict[str, Any] | None = None,
    pretrained: str | None = None,
    root: Path | None = None,
) -> nn.Module:
    """Any of timm's classifiers: logits [n, c]. Taps are the library's own names, such as ``layer4`` or ``blocks.11``.

    Args:
        num_classes: Length of the logits.
        arch: timm's name without a tag.
        options: Further arguments of the architecture, such as ``drop_path_rate`` or ``img_size``.
        pretrained: ``DEFAULT``, a tag such as ``a1_in1k``, a hub id, or a folder with ``config.json`` and
            ``model.safetensors``; they decide on mean and standard deviation too. With other classes than theirs the
            last layer starts afresh; ``model.loaded`` tells.
        root: Folder that a relative folder is looked up in.

    Raises:
        UserError: If there is no such architecture, option or weights, they are another architecture's, or they cannot
            be had.
    """
    options = options or {}
    _check_names(arch, options)
    model = _plain(arch, num_classes, options)
    model.architecture = {"kind": "timm", "arch": arch, "options": options}
    model.aux, model.loaded = {}, None
    model.mean, model.std = _normalisation(model.pretrained_cfg)
    model.encoder_path = _encoder(model)
    if pretrained is not None:
        _load(model, arch, options, _source(arch, pretrained, root or Path()), root or Path())
    built: nn.Module = model
    return built


def _check_names(arch: str, options: dict[str, Any]) -> None:
    plain, _, tag = arch.partition(".")
    if tag and timm.is_model(plain):
        raise UserError(f"model timm: write `arch: {plain}` and `weights: {tag}` instead of {arch!r}.")
    if not timm.is_model(arch):
        raise UserError(f"model timm: no architecture {arch!r}.{nearest(arch, timm.list_models())}")
    for name in options:
        if name in OURS:
            raise UserError(f"model timm: options.{name} is not for options here.")


def _plain(arch: str, num_classes: int, options: dict[str, Any]) -> Any:
    try:
        return timm.create_model(arch, pretrained=False, num_classes=num_classes, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"model timm: {arch} with {options} does not go: {error}") from error


def _normalisation(config: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(map(float, config["mean"])), tuple(map(float, config["std"]))


def _encoder(model: Any) -> tuple[str, ...]:
    """First names of all but the classifier."""
    named = model.pretrained_cfg["classifier"]
    heads = [name.partition(".")[0] for name in ([named] if isinstance(named, str) else named or ())]
    return tuple(dict.fromkeys(n for n in (key.partition(".")[0] for key in model.state_dict()) if n not in heads))


def _source(arch: str, pretrained: str, root: Path) -> str:
    """Hub id or folder of the weights that are meant."""
    if "/" in pretrained or (root / pretrained).is_dir():
        return pretrained.removeprefix("hf-hub:")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{arch}.*")]
    if pretrained != "DEFAULT" and pretrained not in tags:
        raise UserError(
            f"model timm: {arch} has no weights {pretrained!r}.{nearest(pretrained, tags)} Known: DEFAULT, "
            f"{', '.join(tags)}; or a hub id."
        )
    config = timm.get_pretrained_cfg(arch if pretrained == "DEFAULT" else f"{arch}.{pretrained}")
    if config is None or not config.hf_hub_id:
        raise UserError(f"model timm: {arch} has no weights on the Hugging Face hub; a weight file would work.")
    return str(config.hf_hub_id)


def _load(model: Any, arch: str, options: dict[str, Any], source: str, root: Path) -> None:
    config = hub_json(source, "config.json", root)
    theirs = str(config.get("architecture", arch)).partition(".")[0]
    if theirs != arch:
        raise UserError(f"{source}: holds weights of {theirs}, not of {arch}; write `arch: {theirs}`.")
    path = hub_file(source, "model.safetensors", root)
    if path is None:
        raise UserError(
            f"{source}: it has no model.safetensors. Another file of it, downloaded, works: `weights: FILE`."
        )
    model.loaded = load_tensors(model, read_tensors(path), source, fresh=_last(arch, options))
    images = config.get("pretrained_cfg", config)
    if "mean" in images and "std" in images:
        model.mean, model.std = _normalisation(images)


def _last(arch: str, options: dict[str, Any]) -> Sequence[str]:
    """Names of the tensors that depend on the number of classes."""
    with torch.device("meta"):
        one, other = _plain(arch, 3, options).state_dict(), _plain(arch, 4, options).state_dict()
    return [name for name, value in one.items() if value.shape != other[name].shape]
