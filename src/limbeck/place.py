"""Where something stands in a recipe: YAML read with a line for every key, and changed from the command line."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from limbeck.record import UserError

__all__ = [
    "Keys",
    "Place",
    "as_lists",
    "as_sections",
    "dump",
    "forget",
    "indexed",
    "inside",
    "nearest",
    "override",
    "parse",
    "placed",
]

Keys = tuple[str | int, ...]

PLAIN = ("map", "seq", "str", "int", "float", "bool", "null")
"""What a recipe is made of; every other YAML tag is refused."""


@dataclass(frozen=True)
class Place:
    """A key of a recipe; prints as ``file:line: a.b.0.c``."""

    file: str
    keys: Keys = ()
    lines: Mapping[Keys, int] = field(default_factory=dict, repr=False)

    def __truediv__(self, key: str | int) -> "Place":
        """The place of a key inside this one."""
        return Place(self.file, (*self.keys, key), self.lines)

    def __str__(self) -> str:
        """Name the nearest line that is really in the file."""
        known = next((self.keys[:n] for n in range(len(self.keys), 0, -1) if self.keys[:n] in self.lines), ())
        line = f":{self.lines[known]}" if known in self.lines else ""
        dotted = ".".join(str(key) for key in self.keys)
        return f"{self.file}{line}: {dotted}" if dotted else f"{self.file}{line}"


@contextmanager
def placed(where: Place) -> Iterator[None]:
    """Put the place of the key that is to blame before the message of an error that the block raises."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def nearest(name: str, known: list[str]) -> str:
    """A "Did you mean ...?" sentence for a wrong name, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def parse(text: str, file: str) -> tuple[dict[str, Any], dict[Keys, int]]:
    """Plain values of a YAML text and the line of every key.

    Raises:
        UserError: For bad syntax, a duplicate key, a tag, or a text that is not a mapping; says file and line.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(StringIO(text))
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{file}{line}: YAML syntax: {error.problem}.") from error
    except ReaderError as error:
        raise UserError(f"{file}: not a text file ({error.reason}).") from error
    if not isinstance(node, MappingNode):
        raise UserError(f"{file}: a recipe is a mapping such as 'name: my-run'; found {type(node).__name__}.")
    lines: dict[Keys, int] = {}
    try:
        return _value(yaml, node, (), lines, file), lines
    except RecursionError:
        raise UserError(f"{file}: an alias (*) stands inside its own anchor (&), which would never end.") from None


def _value(yaml: YAML, node: Node, keys: Keys, lines: dict[Keys, int], file: str) -> Any:
    if str(node.tag).removeprefix("tag:yaml.org,2002:") not in PLAIN:
        raise UserError(
            f"{file}:{node.start_mark.line + 1}: found {node.tag!r}: tags are not allowed, and dates need quotes."
        )
    if isinstance(node, MappingNode):
        return _mapping(yaml, node, keys, lines, file)
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*keys, index)] = item.start_mark.line + 1
        return [_value(yaml, item, (*keys, i), lines, file) for i, item in enumerate(node.value)]
    assert isinstance(node, ScalarNode)
    try:
        return yaml.constructor.construct_object(node)
    except ValueError as error:
        raise UserError(f"{file}:{node.start_mark.line + 1}: {error}.") from error


def _mapping(yaml: YAML, node: MappingNode, keys: Keys, lines: dict[Keys, int], file: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in found:
            raise UserError(f"{file}:{line}: duplicate key {key!r}; it is already on line {lines[(*keys, key)]}.")
        lines[(*keys, key)] = line
        found[key] = _value(yaml, value_node, (*keys, key), lines, file)
    return found


def override(value: dict[str, Any], assignment: str) -> Keys:
    """Set ``a.b.0.c=value`` in place and return its keys; the value is read as YAML.

    Raises:
        UserError: If there is no ``=``, or a list index does not exist.
    """
    dotted, equals, text = assignment.partition("=")
    if not equals or not dotted:
        raise UserError(f"{assignment!r}: an override looks like train.optimizer.lr=3e-4.")
    new = parse(f"value: {text or 'null'}", f"override {dotted}")[0]["value"]
    keys: Keys = tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))
    inner: Any = value
    for position, key in enumerate(keys[:-1]):
        inner = _step_into(inner, key, ".".join(str(k) for k in keys[: position + 1]), assignment)
    _step_into(inner, keys[-1], dotted, assignment, create=False)
    inner[keys[-1]] = new
    return keys


def _step_into(inner: Any, key: str | int, dotted: str, assignment: str, create: bool = True) -> Any:
    if isinstance(inner, list):
        if not isinstance(key, int) or key >= len(inner):
            raise UserError(f"override {assignment!r}: {dotted} does not exist; the list has {len(inner)} entries.")
        return inner[key]
    if not isinstance(inner, dict):
        raise UserError(f"override {assignment!r}: {dotted} does not exist, its parent is {inner!r}.")
    if create and inner.get(key) is None:
        inner[key] = {}
    return inner.get(key)


def as_lists(value: dict[str, Any], sections: tuple[str, ...], lines: dict[Keys, int]) -> None:
    """Make a single mapping in one of the sections a list of one, in the values and in the lines of their keys."""
    for section in [section for section in sections if isinstance(value.get(section), dict)]:
        value[section] = [value[section]]
        inside = {keys: line for keys, line in lines.items() if keys[0] == section and len(keys) > 1}
        for keys in inside:
            del lines[keys]
        lines.update({(section, 0, *keys[1:]): line for keys, line in inside.items()})


def indexed(value: dict[str, Any], sections: tuple[str, ...], assignment: str) -> str:
    """``quantize.target=x`` as ``quantize.0.target=x`` where such a section has one entry alone, however deep."""
    dotted, equals, text = assignment.partition("=")
    words: list[str] = []
    inner: Any = value
    given = dotted.split(".")
    for word, after in zip(given, [*given[1:], "0"], strict=True):
        inner = inner.get(word) if isinstance(inner, dict) else None
        words.append(word)
        if isinstance(inner, list):
            alone = word in sections and len(inner) == 1 and not after.isdecimal()
            words += ["0"] * alone
            inner = {str(index): item for index, item in enumerate(inner)} if not alone else inner[0]
    return f"{'.'.join(words)}{equals}{text}"


def as_sections(value: dict[str, Any], sections: Mapping[str, str], lines: dict[Keys, int], at: Keys = ()) -> None:
    """Make a list alone in one of the sections its key of that name, in the values and in the lines of their keys.

    Args:
        value: The mapping that has the sections; changed.
        sections: Key of each section's list by the section's name.
        lines: Lines of all keys of the file; changed.
        at: Where ``value`` stands in the file.
    """
    for section, key in sections.items():
        if not isinstance(value.get(section), list):
            continue
        value[section] = {key: value[section]}
        above = (*at, section)
        inside = {keys: line for keys, line in lines.items() if keys[: len(above)] == above and len(keys) > len(above)}
        for keys in inside:
            del lines[keys]
        lines.update({(*above, key, *keys[len(above) :]): line for keys, line in inside.items()})


def inside(sections: Mapping[str, str], assignment: str) -> str:
    """``distil.0.weight=2`` as ``distil.terms.0.weight=2``, however deep the section is."""
    dotted, equals, text = assignment.partition("=")
    keys = dotted.split(".")
    for at in reversed(range(len(keys) - 1)):
        if keys[at] in sections and keys[at + 1].isdecimal():
            keys.insert(at + 1, sections[keys[at]])
    return f"{'.'.join(keys)}{equals}{text}"


def forget(lines: dict[Keys, int], keys: Keys) -> None:
    """Drop the lines of a key and of all inside it: they are not in the file any more."""
    for known in [k for k in lines if k[: len(keys)] == keys]:
        del lines[known]


def dump(value: Mapping[str, Any]) -> str:
    """Write plain values as YAML, in the order given."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 120
    stream = StringIO()
    yaml.dump(_plain(value), stream)
    return stream.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
