"""Chains, networks that are a sequence of layers with one choice each, and their text forms.

A layer is an edge group of one edge, and ``stage1_1`` is the first. The text of a genotype is
``mb4_k3|mb6_k5,skip_connect|...`` with commas between layers and bars between stages. A network of
NAS-Bench-Macro (arXiv 2103.11922) has the form ``02012100``, one digit for each of its eight ops.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from archgrad.arch.links import CellGenotype, Cells, Link

MACRO = ("skip_connect", "mb3_k3", "mb6_k5")
"""NAS-Bench-Macro's ops, in the order of its digits."""
MACRO_STAGES = (2, 3, 3)
"""Number of layers in each of its stages."""
OP = r"(?:skip_connect|mb\d+_k\d+)"
SPELLED = re.compile(rf"{OP}(?:\s*[,|]\s*{OP})*")
DIGITS = re.compile(rf"[0-{len(MACRO) - 1}]{{{sum(MACRO_STAGES)}}}")


def layer_name(stage: int, layer: int) -> str:
    """Return the name of a layer such as ``stage2_1``; both numbers count from 1."""
    return f"stage{stage}_{layer}"


def cells(stages: Sequence[Sequence[str]]) -> Cells:
    """Return the cells of a chain, one for each layer.

    Args:
        stages: The primitives of the layers, stage by stage.

    Returns:
        The cells.
    """
    return tuple(
        CellGenotype(layer_name(stage, layer), (Link(0, 1, primitive),), (1,))
        for stage, layers in enumerate(stages, 1)
        for layer, primitive in enumerate(layers, 1)
    )


def stages(cells: Cells) -> tuple[tuple[str, ...], ...] | None:
    """Return the primitives of a chain's layers, stage by stage; None if the cells are no chain."""
    found: list[list[str]] = []
    for cell in cells:
        if len(cell.links) != 1 or cell.links[0][:2] != (0, 1) or cell.concat != (1,):
            return None
        if not found or cell.group == layer_name(len(found) + 1, 1):
            found.append([])
        if cell.group != layer_name(len(found), len(found[-1]) + 1):
            return None
        found[-1].append(cell.links[0].primitive)
    return tuple(map(tuple, found)) or None


def rows(cells: Cells) -> Cells:
    """Return the cells of a genotype as tables and pictures show them.

    Args:
        cells: The cells of any genotype.

    Returns:
        For a chain one cell a stage, whose nodes are the layers; other cells unchanged.
    """
    found = stages(cells)
    if found is None:
        return cells
    return tuple(
        CellGenotype(
            f"stage {number}",
            tuple(Link(k, k + 1, op) for k, op in enumerate(layers)),
            (len(layers),),
        )
        for number, layers in enumerate(found, 1)
    )


def is_macro(cells: Cells) -> bool:
    """Return whether the cells are a network of NAS-Bench-Macro."""
    found = stages(cells)
    return (
        found is not None
        and tuple(map(len, found)) == MACRO_STAGES
        and {op for stage in found for op in stage} <= set(MACRO)
    )


def macro(digits: str) -> Cells:
    """Return the network of NAS-Bench-Macro with the given digits.

    Args:
        digits: Eight digits from 0 to 2, such as ``02012100``.

    Returns:
        Its cells.

    Raises:
        ValueError: The text has another form.
    """
    if not DIGITS.fullmatch(digits):
        raise ValueError(
            f"a network of NAS-Bench-Macro has {sum(MACRO_STAGES)} digits "
            f"from 0 to {len(MACRO) - 1}, not {digits!r}"
        )
    ops = iter(MACRO[int(digit)] for digit in digits)
    return cells([[next(ops) for _ in range(count)] for count in MACRO_STAGES])


def read(text: str) -> Cells | None:
    """Read the cells of a chain in one of the two notations; return None for another text."""
    text = text.strip()
    if DIGITS.fullmatch(text):
        return macro(text)
    if SPELLED.fullmatch(text):
        return cells([[op.strip() for op in stage.split(",")] for stage in text.split("|")])
    return None


def write(cells: Cells) -> str | None:
    """Return the text of a chain, the inverse of `read`.

    Args:
        cells: The cells of any genotype.

    Returns:
        Digits for a network of NAS-Bench-Macro, else the names of the layers; None if the cells are
        no chain of such primitives.
    """
    if is_macro(cells):
        return "".join(str(MACRO.index(cell.links[0].primitive)) for cell in cells)
    text = "|".join(",".join(stage) for stage in stages(cells) or ())
    return text if SPELLED.fullmatch(text) else None
