"""A graph's identity: a hash of its node list, and where two lists part."""

from typing import Any

from torch.fx import GraphModule, Node

from limbeck.graph.modes import TRAINING_FLAG
from limbeck.record import digest

__all__ = ["first_difference", "node_lines", "nodes_digest"]


def node_lines(graph: GraphModule) -> list[str]:
    """One line a node: operation, target, arguments by position. Names of nodes and mode flags play no part."""
    position = {node: f"%{index}" for index, node in enumerate(graph.graph.nodes)}
    return [f"{node.op} {_target(node)} {_text(node, position)}" for node in graph.graph.nodes]


def _target(node: Node) -> str:
    return "input" if node.op == "placeholder" else str(node.target)


def _text(node: Node, position: dict[Node, str]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, Node):
            return position[value]
        if isinstance(value, list | tuple):
            return "[" + ", ".join(text(item) for item in value) + "]"
        return str(value)

    flag = TRAINING_FLAG.get(node.target)
    shown = [arg for index, arg in enumerate(node.args) if index != flag]
    return text(shown) + (" " + text(sorted(node.kwargs.items())) if node.kwargs else "")


def nodes_digest(lines: list[str]) -> str:
    """A short hash of :func:`node_lines`."""
    return digest(lines)


def first_difference(saved: list[str], found: list[str]) -> str:
    """The first node in which two lists differ, for a message; empty if they are equal."""
    for index, (one, other) in enumerate(zip(saved, found, strict=False)):
        if one != other:
            return f"node {index}: saved {one!r}, found {other!r}"
    if len(saved) != len(found):
        return f"saved {len(saved)} nodes, found {len(found)}"
    return ""
