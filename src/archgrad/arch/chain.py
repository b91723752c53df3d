"""Chains as values: networks whose layers stand one behind the other, each a choice of its own, and how their genotypes are written.

A layer is an edge group of one edge, ``stage1_1`` the first. A genotype reads ``mb4_k3|mb6_k5,skip_connect|...``, layers apart by commas,
stages by bars; NAS-Bench-Macro's own ``02012100`` (arXiv 2103.11922) names the ops of its eight layers by digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from archgrad.arch.links import CellGenotype, Cells, Link

MACRO = ("skip_connect", "mb3_k3", "mb6_k5")
"""NAS-Bench-Macro's ops, by its digits."""
MACRO_STAGES = (2, 3, 3)
OP = r"(?:skip_connect|mb\d+_k\d+)"
SPELLED = re.compile(rf"{OP}(?:\s*[,|]\s*{OP})*")
DIGITS = re.compile(rf"[0-{len(MACRO) - 1}]{{{sum(MACRO_STAGES)}}}")


def layer_name(stage: int, layer: int) -> str:
    """Both counted from 1: ``stage2_1``."""
    return f"stage{stage}_{layer}"


def cells(stages: Sequence[Sequence[str]]) -> Cells:
    """Return the cells of a chain: one a layer, from the primitive of each layer, stage by stage."""
    return tuple(
        CellGenotype(layer_name(stage, layer), (Link(0, 1, primitive),), (1,))
        for stage, layers in enumerate(stages, 1)
        for layer, primitive in enumerate(layers, 1)
    )


def stages(cells: Cells) -> tuple[tuple[str, ...], ...] | None:
    """Inverse of `chain.cells`; None for what is no chain."""
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
    """A chain as one cell a stage, whose nodes are its layers: how it is shown. Other cells stay as they are."""
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
    """Whether this is a network of NAS-Bench-Macro."""
    found = stages(cells)
    return (
        found is not None
        and tuple(map(len, found)) == MACRO_STAGES
        and {op for stage in found for op in stage} <= set(MACRO)
    )


def macro(digits: str) -> Cells:
    """``02012100`` -> that network of NAS-Bench-Macro. ValueError for other than eight digits from 0 to 2."""
    if not DIGITS.fullmatch(digits):
        raise ValueError(
            f"a network of NAS-Bench-Macro is named by {sum(MACRO_STAGES)} digits from 0 to {len(MACRO) - 1}, not {digits!r}"
        )
    ops = iter(MACRO[int(digit)] for digit in digits)
    return cells([[next(ops) for _ in range(count)] for count in MACRO_STAGES])


def read(text: str) -> Cells | None:
    """The cells of a chain in one of the two notations; None for another text."""
    text = text.strip()
    if DIGITS.fullmatch(text):
        return macro(text)
    if SPELLED.fullmatch(text):
        return cells([[op.strip() for op in stage.split(",")] for stage in text.split("|")])
    return None


def write(cells: Cells) -> str | None:
    """Inverse of `read`, digits for a network of NAS-Bench-Macro; None for what is no chain of such primitives."""
    if is_macro(cells):
        return "".join(str(MACRO.index(cell.links[0].primitive)) for cell in cells)
    text = "|".join(",".join(stage) for stage in stages(cells) or ())
    return text if SPELLED.fullmatch(text) else None
