"""What is kept of a teacher's output in 16-bit numbers: all of it, or its most likely classes and the rest as one."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.record import UserError
from limbeck.train.cache import Block

__all__ = ["Form", "Top", "Whole"]


class Form(Protocol):
    """How outputs [n, c, *space] are packed; in a block channels come last, as they do where they are used."""

    def shape(self, output: tuple[int, ...]) -> tuple[int, ...]:
        """Of what is kept of an output of one image, [1, c, *space]."""
        ...

    def pack(self, output: Tensor, place: str) -> Block:
        """Into 16-bit numbers."""
        ...

    def unpack(self, block: Block) -> Tensor:
        """And back."""
        ...


class Whole:
    """Every value, in float16."""

    def shape(self, output: tuple[int, ...]) -> tuple[int, ...]:
        """That of the output."""
        return (*output[2:], output[1])

    def pack(self, output: Tensor, place: str) -> Block:
        """Round to float16.

        Raises:
            UserError: If a value is too large for that.
        """
        half = output.movedim(1, -1).half()
        if not torch.isfinite(half).all():
            raise UserError(
                f"teacher.{place}: values up to {float(output.abs().max()):.3g} do not fit the 16 bits that "
                "distil.cache: replay keeps (65504); compare another place, or write distil.cache: online."
            )
        return _bits(half)

    def unpack(self, block: Block) -> Tensor:
        """float16 [n, c, *space]."""
        return _halves(block).movedim(-1, 1)


@dataclass(frozen=True)
class Top:
    """Of logits the most likely classes, and all others as one at each temperature that a loss asks for.

    A softmax over classes and rest at one of these temperatures is that over all classes, with the probabilities of
    the others added up; the KL divergence between two of these is one, and no larger than that over all classes.

    Attributes:
        count: Classes that are kept; fewer than there are.
        temperatures: At which the rest is known.
    """

    count: int
    temperatures: tuple[float, ...]

    def shape(self, output: tuple[int, ...]) -> tuple[int, ...]:
        """For each position ``count`` classes, their logits, and the rest at each temperature."""
        return (*output[2:], 2 * self.count + len(self.temperatures))

    def pack(self, output: Tensor, place: str) -> Block:
        """Find the most likely classes; logits are counted from the largest.

        Raises:
            UserError: If a value is not finite.
        """
        logits = output.float()
        if not torch.isfinite(logits).all():
            raise UserError(f"teacher.{place}: gives values that are not finite; `precision: fp32` may help it.")
        best, classes = logits.topk(self.count, dim=1)
        top = best[:, :1]
        others = (logits - top).scatter(1, classes, -torch.inf)
        rest = [tau * (others / tau).logsumexp(1, keepdim=True) for tau in self.temperatures]
        values = torch.cat([best - top, *rest], dim=1).clamp(min=torch.finfo(torch.float16).min)
        names = classes.movedim(1, -1).cpu().numpy().astype(np.uint16)
        return np.concatenate([names, _bits(values.movedim(1, -1).half())], axis=-1)

    def unpack(self, block: Block) -> Tensor:
        """float32 [n, 2 count + temperatures, *space]; see :meth:`both`."""
        names = torch.from_numpy(block[..., : self.count].astype(np.float32))
        values = _halves(np.ascontiguousarray(block[..., self.count :])).float()
        return torch.cat([names, values], dim=-1).movedim(-1, 1)

    def both(
        self, student: Float[Tensor, "n c *space"], kept: Float[Tensor, "n m *space"], temperature: float
    ) -> tuple[Float[Tensor, "n k *space"], Float[Tensor, "n k *space"]]:
        """Student's and teacher's logits of the kept classes and of the rest, at a temperature that is known."""
        column = 2 * self.count + self.temperatures.index(temperature)
        classes = kept[:, : self.count].long()
        teacher = torch.cat([kept[:, self.count : 2 * self.count], kept[:, column : column + 1]], dim=1)
        others = (student / temperature).scatter(1, classes, -torch.inf).logsumexp(1, keepdim=True)
        return torch.cat([student.gather(1, classes), temperature * others], dim=1), teacher


def _bits(half: Tensor) -> Block:
    return half.contiguous().cpu().view(torch.int16).numpy().view(np.uint16)


def _halves(block: Block) -> Tensor:
    return torch.from_numpy(block.view(np.int16)).view(torch.float16)
