"""Genotypes in the notations of other projects and logs, converted for `archgrad.arch.notation`.

No text is evaluated as code.

===========================  ======================================================================
NASLib, NAS-Bench-201        ``NASLib:(2, 0, 3, 1, 4, 2)``, op numbers, edges by their source
NAS-Bench-201's table        ``NAS-Bench-201:(3, 1, 2, 0, 4, 3)``, op numbers, edges by their target
NASLib, DARTS (compact)      ``(((0, 3), (1, 3), ...), ((1, 0), ...))``, input and op number
NAS-Bench-301 (ConfigSpace)  ``{"NetworkSelectorDatasetInfo:darts:edge_normal_0":``
                             ``"sep_conv_3x3", ...}``
CDARTS                       ``{"0": "Genotype(...)", "1": "Genotype(...)", ...}``, a text a stage
a log                        any text with ``Genotype(...)``, ``Structure(4 nodes with |...|)`` or
                             ``|...|``
===========================  ======================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archgrad.errors import short_repr

TARGETS = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges of a NAS-Bench-201 cell, (source, target), in the order of its strings."""
NUMBERED = {
    "NAS-Bench-201": (
        ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
        TARGETS,
    ),
    "NASLib": (
        ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3"),
        tuple(sorted(TARGETS)),
    ),
}
"""Project that numbers the ops of NAS-Bench-201 -> the ops by number, and the order of edges."""
COMPACT = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The ops of the DARTS space by NASLib's numbers."""
CELLS = ("normal", "reduce")
INNER = range(2, 6)
CONFIGURED = re.compile(r"(?:.*:)?(edge|inputs_node)_(normal|reduce)_(\d{1,2})")
OWNED = re.compile(r"([\w-]+):\s*([\[(].*)", re.DOTALL)
INPUTS = r"\|(?:[^|~+\s]+~\d{1,2}\|)+"
STRING = re.compile(rf"(?<![\w|~+]){INPUTS}(?:\+{INPUTS})*(?![\w|~+])")


def split_owner(text: str) -> tuple[str, str] | None:
    """Split a text such as ``NASLib:(...)``.

    Args:
        text: The text.

    Returns:
        The name of the project and the text of the numbers; None if the text has another form.

    Raises:
        ValueError: The project is not in `NUMBERED`.
    """
    found = OWNED.fullmatch(text)
    if not found:
        return None
    names = {_key(name): name for name in NUMBERED}
    if _key(found[1]) not in names:
        raise ValueError(
            f"op numbers can be read for {' and '.join(NUMBERED)}, not for {short_repr(found[1])}"
        )
    return names[_key(found[1])], found[2]


def by_numbers(numbers: Any, owner: str) -> str:
    """Return the NAS-Bench-201 string of op numbers.

    Args:
        numbers: An op number for each of the six edges.
        owner: The project that numbers them, a key of `NUMBERED`.

    Returns:
        The string.

    Raises:
        ValueError: There are not six numbers from 0 to 4.
    """
    ops, edges = NUMBERED[owner]
    if not _are_numbers(numbers):
        raise ValueError(
            f"{owner}: {len(edges)} op numbers from 0 to {len(ops) - 1} are expected, "
            f"not {short_repr(numbers)}"
        )
    chosen = {edge: ops[number] for edge, number in zip(edges, numbers, strict=True)}
    nodes = {
        target: [f"{chosen[edge]}~{edge[0]}" for edge in TARGETS if edge[1] == target]
        for target in (1, 2, 3)
    }
    return "+".join(f"|{'|'.join(node)}|" for node in nodes.values())


def converted(data: Any) -> Any:
    """Convert the data of another project for `archgrad.arch.notation`.

    Args:
        data: The value of a text, as a JSON or Python reader returns it.

    Returns:
        An argument of `archgrad.arch.notation.from_mapping`, or a text in one of its notations.
        Other data are returned unchanged.

    Raises:
        ValueError: Op numbers mean more than one cell, the stages of a network differ, or a
            configuration lacks an edge.
    """
    if _are_numbers(data):
        return _alone({f"{owner}:{tuple(data)}": by_numbers(data, owner) for owner in NUMBERED})
    if _is_compact(data):
        return _cells(
            {
                name: [(_compact(number), source) for source, number in cell]
                for name, cell in zip(CELLS, data)
            }
        )
    if isinstance(data, Mapping) and any(CONFIGURED.fullmatch(str(key)) for key in data):
        return _configured(data)
    if texts := _stages(data):
        if len(set(texts)) > 1:
            raise ValueError(
                f"the {len(texts)} stages have different cells: give the text of one of them"
            )
        return texts[0]
    return data


def genotypes_in(text: str) -> list[str]:
    """Return the genotypes in a longer text: each ``Genotype(...)``, else NAS-Bench-201 strings."""
    return list(_calls(text)) or STRING.findall(text)


def _calls(text: str) -> Iterator[str]:
    """Return each ``Genotype(...)`` up to its closing bracket."""
    begin = depth = 0
    for found in re.finditer(r"\bGenotype\(|[()]", text):
        if depth or len(found[0]) > 1:
            begin = begin if depth else found.start()
            depth += -1 if found[0] == ")" else 1
            if not depth:
                yield text[begin : found.end()]


def _alone(meanings: Mapping[str, str]) -> str:
    """Return the text that all meanings share; raise ValueError with a list if they differ."""
    if len(set(meanings.values())) > 1:
        choice = " or ".join(f"{name} ({text})" for name, text in meanings.items())
        raise ValueError(f"these op numbers mean more than one cell: give {choice}")
    return next(iter(meanings.values()))


def _are_numbers(data: Any) -> bool:
    return (
        isinstance(data, list | tuple)
        and len(data) == len(TARGETS)
        and all(type(one) is int and 0 <= one < 5 for one in data)
    )


def _is_compact(data: Any) -> bool:
    pairs = (
        [pair for cell in data for pair in cell]
        if _is_list(data, len(CELLS)) and all(_is_list(cell) for cell in data)
        else []
    )
    return bool(pairs) and all(
        _is_list(pair, 2) and [type(part) for part in pair] == [int, int] for pair in pairs
    )


def _is_list(value: Any, length: int | None = None) -> bool:
    return isinstance(value, list | tuple) and length in (None, len(value))


def _compact(number: int) -> str:
    if not 0 <= number < len(COMPACT):
        raise ValueError(
            f"NASLib numbers the ops of the DARTS space from 0 to {len(COMPACT) - 1}, not {number}"
        )
    return COMPACT[number]


def _cells(pairs: Mapping[str, Sequence[tuple[str, int]]]) -> dict[str, Any]:
    return {
        key: value
        for name, own in pairs.items()
        for key, value in ((name, own), (f"{name}_concat", list(INNER)))
    }


def _configured(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Read a configuration of NAS-Bench-301, where edges are numbered node by node."""
    named: dict[str, dict[tuple[int, int], Any]] = {name: {} for name in CELLS}
    edges = [(source, node) for node in INNER for source in range(node)]
    for key, value in data.items():
        found = CONFIGURED.fullmatch(str(key))
        if found and found[1] == "edge":
            if int(found[3]) >= len(edges):
                raise ValueError(f"{key}: the edges of a cell are 0 to {len(edges) - 1}")
            named[found[2]][edges[int(found[3])]] = value
    for name, chosen in named.items():
        for node in INNER:
            read = [source for source, target in chosen if target == node]
            if len(read) != 2:
                raise ValueError(
                    f"{name}: node {node} needs two input edges, "
                    f"but the configuration has {len(read)}"
                )
    return _cells(
        {
            name: [(chosen[edge], edge[0]) for edge in edges if edge in chosen]
            for name, chosen in named.items()
        }
    )


def _stages(data: Any) -> list[str]:
    """Return the texts of a network's stages; an empty list for other data."""
    texts = (
        list(data.values())
        if isinstance(data, Mapping) and all(str(key).isdigit() for key in data)
        else data
    )
    return list(texts) if _is_list(texts) and all(isinstance(text, str) for text in texts) else []


def _key(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
