"""NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv 2001.00326): all 15,625 cells, trained for 200 epochs on three image sets.

Accuracies are percent, means over the benchmark's seeds; params and MACs are those of the CIFAR-10 network (C=16, N=5, 32x32).
CIFAR-10: "valid" is the second half of the training images after training on the first, "test" follows training on all of them.
CIFAR-100 and ImageNet16-120: "valid" and "test" are two halves of the official test images. NOTICE gives the sources.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgrad.arch import nasbench201 as space
from archgrad.arch.genotype import Genotype
from archgrad.arch.nasbench201 import CELL, EDGES, OPS
from archgrad.cost.cost import spelled
from archgrad.errors import unknown
from archgrad.tabular.rows import best_row

ACCURACIES = tuple(
    f"{images}_{part}"
    for images in ("cifar10", "cifar100", "imagenet16")
    for part in ("valid", "test")
)
MEASURED = "What the benchmark measured of this cell: C=16, N=5, 200 epochs on each set of images"
JUDGED_BY = "cifar10_test"  # what rank, distance and trajectories refer to


@dataclass(frozen=True)
class NASBench201:
    """Columns over the 15,625 cells in the benchmark's own order."""

    ops: NDArray[np.int64]  # (cells, 6) indices into OPS, by edge
    accuracy: dict[str, NDArray[np.float64]]  # ACCURACIES and "cifar10_valid_12_epochs", percent
    params: NDArray[np.int64]
    macs: NDArray[np.int64]  # multiply-adds of one image, known to the nearest thousand
    row: dict[int, int]  # ops as base-5 number -> index

    def __len__(self) -> int:
        return len(self.ops)

    def best(self, column: str = JUDGED_BY) -> float:
        """The highest value of an accuracy column: the optimum of the space."""
        return float(self.accuracy[column].max())

    def average(self, column: str = JUDGED_BY) -> float:
        """Of an accuracy column over all cells: what a random cell has, exactly."""
        return float(self.accuracy[column].mean())

    def genotype(self, index: int) -> Genotype:
        """The cell in row ``index``. ValueError out of range."""
        return Genotype(space.cells_at(index))


@cache
def table() -> NASBench201:
    """The bundled table, read at the first call."""
    with (
        files("archgrad.data_files").joinpath("nasbench201.csv.gz").open("rb") as packed,
        gzip.open(packed, "rt") as lines,
    ):
        names = lines.readline().strip().split(",")
        columns = dict(zip(names, np.loadtxt(lines, delimiter=",", unpack=True)))
    ops = columns["ops"].astype(np.int64)[:, None] // 10 ** np.arange(5, -1, -1) % 10
    return NASBench201(
        ops=ops,
        accuracy={name: columns[name] for name in (*ACCURACIES, "cifar10_valid_12_epochs")},
        params=np.rint(columns["params_M"] * 1e6).astype(np.int64),
        macs=np.rint(columns["macs_M"] * 1e6).astype(np.int64),
        row={int(code): index for index, code in enumerate(_code(ops))},
    )


def query(genotype: Genotype | str) -> dict[str, Any]:
    """What the benchmark measured of a cell, as JSON-able values.

    ``index``, ``arch``; ``ACCURACIES`` and ``cifar10_valid_12_epochs`` (percent); ``params`` and ``macs``; ``rank`` by CIFAR-10
    test accuracy among ``of`` cells (1 is the best; ``tied`` others have that very accuracy); ``distance``: points to the best.
    ValueError if it is no cell of this space.
    """
    found = Genotype.parse(genotype) if isinstance(genotype, str) else genotype
    rows, index = table(), index_of(found)
    test = rows.accuracy[JUDGED_BY]
    return {
        "index": index,
        "arch": str(rows.genotype(index)),
        **{name: round(float(column[index]), 3) for name, column in rows.accuracy.items()},
        "params": int(rows.params[index]),
        "macs": int(rows.macs[index]),
        "rank": 1 + int((test > test[index]).sum()),
        "tied": int((test == test[index]).sum()) - 1,
        "of": len(rows),
        "distance": round(rows.best() - float(test[index]), 3),
    }


def conv3x3() -> Genotype:
    """The cell with ``nor_conv_3x3`` on every edge: found without any search, the bar each method must pass. It is the largest of the space as
    well: no other cell has as many parameters or multiply-adds."""
    return Genotype(space.cells_of(("nor_conv_3x3",) * len(EDGES)))


def best(bounds: Mapping[str, float]) -> Genotype | None:
    """The cell of the highest CIFAR-10 test accuracy whose ``params`` and ``macs`` are within ``bounds``; None where there is none."""
    rows = table()
    index = best_row(
        rows.accuracy[JUDGED_BY], {name: getattr(rows, name) for name in bounds}, bounds
    )
    return None if index is None else rows.genotype(index)


def verdict(
    genotype: Genotype | str, bounds: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """What a finished search is told: `query` of the found cell and of the bar, each under its name in ``cell``; under ``bounds`` of the best
    cell within them too."""
    rows = [{"cell": "found", **query(genotype)}, {"cell": "all nor_conv_3x3", **query(conv3x3())}]
    top = best(bounds) if bounds else None
    return rows + (
        [{"cell": f"best with {spelled(bounds)}", **query(top)}] if bounds and top else []
    )


def standing(known: Mapping[str, float]) -> dict[str, float]:
    """Where test accuracies (``cifar10_test`` ..., percent) stand in the whole space, for each image set.

    ``cifar10_regret``: (best - accuracy) / (best - average): 0 is the best cell, 1 the average one. ``cifar10_relative``: the relative
    improvement over the average random architecture, 100 (accuracy - average) / average (Yang, Esperanca & Carlucci, ICLR 2020,
    arXiv 1912.12522), whose sample of random architectures is here all of them.
    """
    found = {}
    for column in (column for column in ACCURACIES if column.endswith("_test") and column in known):
        best, average, name = (
            table().best(column),
            table().average(column),
            column.removesuffix("_test"),
        )
        found[f"{name}_regret"] = (best - known[column]) / (best - average)
        found[f"{name}_relative"] = 100 * (known[column] - average) / average
    return found


def index_of(genotype: Genotype) -> int:
    """A cell's place in the table. ValueError if it is no cell of this space."""
    groups = [cell.group for cell in genotype.cells]
    if groups != [CELL]:
        raise ValueError(
            f"a NAS-Bench-201 genotype has the one group {CELL!r}, not {', '.join(map(repr, groups)) or 'none'}"
        )
    cell = genotype.cells[0]
    if sorted(link[:2] for link in cell.links) != sorted(EDGES) or cell.concat != (3,):
        raise ValueError(
            f"a NAS-Bench-201 cell has one op on each of its six edges (0 -> 1 to 2 -> 3) and returns node 3: {genotype}"
        )
    for link in cell.links:
        if link.primitive not in OPS:
            raise unknown(
                f"NAS-Bench-201 primitive on edge {link.source} -> {link.target}:",
                link.primitive,
                OPS,
            )
    ops = {(source, target): OPS.index(primitive) for source, target, primitive in cell.links}
    return table().row[int(_code(np.array([ops[edge] for edge in EDGES])))]


def _code(ops: NDArray[np.int64]) -> NDArray[np.int64]:
    """ops (..., 6) -> the base-5 number they spell (...)."""
    return ops @ len(OPS) ** np.arange(5, -1, -1)
