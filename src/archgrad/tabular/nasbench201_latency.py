"""Latency of all NAS-Bench-201 cells on 27 real devices, in ms, of the network of 16 channels and 5 cells a stage on 32x32 images.

Measured for HW-NAS-Bench (arXiv 2103.10584) and HELP (arXiv 2106.08630); NOTICE gives the source. A number behind a device's name is the
batch. The file has four digits; what pixel3 and raspi4 state below 1 ms (283 and 276 cells, apart from all others) is dropped as an error of
measurement.
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
from archgrad.errors import unknown
from archgrad.tabular.nasbench201 import index_of, table

GROUPS = groups_of(
    [EdgeGroup(CELL, tuple(Edge(source, target, OPS) for source, target in EDGES), (3,), hidden=())]
)


def devices() -> tuple[str, ...]:
    """Their names, in order."""
    return tuple(_columns())


@cache
def cost(device: str) -> Cost:
    """Latency of a cell on a device: exactly the table's; where the table has none, the fit by ops, or the least of all cells if that is more.
    ``ops`` are the least squares over all cells that it has, which ``r2`` is of too. ValueError for an unknown device."""
    import torch

    column = _column(device)
    there = np.flatnonzero(~np.isnan(column))
    fit = least_squares(
        device,
        "ms",
        GROUPS,
        [table().genotype(int(i)) for i in there],
        torch.from_numpy(column[there]),
    )
    least = float(np.nanmin(column))

    def exact(genotype: Genotype) -> float:
        found = latency(device, genotype)
        return max(fit.added(genotype), least) if found is None else found

    return Cost(device, "ms", fit.base, fit.ops, exact, fit.r2)


def latency(device: str, genotype: Genotype) -> float | None:
    """What the table has of a cell, ms; None where it was dropped. ValueError for an unknown device, or what is no cell of the space."""
    found = float(_column(device)[index_of(genotype)])
    return None if np.isnan(found) else found


def _column(device: str) -> NDArray[np.float64]:
    if device not in _columns():
        raise unknown("device of the NAS-Bench-201 latencies", device, _columns())
    return _columns()[device]


@cache
def _columns() -> dict[str, NDArray[np.float64]]:
    """Device -> ms by cell, NaN for what was dropped. One line of the file is one device."""
    packed = files("archgrad.data_files").joinpath("nasbench201_latency.csv.gz").read_bytes()
    lines = (line.split(",") for line in gzip.decompress(packed).decode().splitlines())
    return {name: np.array([float(value or "nan") for value in values]) for name, *values in lines}
