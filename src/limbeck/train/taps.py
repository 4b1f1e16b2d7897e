"""Taps: what a network computed at named places, next to its logits."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from torch import Tensor, nn

from limbeck.record import UserError

__all__ = ["LOGITS", "Tapped"]

LOGITS = "logits"
"""The path that means the network's own output."""


class _Enough(Exception):  # noqa: N818
    """Everything that was asked for is there."""


class Tapped:
    """A network that also returns what its submodules at ``paths`` gave in the same call.

    Hooks stay until :meth:`close`; the tensors are handed over and not kept. It is no module: it owns no parameters.

    Raises:
        UserError: If a path names no submodule; names the nearest ones.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str], owner: str = "the model") -> None:
        self.model, self.owner = model, owner
        self.paths = [path for path in dict.fromkeys(paths) if path != LOGITS]
        known = dict(model.named_modules())
        for path in self.paths:
            if path not in known:
                raise UserError(_unknown(path, [name for name in known if name], owner))
        self._seen: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._listening, self._stops = False, False
        self._hooks = [known[path].register_forward_hook(partial(self._keep, path)) for path in self.paths]

    def _keep(self, path: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not self._listening:
            return
        found = output[0] if isinstance(output, tuple | list) and output else output
        if not isinstance(found, Tensor):
            raise UserError(f"{self.owner}.{path} gives {type(output).__name__}, not a tensor; tap a submodule of it.")
        if path in self._seen:
            raise UserError(f"{self.owner}.{path} runs more than once in a forward pass; tap a module around it.")
        self._seen[path] = found
        if not found.is_inference():  # those keep no count of their changes
            self._versions[path] = found._version
        if self._stops and len(self._seen) == len(self.paths):
            raise _Enough

    def __call__(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and the tapped tensors by path, ``logits`` among them.

        Raises:
            UserError: If a tapped module did not run, or what it gave was overwritten by a later one.
        """
        with self._listening_in():
            logits: Tensor = self.model(image)
            return logits, {**self._heard(), LOGITS: logits}

    def only(self, image: Tensor) -> dict[str, Tensor]:
        """The tapped tensors alone; nothing is computed that comes after the last of them.

        Raises:
            UserError: As for a call, but for what happens after the last of them.
        """
        with self._listening_in(stops=True):
            with suppress(_Enough):
                self.model(image)
            return self._heard()

    @contextmanager
    def _listening_in(self, stops: bool = False) -> Iterator[None]:
        self._listening, self._stops = True, stops
        try:
            yield
        finally:
            self._listening = False
            self._seen.clear()
            self._versions.clear()

    def _heard(self) -> dict[str, Tensor]:
        missing = [path for path in self.paths if path not in self._seen]
        if missing:
            raise UserError(f"{self.owner}.{missing[0]} did not run in this forward pass; tap another module.")
        changed = [path for path, version in self._versions.items() if self._seen[path]._version != version]
        if changed:
            raise UserError(f"{self.owner}.{changed[0]} is changed in place afterwards; tap the next module.")
        return dict(self._seen)

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _unknown(path: str, known: list[str], owner: str) -> str:
    near = difflib.get_close_matches(path, known, n=4, cutoff=0.3)
    siblings = [name for name in known if name.rpartition(".")[0] == path.rpartition(".")[0]]
    return f"{owner} has no submodule {path!r}. Near: {', '.join(near or siblings[:8] or known[:8])}."
