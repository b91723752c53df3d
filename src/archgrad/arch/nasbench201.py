"""The cells of NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv 2001.00326): edges, ops, numbers."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

from archgrad.arch.links import CellGenotype, Cells, Link

CELL = "cell"
"""The only edge group of such a genotype."""
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The ops, in the order of the digits in the table's file."""
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges as (source, target), in the order of the benchmark's strings."""


def cells_of(ops: tuple[str, ...]) -> Cells:
    """Return the cell whose edges have the given primitives, in the order of `EDGES`."""
    return (
        CellGenotype(
            CELL, tuple(Link(*edge, op) for edge, op in zip(EDGES, ops, strict=True)), (3,)
        ),
    )


def cells_at(index: int) -> Cells:
    """Return the cell of a row of the benchmark's table.

    Args:
        index: The row, counted from 0.

    Returns:
        The one cell.

    Raises:
        ValueError: The table has no such row.
    """
    if not 0 <= index < len(rows()):
        raise ValueError(f"NAS-Bench-201 has the cells 0 to {len(rows()) - 1}, not {index}")
    return cells_of(tuple(OPS[int(digit)] for digit in rows()[index]))


@cache
def rows() -> tuple[str, ...]:
    """Return the ops of all cells in the benchmark's own order, one digit for each edge."""
    with (
        files("archgrad.data_files").joinpath("nasbench201.csv.gz").open("rb") as packed,
        gzip.open(packed, "rt") as lines,
    ):
        column = lines.readline().strip().split(",").index("ops")
        return tuple(line.split(",")[column].strip().zfill(len(EDGES)) for line in lines)
