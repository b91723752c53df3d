"""Decisions, the genotypes of a module of the user's own, and their text form.

Each choice in the module is an edge group of one edge, whose name is a label or the path of the
choice. The text names what was selected for each, as in ``block1=conv5, block2=depth2,
merge=input0+input2``.
"""

from __future__ import annotations

import re

from archgrad.arch.links import CellGenotype, Cells, Link

NAME = r"\w+(?:\.\w+)*"
ONE = rf"({NAME})\s*=\s*({NAME}(?:\s*\+\s*{NAME})*)"
SPELLED = re.compile(rf"{ONE}(?:\s*,\s*{ONE})*\s*,?")


def are_decisions(cells: Cells) -> bool:
    """Return whether each cell is one edge from node 0 to node 1, with one op or several."""
    return bool(cells) and all(
        cell.links and cell.concat == (1,) and all(link[:2] == (0, 1) for link in cell.links)
        for cell in cells
    )


def read(text: str) -> Cells | None:
    """Read decisions from their text; return None for another text.

    Raises:
        ValueError: A choice is named twice.
    """
    if not SPELLED.fullmatch(text):
        return None
    found: dict[str, CellGenotype] = {}
    for one in re.finditer(ONE, text):
        if one[1] in found:
            raise ValueError(f"choice {one[1]!r} is decided twice: give one decision for it")
        links = tuple(Link(0, 1, primitive.strip()) for primitive in one[2].split("+"))
        found[one[1]] = CellGenotype(one[1], links, (1,))
    return tuple(found.values())


def write(cells: Cells) -> str | None:
    """Return the text of decisions, the inverse of `read`.

    Args:
        cells: The cells of any genotype.

    Returns:
        The text; None if the cells are no decisions, or a name does not fit into the text.
    """
    if not are_decisions(cells):
        return None
    text = ", ".join(
        f"{cell.group}={'+'.join(link.primitive for link in cell.links)}" for cell in cells
    )
    return text if SPELLED.fullmatch(text) else None
