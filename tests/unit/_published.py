"""Weights that come into being, under the names of somebody's files, while a reference computes with them."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Published"]


class Published:
    """Layers by name; the first call of each draws its weights, so a forward pass leaves a whole state dict behind."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self._draw = torch.Generator().manual_seed(0)

    def _tensor(self, name: str, shape: tuple[int, ...], centre: float = 0.0, spread: float = 0.1) -> Tensor:
        if name not in self.state:
            self.state[name] = centre + spread * torch.randn(shape, generator=self._draw)
        assert self.state[name].shape == shape
        return self.state[name]

    def conv(
        self, name: str, x: Tensor, out: int, size: int = 3, stride: int = 1, bias: bool = False, groups: int = 1
    ) -> Tensor:
        inputs = x.shape[1] // groups
        weight = self._tensor(f"{name}.weight", (out, inputs, size, size), spread=(inputs * size * size) ** -0.5)
        return F.conv2d(x, weight, self.bias(name, out, bias), stride, size // 2, groups=groups)

    def up(self, name: str, x: Tensor) -> Tensor:
        c = x.shape[1]
        weight = self._tensor(f"{name}.weight", (c, c, 2, 2), spread=c**-0.5)
        return F.conv_transpose2d(x, weight, self.bias(name, c, True), 2)

    def linear(self, name: str, x: Tensor, out: int) -> Tensor:
        weight = self._tensor(f"{name}.weight", (out, x.shape[1]), spread=x.shape[1] ** -0.5)
        return F.linear(x, weight, self.bias(name, out, True))

    def bias(self, name: str, out: int, there: bool) -> Tensor | None:
        return self._tensor(f"{name}.bias", (out,)) if there else None

    def norm(self, name: str, x: Tensor) -> Tensor:
        c = (x.shape[1],)
        weight, bias = self._tensor(f"{name}.weight", c, 1.0), self._tensor(f"{name}.bias", c)
        mean, variance = self._tensor(f"{name}.running_mean", c), self._tensor(f"{name}.running_var", c, 1.0, 0.05)
        return F.batch_norm(x, mean, variance, weight, bias)
