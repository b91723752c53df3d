"""The notations of genotypes. Reading is safe, because no text is evaluated as code.

======================  ==========================================================================
JSON of archgrad        ``{"normal": {"links": [[source, target, primitive], ...],``
                        ``"concat": [2, 3, 4, 5]}, ...}``
DARTS                   ``Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6),``
                        ``reduce=[...], ...)``
... as an object        ``{"normal": [["sep_conv_3x3", 1], ...], "normal_concat": [2, 3, 4, 5]}``
... nested (AutoDL)     ``[(('sep_conv_3x3', 1), ('sep_conv_3x3', 0)), ...]``, an entry for each
                        node with any number of pairs
... triples (FairDARTS) ``[('sep_conv_3x3', 2, 0), ...]``, primitive, node and input, any number
                        for each node
NAS-Bench-201           ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|``
... as an index         ``12138``, the row of NAS-Bench-201's table, as `archgrad query` prints it
chains                  ``mb4_k3|mb6_k5,skip_connect|...``, or NAS-Bench-Macro's ``02012100``
modules of your own     ``block1=conv5, block2=depth2, merge=input0+input2``
a published name        ``DARTS_V2``, or ``REPOSITORY:NAME`` as in ``AutoDL-Projects:GDAS_V1``
======================  ==========================================================================

Nodes are numbered as in DARTS. Nodes 0 and 1 are a cell's inputs, and pair ``i`` of a flat list
leads to node ``2 + i // 2``. A NAS-Bench-201 cell has one input, node 0. A reader drops the weight
of a triple ``(primitive, input, weight)`` and accepts numpy's forms of numbers.
`archgrad.arch.spellings` reads the notations of other projects and of logs.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from keyword import iskeyword
from typing import Any

from archgrad.arch import chain, decisions, nasbench201, spellings
from archgrad.arch.links import CellGenotype, Cells, Link
from archgrad.arch.nasbench201 import CELL
from archgrad.errors import short_repr, shortened

WORD = re.compile(r"[A-Za-z]\w*", re.ASCII)
NODES = 64
"""The most nodes of a cell. Published cells have at most 8; the limit refuses range(2, 10**9)."""
MOST_CHARACTERS = 200_000
"""The most characters of a genotype.

64 nodes that all read each other take fewer, and Python's parser takes a second for a megabyte.
"""
ALLOWED = "a genotype contains only names, numbers, lists and range(a, b)"
INDEX = re.compile(r"\d{1,5}")
NUMPY = (
    "int8",
    "int16",
    "int32",
    "int64",
    "intp",
    "uint8",
    "float16",
    "float32",
    "float64",
    "str_",
)
"""Types whose values numpy prints as calls."""


class NotAGenotype(ValueError):
    """A text is not a genotype as a whole, but a part of it may be one."""


def parse(text: str) -> Cells | None:
    """Read the cells of a genotype from its text.

    Args:
        text: A genotype in any notation of this module except a published name.

    Returns:
        The cells; None if the text may be a name (`archgrad.arch.published.find` looks it up).

    Raises:
        ValueError: The text is damaged; the message names the place and the reason in one line.
    """
    if not isinstance(text, str):
        raise ValueError(f"the text of a genotype is expected, not {short_repr(text)}")
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"a genotype has at most {MOST_CHARACTERS:,} characters, "
            f"this one has {len(text):,}: {_short(text)}"
        )
    text = text.strip()
    if INDEX.fullmatch(text):
        return nasbench201.cells_at(int(text))
    if numbers := spellings.split_owner(text):
        return _read_arch_string(spellings.by_numbers(_literal(numbers[1]), numbers[0]))
    if text.startswith("|") or text.startswith(("{", "[")) or "(" in text or "~" in text:
        return _spelled(text)
    return chain.read(text) or decisions.read(text)


def _spelled(text: str) -> Cells:
    """Read a text that is a genotype, or that contains one among other words."""
    try:
        return _read(text)
    except NotAGenotype:
        found = {_read(part) for part in spellings.genotypes_in(text) if part != text}
        if not found:
            raise
    if len(found) > 1:
        raise ValueError(f"this text contains {len(found)} different genotypes: give one of them")
    return found.pop()


def _read(text: str) -> Cells:
    """Read a text that is a genotype as a whole."""
    if text.startswith("|"):
        return _read_arch_string(text)
    data = spellings.converted(_literal(text))
    return _read(data) if isinstance(data, str) else from_mapping(data)


def write(cells: Cells) -> str:
    """Return the shortest text that keeps all information, on one line.

    Args:
        cells: The cells of a genotype.

    Returns:
        Layers or digits for a chain, a NAS-Bench-201 string for a complete ``cell``,
        ``Genotype(...)`` if every node has two inputs, decisions for a module of the user's own,
        JSON otherwise. `parse` is the inverse.
    """
    if layers := chain.write(cells):
        return layers
    words = [cell.group for cell in cells] + [
        link.primitive for cell in cells for link in cell.links
    ]
    if cells and all(WORD.fullmatch(word) for word in words):
        if len(cells) == 1 and _is_complete(cells[0]):
            return _write_arch_string(cells[0])
        if all(_is_paired(cell) for cell in cells):
            return f"Genotype({', '.join(_write_pairs(cell) for cell in cells)})"
    return decisions.write(cells) or json.dumps(to_json(cells))


def to_json(cells: Cells) -> dict[str, Any]:
    """Return ``{group: {"links": [[source, target, primitive], ...], "concat": [...]}}``."""
    return {
        cell.group: {"links": [list(link) for link in cell.links], "concat": list(cell.concat)}
        for cell in cells
    }


def from_json(data: Any) -> Cells:
    """Read cells from values of `to_json`; raise ValueError as `parse` does."""
    if (
        not isinstance(data, Mapping)
        or not data
        or not all(isinstance(cell, Mapping) for cell in data.values())
    ):
        raise ValueError(
            f"a genotype is an object with 'links' and 'concat' for each cell, not {_short(data)}"
        )
    return tuple(_read_cell(str(group), cell) for group, cell in data.items())


def from_mapping(data: Any) -> Cells:
    """Read cells from values that a JSON reader returns.

    Args:
        data: A value of `to_json`, or an object with ``NAME`` and ``NAME_concat`` for each cell.

    Returns:
        The cells.

    Raises:
        ValueError: The data have another form; the message names the place and the reason.
    """
    if not isinstance(data, Mapping) or not data:
        raise ValueError(f"a genotype is an object with one entry per cell, not {_short(data)}")
    if all(isinstance(cell, Mapping) for cell in data.values()):
        return from_json(data)
    # AutoDL writes connectN=None and connects=None.
    data = {str(key): value for key, value in data.items() if value is not None}
    groups = [key for key in data if f"{key}_concat" in data]
    if odd := [
        key for key in data if key not in groups and key.removesuffix("_concat") not in groups
    ]:
        fix = (
            f"{odd[0].removesuffix('_concat')!r}"
            if odd[0].endswith("_concat")
            else f"'{odd[0]}_concat'"
        )
        raise ValueError(
            f"a genotype's cell needs its links and its concat: {odd[0]!r} is given without {fix}"
        )
    return tuple(
        CellGenotype(g, _read_links(g, data[g]), _read_concat(g, data[f"{g}_concat"]))
        for g in groups
    )


def _read_cell(group: str, cell: Mapping[str, Any]) -> CellGenotype:
    if set(cell) != {"links", "concat"}:
        raise ValueError(
            f"{group}: a cell has 'links' and 'concat', "
            f"this one has {', '.join(map(repr, cell)) or 'nothing'}"
        )
    spelled = _sequence(group, cell["links"])
    for place, link in enumerate(spelled):
        if not _is_entry(link, int, int, str):
            raise ValueError(
                f"{group}, entry {place}: expected [source, target, primitive], got {_short(link)}"
            )
    return CellGenotype(group, _links(group, spelled), _read_concat(group, cell["concat"]))


def _read_links(group: str, entries: Any) -> tuple[Link, ...]:
    entries = _sequence(group, entries)
    forms = [_form(entry) for entry in entries]
    for place, form in enumerate(forms):
        if form is None or form != forms[0]:
            expected = (
                "(primitive, input), (primitive, node, input), (primitive, input, weight) "
                "or one list of pairs per node, the same for all entries"
            )
            raise ValueError(
                f"{group}, entry {place}: expected {expected}, got {_short(entries[place])}"
            )
    if forms[:1] == ["triple"]:
        return _links(group, [(source, node, primitive) for primitive, node, source in entries])
    if forms[:1] == ["node"]:
        return _links(
            group,
            [
                (source, 2 + i, primitive)
                for i, node in enumerate(entries)
                for primitive, source in node
            ],
        )
    if forms[:1] == ["weighted"]:
        entries = [entry[:2] for entry in entries]
    if len(entries) % 2:
        raise ValueError(f"{group}: {len(entries)} pairs (primitive, input), but two make a node")
    return _links(
        group, [(source, 2 + i // 2, primitive) for i, (primitive, source) in enumerate(entries)]
    )


def _form(entry: Any) -> str | None:
    if _is_entry(entry, str, int):
        return "pair"
    if _is_entry(entry, str, int, int):
        return "triple"
    if _is_entry(entry, str, int, float):
        return "weighted"
    return (
        "node"
        if isinstance(entry, list | tuple) and all(_is_entry(pair, str, int) for pair in entry)
        else None
    )


def _links(group: str, spelled: Sequence[tuple[int, int, str]]) -> tuple[Link, ...]:
    for place, (source, target, _) in enumerate(spelled):
        if not 0 <= source < target < NODES:
            raise ValueError(
                f"{group}, entry {place}: node {target} cannot read node {source}; "
                "a node reads earlier ones"
            )
    return tuple(Link(*link) for link in spelled)


def _read_concat(group: str, concat: Any) -> tuple[int, ...]:
    nodes = _sequence(f"{group}_concat", concat)
    if not all(type(node) is int and 0 <= node < NODES for node in nodes):
        raise ValueError(f"{group}_concat: expected node numbers, got {_short(concat)}")
    return tuple(nodes)


def _read_arch_string(text: str) -> Cells:
    links: list[tuple[int, int, str]] = []
    nodes = text.split("+")
    for target, node in enumerate(nodes, 1):
        inputs = [
            re.fullmatch(r"([^|~+]+)~(\d{1,2})", op) for op in node.strip().strip("|").split("|")
        ]
        if None in inputs or not (node.strip().startswith("|") and node.strip().endswith("|")):
            raise NotAGenotype(
                f"node {target} of a NAS-Bench-201 string has the form '|primitive~input|...|', "
                f"not {_short(node)}"
            )
        spelled = [(int(found[2]), target, found[1]) for found in inputs if found]
        if sorted(source for source, _, _ in spelled) != list(range(target)):
            wanted = f"one op on each of the inputs 0 to {target - 1}"
            raise ValueError(
                f"node {target} of a NAS-Bench-201 string has {wanted}, not {_short(node)}"
            )
        links += sorted(spelled)
    return (CellGenotype(CELL, _links(CELL, links), (len(nodes),)),)


def _is_complete(cell: CellGenotype) -> bool:
    """Return whether each node reads all earlier ones in order and the last node is the output."""
    last = max((link.target for link in cell.links), default=0)
    edges = [(source, target) for target in range(1, last + 1) for source in range(target)]
    return (
        cell.group == CELL
        and last > 0
        and [link[:2] for link in cell.links] == edges
        and cell.concat == (last,)
    )


def _write_arch_string(cell: CellGenotype) -> str:
    nodes: dict[int, list[str]] = {}
    for source, target, primitive in cell.links:
        nodes.setdefault(target, []).append(f"{primitive}~{source}")
    return "+".join(f"|{'|'.join(node)}|" for node in nodes.values())


def _is_paired(cell: CellGenotype) -> bool:
    """Return whether a flat list of pairs can represent a cell."""
    taken = iskeyword(cell.group) or cell.group.endswith("_concat")
    return (
        not taken
        and len(cell.links) % 2 == 0
        and all(link.target == 2 + i // 2 for i, link in enumerate(cell.links))
    )


def _write_pairs(cell: CellGenotype) -> str:
    pairs = [(link.primitive, link.source) for link in cell.links]
    first, last = (cell.concat[0], cell.concat[-1] + 1) if cell.concat else (0, 0)
    straight = len(cell.concat) > 1 and cell.concat == tuple(range(first, last))
    concat = f"range({first}, {last})" if straight else str(list(cell.concat))
    return f"{cell.group}={pairs}, {cell.group}_concat={concat}"


def _literal(text: str) -> Any:
    """Read JSON, a Python literal or a call ``Genotype(name=...)``, with or without ``name =``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass  # the text is not JSON, so it is read as Python
    try:
        with warnings.catch_warnings(action="ignore"):  # Python warns about some texts
            parsed = ast.parse(text)
        match parsed.body:
            case [ast.Expr(value=value) | ast.Assign(value=value)]:
                return _value(value)
        raise _Foreign(f"this text has {len(parsed.body)} statements")
    except SyntaxError as error:
        raise NotAGenotype(
            f"not a genotype: {error.msg} at character {error.offset} of {_short(text)}"
        ) from None
    except _Foreign as error:
        raise NotAGenotype(f"not a genotype: {ALLOWED}, and {error}: {_short(text)}") from None
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise NotAGenotype(f"not a genotype: {ALLOWED}: {_short(text)}") from None


class _Foreign(Exception):
    """A text has a part that no genotype has."""


def _value(node: ast.AST) -> Any:
    match node:
        case ast.Call(
            func=ast.Name(id="Genotype") | ast.Attribute(attr="Genotype"),
            args=[],
            keywords=keywords,
        ):
            return {str(keyword.arg): _value(keyword.value) for keyword in keywords}
        case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]) if arguments:
            numbers = range(*(ast.literal_eval(argument) for argument in arguments))
            return list(numbers[: NODES + 1])
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner], keywords=[]):
            return _value(inner)
        case ast.Dict(keys=keys, values=values):
            return {ast.literal_eval(key): _value(value) for key, value in zip(keys, values) if key}
        case ast.List(elts=entries) | ast.Tuple(elts=entries):
            return [_value(entry) for entry in entries]
        case ast.Call(
            func=ast.Name(id=kind) | ast.Attribute(attr=kind), args=[inner], keywords=[]
        ) if kind in NUMPY:
            return _value(inner)
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Call(func=ast.Name(id="Genotype") | ast.Attribute(attr="Genotype")):
            raise _Foreign("the cells of this one have no names, as in normal=[...]")
    raise _Foreign(f"this text has {shortened(ast.unparse(node), 40)}")


def _sequence(where: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: expected a list, got {_short(value)}")
    return value


def _is_entry(value: Any, *types: type) -> bool:
    return isinstance(value, list | tuple) and [type(part) for part in value] == list(types)


def _short(value: Any) -> str:
    return shortened(short_repr(value), 60)
