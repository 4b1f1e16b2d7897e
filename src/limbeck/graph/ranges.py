"""Ranges of tensors: how they are observed, and the fake quantization that follows them.

A :class:`Range` keeps one scale and zero point and uses exactly these in training and in the converted graph; torchao's
own fused module trains symmetric weights on a scale that differs from the shipped one by 255/254. Its switches are
plain Python flags, so that a frozen range costs one comparison and no device synchronisation.

The order in which a prepared graph is used::

    observe(graph)          # look only: post-training calibration, outputs are those of the float model
    quantized_on(graph)     # quantize, and follow the values while training
    freeze_observers(graph) # quantize on fixed ranges
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import FakeQuantizeBase

from limbeck.record import UserError

__all__ = [
    "Range",
    "calibrated",
    "float_only",
    "freeze_observers",
    "observe",
    "quantized_on",
    "ranges",
    "switch",
    "switches",
]

SMALLEST_SCALE = 2.0**-20
"""Bounds the integer bias of a dead channel: bias / (input scale x weight scale) must fit 32 bits."""

SLOWEST_FOLLOWING = 0.01
"""Share a new batch has in a range once 100 batches have been seen; until then all batches count alike."""


class Range(FakeQuantizeBase):  # type: ignore[misc]  # torchao has no types
    """The range of one tensor, and the fake quantization of its values.

    Of activations the lowest and highest value are averaged over the batches seen: the mean min-max calibration of CPU
    runtimes. Those of weights are the current ones.

    Args:
        dtype: ``torch.uint8`` or ``torch.int8``: what the converted graph stores.
        quant_min: Lowest integer.
        quant_max: Highest integer.
        qscheme: Affine or symmetric, per tensor or per channel.
        ch_axis: Channel axis of a per-channel range.
        is_dynamic: Always False; part of torchao's calling convention.
        fixed: Scale and zero point that are known beforehand, such as those of a sigmoid; nothing is observed then.
        weight: True if the values are parameters: the range follows them without averaging.
    """

    scale: Tensor
    zero_point: Tensor
    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(
        self,
        dtype: torch.dtype,
        quant_min: int,
        quant_max: int,
        qscheme: torch.qscheme,
        ch_axis: int = 0,
        is_dynamic: bool = False,
        fixed: tuple[float, int] | None = None,
        weight: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        if is_dynamic:
            raise ValueError("Range: dynamic quantization is not supported")
        self.dtype, self.qscheme, self.is_dynamic = dtype, qscheme, is_dynamic
        self.quant_min, self.quant_max = quant_min, quant_max
        self.per_channel = qscheme in (torch.per_channel_symmetric, torch.per_channel_affine)
        self.symmetric = qscheme in (torch.per_channel_symmetric, torch.per_tensor_symmetric)
        self.ch_axis = ch_axis if self.per_channel else -1
        self.fixed, self.weight = fixed is not None, weight
        self.observing, self.quantizing = fixed is None, True
        scale, zero_point = fixed or (1.0, 0)
        self.register_buffer("scale", torch.tensor([scale]))
        self.register_buffer("zero_point", torch.tensor([zero_point], dtype=torch.int32))
        self.register_buffer("low", torch.zeros(1))
        self.register_buffer("high", torch.zeros(1))
        self.register_buffer("seen", torch.tensor(int(self.fixed)))

    def forward(self, x: Tensor) -> Tensor:
        """``x``, looked at and fake-quantized as the switches say; while quantizing, only training looks."""
        if self.observing and (self.training or not self.quantizing):
            self.look(x.detach())
        return self.quantize(x) if self.quantizing else x

    def quantize(self, x: Tensor) -> Tensor:
        """``(clamp(round(x / scale) + zero_point) - zero_point) * scale``, straight-through inside the range."""
        if self.per_channel:
            return torch.fake_quantize_per_channel_affine(
                x, self.scale, self.zero_point, self.ch_axis, self.quant_min, self.quant_max
            )
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, self.quant_min, self.quant_max)

    @torch.no_grad()
    def look(self, x: Tensor) -> None:
        """Move the range towards the values of one batch."""
        low, high = self._extremes(x.float())
        if self.weight:
            self._put("low", low)
            self._put("high", high)
        else:
            share = torch.clamp(1.0 / (self.seen + 1), min=SLOWEST_FOLLOWING)
            self.low.lerp_(low, share)
            self.high.lerp_(high, share)
        self.seen += 1
        self._follow()

    def _extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.per_channel:
            low, high = torch.aminmax(x.movedim(self.ch_axis, 0).flatten(1), dim=1)
            return low, high
        low, high = torch.aminmax(x)
        return low.reshape(1), high.reshape(1)

    def _follow(self) -> None:
        low, high = self.low.clamp(max=0.0), self.high.clamp(min=0.0)
        steps = self.quant_max - self.quant_min
        if not self.symmetric:
            scale = ((high - low) / steps).clamp(min=SMALLEST_SCALE)
            zero_point = (self.quant_min - torch.round(low / scale)).clamp(self.quant_min, self.quant_max)
        elif self.quant_min < 0:
            scale = (torch.maximum(-low, high) / self.quant_max).clamp(min=SMALLEST_SCALE)
            zero_point = torch.zeros_like(scale)
        else:
            signed = low < 0
            half = (steps + 1) // 2
            reach = torch.where(signed, torch.maximum(-low / half, high / (half - 1)), high / steps)
            scale = reach.clamp(min=SMALLEST_SCALE)
            zero_point = torch.where(signed, half, 0)
        self._put("scale", scale)
        self._put("zero_point", zero_point.to(torch.int32))

    def _put(self, name: str, value: Tensor) -> None:
        # In place where it fits: others (DDP, a graph of kernels) hold on to the buffer.
        held = getattr(self, name)
        if held.shape == value.shape:
            held.copy_(value)
        else:
            setattr(self, name, value)

    def calculate_qparams(self, **_unused: Any) -> tuple[Tensor, Tensor]:
        """The scale and zero point in use: what is converted is what was trained."""
        return self.scale, self.zero_point

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        kind = "per channel" if self.per_channel else "per tensor"
        return f"{self.dtype}, {kind}, observing={self.observing}, quantizing={self.quantizing}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # A range that has seen nothing holds one value; a saved one may hold one a channel.
        for name in ("scale", "zero_point", "low", "high"):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor):
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def ranges(graph: nn.Module) -> Iterator[tuple[str, Range]]:
    """Every range of a prepared graph, once, with its name."""
    return ((name, module) for name, module in graph.named_modules() if isinstance(module, Range))


def switch(graph: nn.Module, *, observing: bool, quantizing: bool) -> None:
    """Set both switches of every range; those with fixed parameters never observe."""
    for _, one in ranges(graph):
        one.observing, one.quantizing = observing and not one.fixed, quantizing


def observe(graph: nn.Module) -> None:
    """Look at values, quantize nothing: the graph computes what the float model computes."""
    switch(graph, observing=True, quantizing=False)


def quantized_on(graph: nn.Module) -> None:
    """Quantize, and let ranges follow the values of training batches.

    Raises:
        UserError: If a range has seen nothing yet.
    """
    calibrated(graph)
    switch(graph, observing=True, quantizing=True)


def freeze_observers(graph: nn.Module) -> None:
    """Quantize on fixed ranges.

    Raises:
        UserError: If a range has seen nothing yet.
    """
    calibrated(graph)
    switch(graph, observing=False, quantizing=True)


def float_only(graph: nn.Module) -> None:
    """Neither look nor quantize."""
    switch(graph, observing=False, quantizing=False)


def switches(graph: nn.Module) -> dict[str, bool]:
    """Whether the graph observes and whether it quantizes now; both False for a graph without ranges."""
    adjustable = [one for _, one in ranges(graph) if not one.fixed]
    return {"observing": any(o.observing for o in adjustable), "quantizing": any(o.quantizing for o in adjustable)}


def calibrated(graph: nn.Module) -> None:
    """Check that every range has seen values.

    Raises:
        UserError: Naming the first range that has not, or that has met a value that is no number.
    """
    empty = [name for name, one in ranges(graph) if not int(one.seen)]
    if empty:
        raise UserError(
            f"quantize: {len(empty)} ranges have seen no image yet (the first is {empty[0]}); "
            "observe calibration images first."
        )
    wild = [name for name, one in ranges(graph) if not bool((one.high - one.low).isfinite().all())]
    if wild:
        raise UserError(
            f"quantize: range {wild[0]} has met NaN or infinite values; look at the calibration images and weights."
        )
