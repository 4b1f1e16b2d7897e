"""What an exported file says about itself, read without the libraries that wrote it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import SEEK_CUR, SEEK_END, BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

from limbeck.artifact.palette import Palette
from limbeck.artifact.preprocess import Preprocess
from limbeck.record import UserError, read_json

__all__ = ["KEY", "VERSION", "Metadata"]

KEY = "limbeck"
VERSION = 1


@dataclass(frozen=True)
class Metadata:
    """The ``limbeck`` JSON of an exported file.

    Attributes:
        task: Such as ``segmentation``.
        model: ``teacher``, ``student`` or another role.
        classes: Names of the classes, by id.
        palette: A colour for every class.
        preprocess: From an image to the network's input.
        precision: Numbers the file computes with: ``fp32``, ``int8``, ...
        target: The runtime an integer file is made for.
        recipe: Hash of the recipe that made it.
        licences: Licences of weights and data, by name.
        architecture: How to build the network: kind, its arguments, ``num_classes`` (weight files only).
        quantizer: How it was quantized: kind and its arguments (quantized weight files only).
        manifest: What the quantizer needs to restore its graph (quantized weight files only).
    """

    task: str
    model: str
    classes: tuple[str, ...]
    palette: Palette
    preprocess: Preprocess
    precision: str = "fp32"
    target: str | None = None
    recipe: str | None = None
    licences: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] | None = None
    quantizer: dict[str, Any] | None = None
    manifest: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-like value; what only weight files carry is left out where it is None."""
        value = {"version": VERSION} | asdict(self) | {"preprocess": self.preprocess.to_json()}
        value |= {"classes": list(self.classes), "palette": [list(colour) for colour in self.palette]}
        return {k: v for k, v in value.items() if v is not None or k not in ("architecture", "quantizer", "manifest")}

    @classmethod
    def from_json(cls, value: Any, where: str) -> "Metadata":
        """What :meth:`to_json` wrote; unknown keys are left alone.

        Raises:
            UserError: If it was written by a newer version, or a value is missing or of the wrong kind.
        """
        version = value.get("version") if isinstance(value, dict) else None
        if not isinstance(version, int):
            raise UserError(f"{where}: its metadata have no version number: they are not Limbeck's.")
        if version > VERSION:
            raise UserError(f"{where}: metadata version {version}, this Limbeck reads up to {VERSION}: update limbeck.")
        try:
            return cls(**_fields(value))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where}: its metadata are broken: {type(error).__name__}: {error}") from error

    @classmethod
    def read(cls, path: Path) -> "Metadata | None":
        """The metadata inside an ``.onnx``, ``.xml`` or ``.safetensors`` file, else those in ``<file>.json`` beside it.

        Returns:
            None if there are none in either place.

        Raises:
            UserError: If the file is missing, is not what its suffix says, or its metadata cannot be used.
        """
        if not path.is_file():
            raise UserError(f"{path}: no such file.")
        text = _embedded(path)
        beside = path.with_name(f"{path.name}.json")
        if text is None:
            return cls.from_json(read_json(beside), str(beside)) if beside.is_file() else None
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: its metadata are not JSON ({error}).") from error
        return cls.from_json(value, str(path))


def _fields(value: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: value[key] for key in Metadata.__dataclass_fields__ if key in value}
    colours = tuple((int(red), int(green), int(blue)) for red, green, blue in value["palette"])
    preprocess = Preprocess.from_json(value["preprocess"])
    return known | {"classes": tuple(map(str, value["classes"])), "palette": colours, "preprocess": preprocess}


def _embedded(path: Path) -> str | None:
    reader = {".onnx": _onnx, ".xml": _openvino, ".safetensors": _safetensors}.get(path.suffix)
    if reader is None:
        return None
    try:
        with path.open("rb") as stream:
            return reader(stream)
    except (ValueError, EOFError, expat.ExpatError) as error:
        raise UserError(f"{path}: not a readable {path.suffix} file ({error}).") from error


def _safetensors(stream: BinaryIO) -> str | None:
    """The header's ``__metadata__`` entry; the weights behind it are not touched."""
    size = stream.seek(0, SEEK_END)
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if length + 8 > size:
        raise EOFError("its header does not fit into it")
    header = json.loads(stream.read(length))
    own = header.get("__metadata__") if isinstance(header, dict) else None
    return own.get(KEY) if isinstance(own, dict) else None


def _openvino(stream: BinaryIO) -> str | None:
    """The value of ``net/rt_info/limbeck``. A document type, and with it every entity, is refused."""
    place: list[str] = []
    found: list[str | None] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        place.append(tag)
        if place == ["net", "rt_info", KEY]:
            found.append(attributes.get("value"))

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: place.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.ParseFile(stream)
    return found[0] if found else None


def _onnx(stream: BinaryIO) -> str | None:
    """Our entry of ``metadata_props``, field 14 of ModelProto: pairs with the key in field 1, the value in field 2."""
    for _, entry in _messages(stream, {14}):
        pair = dict(_messages(BytesIO(entry), {1, 2}))
        if pair.get(1) == KEY.encode():
            return pair.get(2, b"").decode()
    return None


def _messages(stream: BinaryIO, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of the wanted fields of a protobuf message; the others, weights too, are jumped over unread."""
    size = stream.seek(0, SEEK_END)
    stream.seek(0)
    while stream.tell() < size:
        number, wire = divmod(_varint(stream), 8)
        if wire not in (0, 1, 2, 5):
            raise ValueError(f"byte {stream.tell()} starts no field")
        length = {0: 0, 1: 8, 5: 4}[wire] if wire != 2 else _varint(stream)
        if wire == 0:
            _varint(stream)
        if stream.tell() + length > size:
            raise EOFError("it ends too early")
        if wire == 2 and number in wanted:
            yield number, stream.read(length)
        else:
            stream.seek(length, SEEK_CUR)


def _varint(stream: BinaryIO) -> int:
    """A whole number in groups of seven bits, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise EOFError("it ends within a number")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number has no end")
