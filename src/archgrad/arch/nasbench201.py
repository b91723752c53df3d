"""NAS-Bench-201's cells (Dong & Yang, ICLR 2020, arXiv 2001.00326): their edges and ops, and the number that each cell has there."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

from archgrad.arch.links import CellGenotype, Cells, Link

CELL = "cell"
"""The one group of such a genotype."""
OPS = (
    "none",
    "skip_connect",
    "nor_conv_1x1",
    "nor_conv_3x3",
    "avg_pool_3x3",
)  # by the digits of the bundled table
EDGES = (
    (0, 1),
    (0, 2),
    (1, 2),
    (0, 3),
    (1, 3),
    (2, 3),
)  # (source, target), in the order of the arch string


def cells_of(ops: tuple[str, ...]) -> Cells:
    """Return the cell whose edges, in the order of `EDGES`, have these primitives."""
    return (
        CellGenotype(
            CELL, tuple(Link(*edge, op) for edge, op in zip(EDGES, ops, strict=True)), (3,)
        ),
    )


def cells_at(index: int) -> Cells:
    """Return the cell in a row of the benchmark's table.

    Args:
        index: The row, from 0 on.

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
    """Return the ops of all cells in the benchmark's own order, a digit an edge."""
    with (
        files("archgrad.data_files").joinpath("nasbench201.csv.gz").open("rb") as packed,
        gzip.open(packed, "rt") as lines,
    ):
        column = lines.readline().strip().split(",").index("ops")
        return tuple(line.split(",")[column].strip().zfill(len(EDGES)) for line in lines)
