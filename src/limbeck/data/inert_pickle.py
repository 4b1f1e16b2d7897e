"""What a .pth or .bin file holds, with tensors as tensors and everything else inert: nothing in it is imported or run.

A pickle is a small program; the one that reads it here has no instruction that calls what the file names. A name of
some library becomes a :class:`Stub`, calling it another one, and only the few functions in ``KNOWN``, all written
here, ever get arguments from a file.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from limbeck.record import UserError

__all__ = ["Stub", "as_mapping", "read_pickle"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First value in a file of torch before 1.6; its sizes and tensors follow the pickle in the same file."""

DTYPES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip
"""What the storages of torch hold, by the begin of their names."""


class Stub:
    """An object of some library that a file holds: its name and its data, and no behaviour.

    Attributes:
        name: Where it was defined, such as ``mmengine.config.config.ConfigDict``.
        args: What it would have been called with; empty for the name alone.
        state: What it would have been filled with: of an ordinary object, its attributes.
        entries: What it holds as a mapping.
        listed: What it holds as a list or set.
    """

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name, self.args, self.state = name, args, None
        self.entries: dict[Any, Any] = {}
        self.listed: list[Any] = []
        self.append = self.add = self.listed.append  # the unpickler fills lists and sets by these names

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def __repr__(self) -> str:
        return f"<{self.name}, not run>"


class _Storage:
    """Bytes of one or several tensors."""

    def __init__(self, dtype: torch.dtype, content: Tensor) -> None:
        self.dtype, self.content = dtype, content


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage.

    Raises:
        ValueError: If it would reach beyond the storage.
    """
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without its values")
    size, stride = [int(n) for n in size], [int(n) for n in stride]
    last = int(offset) + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min([offset, *size, *stride]) < 0 or (0 not in size and last >= len(storage.content) // storage.dtype.itemsize):
        raise ValueError("a tensor reaches beyond its values")
    return torch.empty(0, dtype=storage.dtype).set_(storage.content.untyped_storage(), int(offset), size, stride)


def _tensor_of_dtype(storage: Any, offset: int, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any) -> Tensor:
    """As :func:`_tensor`, for numbers that have no storage of their own name, such as float8."""
    kind = getattr(torch, str(getattr(dtype, "name", "")).removeprefix("torch."), None)
    if not isinstance(kind, torch.dtype) or not isinstance(storage, _Storage):
        raise ValueError(f"a tensor of {dtype}")
    return _tensor(_Storage(kind, storage.content), offset, size, stride)


def _subclass(function: Any, _kind: Any, args: tuple[Any, ...], *_: Any) -> Any:
    """A tensor of a class of its own, such as a parameter with a note, as a plain one."""
    return _called(function, args)


KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": dict,
    "collections.defaultdict": lambda *_: {},
    "builtins.set": set, "__builtin__.set": set, "builtins.frozenset": frozenset, "__builtin__.frozenset": frozenset,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": _subclass,
}  # fmt: skip


def _called(function: Any, args: Any) -> Any:
    if isinstance(function, Stub) and not function.args and function.name in KNOWN:
        return KNOWN[function.name](*args)
    return Stub(getattr(function, "name", type(function).__name__), tuple(args))


Storages = Callable[[torch.dtype, str, int], Tensor]
"""Bytes of a storage by its numbers' type, key and count."""


class _Reader(pickle._Unpickler):
    """Python's own unpickler with every instruction that would call something replaced."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO, storages: Storages) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """Nothing is looked up."""
        return Stub(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """A storage, the one thing that files refer to beside their pickle."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError(f"it refers to something of an unknown kind, {pid!r}")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("it shares values between tensors as only the first releases of torch did")
        kind = str(getattr(pid[1], "name", "")).rpartition(".")[2].removesuffix("Storage")
        if kind not in DTYPES:
            raise ValueError(f"it holds tensors of an unknown kind {kind!r}")
        return _Storage(DTYPES[kind], self.storages(DTYPES[kind], str(pid[2]), int(pid[4])))

    def _instantiate(self, klass: Any, args: Any) -> None:  # of the instructions INST and OBJ
        self.append(_called(klass, args))  # type: ignore[attr-defined]

    def _reduce(self) -> None:
        args = self.stack.pop()  # type: ignore[attr-defined]
        self.stack[-1] = _called(self.stack[-1], args)  # type: ignore[attr-defined]

    def _reduce_named(self) -> None:
        named, args = self.stack.pop(), self.stack.pop()  # type: ignore[attr-defined]
        self.stack[-1] = _called(self.stack[-1], (*args, named))  # type: ignore[attr-defined]

    def _build(self) -> None:
        state = self.stack.pop()  # type: ignore[attr-defined]
        if isinstance(self.stack[-1], Stub):  # type: ignore[attr-defined]
            self.stack[-1].state = state  # type: ignore[attr-defined]

    dispatch |= {pickle.REDUCE[0]: _reduce, pickle.NEWOBJ[0]: _reduce, pickle.NEWOBJ_EX[0]: _reduce_named}
    dispatch |= {pickle.BUILD[0]: _build}
    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):  # of a table in this process; torch writes none
        del dispatch[_code[0]]


def read_pickle(path: Path, *, values: bool = True) -> Any:
    """The object in a file of ``torch.save``, of any age, with stubs for all but plain values and tensors.

    Args:
        path: The file.
        values: Read the tensors' values too; without them every tensor holds anything.

    Raises:
        UserError: If it is no such file, is cut short, or is TorchScript; says which.
    """
    try:
        return _read(path, values)
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise UserError(f"{path}: no checkpoint that can be read ({reason}).") from error


def _read(path: Path, values: bool) -> Any:
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\3\4"
        return _zipped(path, values) if zipped else _legacy(path, values)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(str(error).strip() or type(error).__name__) from error
    except (OverflowError, RecursionError, UnicodeDecodeError, struct.error, ImportError) as error:
        raise ValueError(type(error).__name__) from error


def _zipped(path: Path, values: bool) -> Any:
    archive = torch._C.PyTorchFileReader(str(path))
    records = set(archive.get_all_records())
    if "constants.pkl" in records:
        raise ValueError("it is TorchScript, a program")
    if "byteorder" in records and archive.get_record("byteorder") != b"little":
        raise ValueError("it was written on a big-endian machine")
    known: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if not values:
            return _zeros(dtype, count)
        if key not in known:
            known[key] = _bytes(archive.get_record(f"data/{key}"))
        return known[key]

    return _Reader(BytesIO(archive.get_record("data.pkl")), storage).load()


def _zeros(dtype: torch.dtype, count: int) -> Tensor:
    """Room that the system gives only when it is touched."""
    return torch.empty(max(count, 0) * dtype.itemsize, dtype=torch.uint8)


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _legacy(path: Path, values: bool) -> Any:
    """Four pickles, the third of them the object, then the values of each storage: their number and their bytes."""
    known: dict[str, tuple[torch.dtype, Tensor]] = {}
    limit = path.stat().st_size

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if not 0 <= count * dtype.itemsize <= limit:
            raise ValueError("it is cut short")
        return known.setdefault(key, (dtype, torch.empty(count * dtype.itemsize, dtype=torch.uint8)))[1]

    with path.open("rb") as file:
        if _Reader(file, storage).load() != LEGACY_MAGIC:
            raise ValueError("it does not begin like one")
        _Reader(file, storage).load(), _Reader(file, storage).load()
        found = _Reader(file, storage).load()
        for key in _Reader(file, storage).load() if values else ():
            dtype, content = known[key]
            (count,) = struct.unpack("<q", file.read(8))
            read = file.read(count * dtype.itemsize) if count * dtype.itemsize == len(content) else b""
            if len(read) != len(content):
                raise ValueError("it is cut short")
            content.copy_(_bytes(read))
    return found


def as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """A mapping, or what an object of some library holds by name: its entries, else its attributes; else None."""
    if not isinstance(value, Stub):
        return value if isinstance(value, Mapping) else None
    held = (value.entries, *value.args[:1], value.state)
    return next((found for found in held if isinstance(found, Mapping) and found), None)
