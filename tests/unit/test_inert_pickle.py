"""Pickles: tensors come out as torch reads them, foreign objects as stubs, and nothing in a file ever runs."""

import argparse
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.data.inert_pickle import Stub, as_mapping, read_pickle
from limbeck.data.labels import Labels, read_labels
from limbeck.data.tensor_file import read_tensors
from limbeck.data.weights import load_weights
from limbeck.record import UserError

LEGACY = {"_use_new_zipfile_serialization": False}
FORMATS = pytest.mark.parametrize("form", [{}, LEGACY], ids=["zip", "legacy"])
Form = dict[str, bool]


@FORMATS
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.uint8,
        torch.bool,
        torch.complex64,
    ],
)
def test_tensors_are_those_that_torch_reads(tmp_path: Path, form: Form, dtype: torch.dtype) -> None:
    base = (torch.randn(6, 8) * 50).to(dtype)
    state = {"all": base, "column": base[:, 2], "turned": base.T, "empty": base[:0], "scalar": base[3, 4]}
    torch.save(state, tmp_path / "a.pth", **form)
    found, theirs = read_pickle(tmp_path / "a.pth"), torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], theirs[name]) and found[name].dtype is dtype for name in state)
    assert found["column"].untyped_storage().data_ptr() == found["all"].untyped_storage().data_ptr()


@FORMATS
def test_parameters_and_ordered_state_dicts(tmp_path: Path, form: Form) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    torch.save(OrderedDict(net.named_parameters()), tmp_path / "parameters.pth", **form)
    torch.save(net.state_dict(), tmp_path / "state.pth", **form)
    assert torch.equal(read_pickle(tmp_path / "parameters.pth")["0.weight"], net[0].weight)
    found = read_pickle(tmp_path / "state.pth")
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())


def test_numbers_without_a_storage_of_their_own(tmp_path: Path) -> None:
    values = torch.tensor([1.0, -2.0, 0.5]).to(torch.float8_e4m3fn)
    torch.save({"small": values, "wide": torch.tensor([7], dtype=torch.uint16)}, tmp_path / "a.pth")
    found = read_pickle(tmp_path / "a.pth")
    assert found["small"].dtype is torch.float8_e4m3fn
    assert torch.equal(found["small"].float(), values.float())
    assert found["wide"].int().tolist() == [7]


@pytest.fixture
def foreign() -> Iterator[types.ModuleType]:
    """A library that whoever wrote the file had, with a mapping, an attribute holder and a list of its own."""
    module = types.ModuleType("foreign_library")
    for name, base in (("ConfigDict", dict), ("Meter", object), ("History", list)):
        setattr(module, name, type(name, (base,), {"__module__": "foreign_library"}))
    sys.modules["foreign_library"] = module
    yield module
    sys.modules.pop("foreign_library", None)


@FORMATS
def test_foreign_objects_are_stubs_with_their_data(tmp_path: Path, form: Form, foreign: types.ModuleType) -> None:
    meter, history = foreign.Meter(), foreign.History([1, 2])
    meter.best, meter.scores = 61.5, np.array([1.0, 2.0])
    content = {
        "state_dict": {"w": torch.ones(2)},
        "cfg": foreign.ConfigDict(lr=0.1, model=foreign.ConfigDict(type="PSPNet")),
        "meter": meter, "history": history, "args": argparse.Namespace(seed=3), "score": np.float64(61.5),
        "where": Path("a"), "device": torch.device("cpu"), "kinds": {1, 2}, "size": torch.Size([2, 3]),
    }  # fmt: skip
    torch.save(content, tmp_path / "a.pth", **form)
    sys.modules.pop("foreign_library")
    found = read_pickle(tmp_path / "a.pth")
    assert "foreign_library" not in sys.modules
    assert as_mapping(found["cfg"])["lr"] == 0.1
    assert as_mapping(as_mapping(found["cfg"])["model"])["type"] == "PSPNet"
    assert as_mapping(found["meter"])["best"] == 61.5
    assert found["history"].listed == [1, 2]
    assert as_mapping(found["args"])["seed"] == 3
    assert (found["kinds"], found["size"]) == ({1, 2}, (2, 3))
    assert repr(found["meter"]) == "<foreign_library.Meter, not run>"
    assert all(
        isinstance(found[name], Stub) for name in ("cfg", "meter", "history", "args", "score", "where", "device")
    )
    assert list(read_tensors(tmp_path / "a.pth")) == ["w"]


class Intruder:
    """Unpickled with full trust, it would make a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@FORMATS
def test_planted_code_does_not_run(tmp_path: Path, form: Form) -> None:
    mark = tmp_path / "mark"
    content = {"state_dict": {"weight": torch.ones(1, 1, 1, 1), "bias": torch.ones(1)}, "extra": Intruder(mark)}
    torch.save(content, tmp_path / "bad.pth", **form)
    conv = nn.Conv2d(1, 1, 1)
    load_weights(conv, tmp_path / "bad.pth")
    assert conv.weight.item() == 1
    assert read_pickle(tmp_path / "bad.pth")["extra"].args == (str(mark),)
    assert not mark.exists()
    torch.load(tmp_path / "bad.pth", weights_only=False)
    assert mark.exists()  # the file was able to do harm


def _zip_of(path: Path, program: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/version", b"3\n")
    return path


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


PROGRAMS: dict[str, Callable[[str], bytes]] = {
    "reduce": lambda mark: b"\x80\x02cos\nmkdir\n" + _text(mark) + b"\x85R.",
    "inst": lambda mark: b"(" + _text(mark) + b"ios\nmkdir\n.",
    "obj": lambda mark: b"(cos\nmkdir\n" + _text(mark) + b"o.",
    "newobj": lambda mark: b"\x80\x02cos\nmkdir\n" + _text(mark) + b"\x85\x81.",
    "newobj_ex": lambda mark: b"\x80\x04cos\nmkdir\n)}" + _text("path") + _text(mark) + b"s\x92.",
    "stack_global": lambda mark: b"\x80\x04" + _text("os") + _text("mkdir") + b"\x93" + _text(mark) + b"\x85R.",
    "getattr": lambda mark: b"\x80\x02c__builtin__\ngetattr\ncos\nmkdir\n" + _text("__call__") + b"\x86R"
    + _text(mark) + b"\x85R.",
    "eval": lambda mark: b"\x80\x02cbuiltins\neval\n" + _text(f"__import__('os').mkdir({mark!r})") + b"\x85R.",
    "setstate": lambda mark: b"\x80\x02cfunctools\npartial\ncos\nmkdir\n\x85Rcos\nmkdir\n" + _text(mark)
    + b"\x85}N\x87b)R.",
    "rebuild": lambda mark: b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\ncos\nmkdir\nN" + _text(mark) + b"\x85N"
    + b"(t" + b"0tR.",
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_instruction_of_a_pickle_calls_what_it_names(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    program = PROGRAMS[name](str(mark))
    path = _zip_of(tmp_path / "a.pth", program)
    try:
        found = read_pickle(path)
    except UserError:
        found = None  # not every one is well formed; none may act
    assert not mark.exists()
    assert found is None or isinstance(found, Stub | int | dict)
    if name in ("reduce", "inst", "obj", "stack_global", "eval"):
        pickle.loads(program)
        assert mark.exists()  # the program was able to do harm


@pytest.mark.parametrize(
    "arguments",
    [(4, (2, 2), (2, 1)), (-1, (2,), (1,)), (0, (10**12,), (1,)), (0, (5,), (1,)), (0, (2, 2), (1, 4)), (3, (), ())],
)
def test_a_tensor_cannot_reach_beyond_its_values(tmp_path: Path, arguments: tuple[int, tuple, tuple]) -> None:
    offset, size, stride = arguments
    torch.save({"a": torch.arange(4.0)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good:
        records = {name: good.read(name) for name in good.namelist()}
    (program,) = [name for name in records if name.endswith("data.pkl")]

    class Other:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, OrderedDict())

    class Storage:
        pass

    class Writer(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(value, Storage) else None

    written = io.BytesIO()
    Writer(written, protocol=2).dump({"a": Other()})
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as bad:
        for name, content in records.items():
            bad.writestr(name, written.getvalue() if name == program else content)
    if arguments == (3, (), ()):  # the last value, which is inside
        assert read_tensors(tmp_path / "bad.pth")["a"].item() == 3
        return
    with pytest.raises(UserError, match="beyond its values"):
        read_tensors(tmp_path / "bad.pth")


@FORMATS
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_cut_short_is_refused(tmp_path: Path, form: Form, share: float) -> None:
    torch.save({"a": torch.randn(1000)}, tmp_path / "a.pth", **form)
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"a\.pth: no checkpoint that can be read"):
        read_tensors(tmp_path / "a.pth")


OLD = {"CLASSES": ("wall", "sky"), "PALETTE": [[120, 120, 120], [6, 230, 230]], "mmseg_version": "0.11.0"}
NEW = {"dataset_meta": {"classes": ["wall", "sky"], "palette": [[120, 120, 120], [6, 230, 230]]}, "epoch": 3}


@FORMATS
@pytest.mark.parametrize("meta", [OLD, NEW], ids=["0.x", "1.x"])
def test_class_names_and_colours_come_from_mmsegmentation_files(tmp_path: Path, form: Form, meta: dict) -> None:
    torch.save({"meta": meta, "state_dict": {"w": torch.ones(2)}, "optimizer": {}}, tmp_path / "a.pth", **form)
    assert read_labels(tmp_path / "a.pth") == Labels(("wall", "sky"), ((120, 120, 120), (6, 230, 230)))


@pytest.mark.parametrize(
    "content",
    [{"w": torch.ones(1)}, {"meta": {"CLASSES": None, "PALETTE": np.zeros((2, 3), int)}}, {"meta": 3}, [1],
     {"meta": {"CLASSES": ("a", 3), "PALETTE": [[0, 0], [1, 1]]}}],
)  # fmt: skip
def test_files_without_names_have_none(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert read_labels(tmp_path / "a.pth") == Labels()


def test_a_broken_file_has_no_names_but_a_message(tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(UserError, match=r"cut\.pth: no checkpoint that can be read"):
        read_labels(tmp_path / "cut.pth")
    with pytest.raises(UserError, match=r"gone\.pth: no checkpoint that can be read"):
        read_labels(tmp_path / "gone.pth")
