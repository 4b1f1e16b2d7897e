"""Where the other side of the distillation terms comes from: a frozen network, or what one gave before."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data.views import Batch
from limbeck.graph.network import with_channels
from limbeck.train.taps import LOGITS, Tapped

__all__ = ["Precision", "Source", "Teacher", "asked", "channels"]

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Source(Protocol):
    """Gives the teacher's side of every term for a batch."""

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Tensors without gradients by the place that terms name."""
        ...

    def close(self) -> None:
        """Let go of hooks and files."""
        ...


class Teacher:
    """A frozen network: in eval mode, without gradients, never part of what is trained or saved.

    Args:
        model: The network.
        mean: What its input is normalised with.
        std: Likewise.
        paths: Places to look at.
        size: Its own input size, [h, w]; that of the batch if None.
        precision: Of its forward pass; whatever surrounds the call if None.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        paths: Sequence[str],
        size: Sequence[int] | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.mean, self.std = channels(mean), channels(std)
        self.size, self.precision = None if size is None else torch.Size(size), precision
        self.tapped, self._whole = Tapped(self.model, paths, "teacher"), LOGITS in paths

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """What it computes at the tapped places for the batch's images in 0..1, and no further."""
        assert not any(module.training for module in self.model.modules())
        image = with_channels(batch["image"], self.mean.shape[1])
        if self.size not in (None, image.shape[-2:]):
            image = F.interpolate(image, self.size, mode="bilinear", align_corners=False, antialias=True)
        image = (image - self.mean.to(image.device)).div_(self.std.to(image.device))
        lower = DTYPES.get(self.precision or "")
        own = torch.autocast(image.device.type, dtype=lower, enabled=lower is not None)
        with own if self.precision else nullcontext():
            return self.tapped(image)[1] if self._whole else self.tapped.only(image)

    def close(self) -> None:
        """Take its hooks off."""
        self.tapped.close()


def asked(teachers: Mapping[str, Source], batch: Batch, places: Collection[str]) -> dict[str, Tensor]:
    """What teachers give at these places; one whose places are not asked for is left alone.

    Args:
        teachers: By name; the only one may have an empty name.
        batch: Images.
        places: ``name:path``, or a path alone where the teacher has no name.
    """
    found: dict[str, Tensor] = {}
    for name, teacher in teachers.items():
        if any(place.rpartition(":")[0] == name for place in places):
            found |= {f"{name}:{path}" if name else path: tensor for path, tensor in teacher(batch).items()}
    return found


def channels(values: Sequence[float]) -> Tensor:
    """A value a channel, in the shape of a batch of images."""
    return torch.tensor(list(values), dtype=torch.float32).view(1, -1, 1, 1)
