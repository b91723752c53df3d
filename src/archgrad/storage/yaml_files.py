"""Parse YAML of settings: only plain values, each name once, and no explosion of aliases."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LIMIT = 2**18
"""Largest size of a file in bytes. The longest of ours has some thousands; PyYAML needs seconds
for a megabyte."""
VALUES = 20_000
"""Largest number of values, with aliases counted at each use. Nine lines of aliases of aliases
could otherwise stand for a billion values."""
MERGE = "tag:yaml.org,2002:merge"


class Loader(yaml.SafeLoader):
    """Loader that refuses duplicate names in a mapping and too many values.

    PyYAML would silently keep the last of duplicate names.
    """

    def get_single_node(self) -> Node | None:
        """Return the root node after the checks."""
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {}, frozenset())
        return node


def parse(text: str) -> Any:
    """Parse a text in YAML.

    Args:
        text: The text.

    Returns:
        Mappings, lists and plain values.

    Raises:
        ValueError: The text is no YAML, repeats a name in a mapping, or holds too many values. The
            message is one line without the name of a file.

    >>> parse("darts: {lr: 0.1}")
    {'darts': {'lr': 0.1}}
    """
    try:
        return Loader(text).get_single_data()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # PyYAML raises many types where a value does not fit its tag
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _count_values(node: Node, known: dict[int, int], above: frozenset[int]) -> int:
    """Return the number of values of a node, aliases included; raise the errors of `Loader`."""
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
    total = 1 + sum(_count_values(part, known, above | {id(node)}) for part in inner)
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
                f"{key.value[:60]!r} occurs twice, in line {lines[name]} and in line {line}: "
                "leave out one of them"
            )
        lines[name] = line
