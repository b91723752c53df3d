"""YAML as settings are written in it: plain values alone, every name said once, and no more than was written."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LIMIT = 2**18
"""Bytes of a file; the longest of ours has some thousands, and a megabyte takes PyYAML seconds."""
VALUES = 20_000
"""Values in all, an alias counted as often as it is used: nine lines of aliases of aliases would else be a billion."""
MERGE = "tag:yaml.org,2002:merge"


class Loader(yaml.SafeLoader):
    """Refuses a name that stands twice in one mapping, of which YAML would keep the last without a word, and too many values."""

    def get_single_node(self) -> Node | None:
        node = super().get_single_node()
        if node is not None:
            _check(node, {}, frozenset())
        return node


def parsed(text: str) -> Any:
    """What a text in YAML says.

    Args:
        text: The text.

    Returns:
        Mappings, lists, and plain values.

    Raises:
        ValueError: It is no YAML, says a name twice in one place, or is too much. One line, without a file's name.
    """
    try:
        return Loader(text).get_single_data()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (
        Exception
    ) as error:  # PyYAML raises half a dozen kinds where a value does not fit its tag
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _check(node: Node, known: dict[int, int], above: frozenset[int]) -> int:
    """How many values a node stands for, aliases included. ValueError for what `Loader` refuses."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in above:
        raise ValueError(f"the value in line {node.start_mark.line + 1} holds itself")
    inner: list[Node] = node.value if isinstance(node, SequenceNode) else []
    if isinstance(node, MappingNode):
        _check_names(
            [key for key, _ in node.value if isinstance(key, ScalarNode) and key.tag != MERGE]
        )
        inner = [part for pair in node.value for part in pair]
    total = 1 + sum(_check(part, known, above | {id(node)}) for part in inner)
    if total > VALUES:
        raise ValueError(f"it holds more than {VALUES:,} values")
    known[id(node)] = total
    return total


def _check_names(keys: list[ScalarNode]) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key in keys:
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in lines:
            raise ValueError(
                f"{key.value[:60]!r} is said twice, in line {lines[name]} and in line {line}: leave out one of them"
            )
        lines[name] = line
