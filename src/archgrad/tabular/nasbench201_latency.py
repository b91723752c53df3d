"""Latency of all NAS-Bench-201 cells on 27 real devices, in ms.

The network has 16 channels and 5 cells a stage, and reads 32x32 images. HW-NAS-Bench (arXiv
2103.10584) and HELP (arXiv 2106.08630) measured it; NOTICE gives the source. A number behind a
device's name is the batch size. The file has four digits. Values below 1 ms on pixel3 and raspi4
(283 and 276 cells, far from all other values) are errors of measurement and were dropped.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from archgrad.arch.edges import Edge, EdgeGroup, groups_of
from archgrad.arch.genotype import Genotype
from archgrad.arch.nasbench201 import CELL, EDGES, OPS
from archgrad.cost.cost import Cost, least_squares
from archgrad.errors import unknown_name
from archgrad.tabular.nasbench201 import index_of, table

GROUPS = groups_of(
    [EdgeGroup(CELL, tuple(Edge(source, target, OPS) for source, target in EDGES), (3,), hidden=())]
)


def devices() -> tuple[str, ...]:
    """Return the names of the devices, in the order of the file."""
    return tuple(_columns())


@cache
def cost(device: str) -> Cost:
    """Return the latency of a cell on a device as a `Cost` in ms.

    Args:
        device: One of `devices`.

    Returns:
        The cost. ``exact`` is the table's value; for a cell without a value it is the fit by ops,
        but never less than the smallest value of the table. ``ops`` are fitted by least squares to
        all cells with a value, and ``r2`` is computed on the same cells.

    Raises:
        ValueError: The table has no such device.
    """
    import torch

    column = _column(device)
    measured = np.flatnonzero(~np.isnan(column))
    fit = least_squares(
        device,
        "ms",
        GROUPS,
        [table().genotype(int(i)) for i in measured],
        torch.from_numpy(column[measured]),
    )
    least = float(np.nanmin(column))

    def exact(genotype: Genotype) -> float:
        found = latency(device, genotype)
        return max(fit.sum_over_ops(genotype), least) if found is None else found

    return Cost(device, "ms", fit.base, fit.ops, exact, fit.r2)


def latency(device: str, genotype: Genotype) -> float | None:
    """Return the table's latency of a cell.

    Args:
        device: One of `devices`.
        genotype: A cell of NAS-Bench-201.

    Returns:
        The latency in ms; None if the value was dropped.

    Raises:
        ValueError: The table has no such device, or the genotype is no cell of the space.
    """
    found = float(_column(device)[index_of(genotype)])
    return None if np.isnan(found) else found


def _column(device: str) -> NDArray[np.float64]:
    if device not in _columns():
        raise unknown_name("device of the NAS-Bench-201 latencies", device, _columns())
    return _columns()[device]


@cache
def _columns() -> dict[str, NDArray[np.float64]]:
    """Return device -> (cells,) ms, NaN for a dropped value. A line of the file is a device."""
    packed = files("archgrad.data_files").joinpath("nasbench201_latency.csv.gz").read_bytes()
    lines = (line.split(",") for line in gzip.decompress(packed).decode().splitlines())
    return {name: np.array([float(value or "nan") for value in values]) for name, *values in lines}
