"""NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv 2001.00326): 15,625 cells on three image sets.

Every cell was trained for 200 epochs. Accuracies are means over the benchmark's seeds, in percent.
Parameters and MACs are those of the CIFAR-10 network (C=16, N=5, 32x32 pixels).

- CIFAR-10, "valid": training on the first half of the training images, accuracy on the second.
- CIFAR-10, "test": training on all training images, accuracy on the test images.
- CIFAR-100 and ImageNet16-120: "valid" and "test" are two halves of the official test images.

NOTICE gives the sources.
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
from archgrad.cost.cost import bounds_text
from archgrad.errors import unknown_name
from archgrad.tabular.rows import best_row

ACCURACIES = tuple(
    f"{images}_{part}"
    for images in ("cifar10", "cifar100", "imagenet16")
    for part in ("valid", "test")
)
MEASURED = "Measurements of this cell by the benchmark: C=16, N=5, 200 epochs on each image set"
JUDGED_BY = "cifar10_test"  # the column of rank, distance and trajectories


@dataclass(frozen=True)
class NASBench201:
    """The columns of the table: 15,625 cells in the benchmark's own order."""

    ops: NDArray[np.int64]  # (cells, 6) indices into OPS, by edge
    accuracy: dict[str, NDArray[np.float64]]  # ACCURACIES and "cifar10_valid_12_epochs", percent
    params: NDArray[np.int64]
    macs: NDArray[np.int64]  # multiply-adds of one image, known to the nearest thousand
    row: dict[int, int]  # ops as a base-5 number -> index

    def __len__(self) -> int:
        return len(self.ops)

    def best_accuracy(self, column: str = JUDGED_BY) -> float:
        """Return the highest value of an accuracy column, the optimum of the space."""
        return float(self.accuracy[column].max())

    def mean_accuracy(self, column: str = JUDGED_BY) -> float:
        """Return the mean of an accuracy column, the exact expectation of a random cell."""
        return float(self.accuracy[column].mean())

    def genotype(self, index: int) -> Genotype:
        """Return the cell of row ``index``; raise ValueError if the table has no such row."""
        return Genotype(space.cells_at(index))


@cache
def table() -> NASBench201:
    """Return the table of the package. The first call reads its file."""
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
    """Return the benchmark's measurements of a cell, as values for JSON.

    Args:
        genotype: The cell, or its text.

    Returns:
        ``index`` and ``arch``; `ACCURACIES` and ``cifar10_valid_12_epochs`` in percent; ``params``
        and ``macs``; ``rank`` by CIFAR-10 test accuracy among ``of`` cells, where 1 is the best and
        ``tied`` other cells have the same accuracy; ``distance`` to the best cell in points.

    Raises:
        ValueError: The genotype is no cell of this space.
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
        "distance": round(rows.best_accuracy() - float(test[index]), 3),
    }


def conv3x3() -> Genotype:
    """Return the cell with ``nor_conv_3x3`` on every edge.

    Nobody needs a search to find it, so a method should find a better cell. It is also the largest
    cell of the space: no other cell has as many parameters or multiply-adds.
    """
    return Genotype(space.cells_of(("nor_conv_3x3",) * len(EDGES)))


def best(bounds: Mapping[str, float]) -> Genotype | None:
    """Return the cell of the highest CIFAR-10 test accuracy within bounds.

    Args:
        bounds: The largest ``params`` and ``macs``; one of them may be missing.

    Returns:
        The cell; None if no cell is within the bounds.
    """
    rows = table()
    index = best_row(
        rows.accuracy[JUDGED_BY], {name: getattr(rows, name) for name in bounds}, bounds
    )
    return None if index is None else rows.genotype(index)


def verdict(
    genotype: Genotype | str, bounds: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Return the rows that a finished search prints beside each other.

    Args:
        genotype: The cell that the search found, or its text.
        bounds: The budget of the search, by ``params`` and ``macs``.

    Returns:
        `query` of the found cell and of `conv3x3`, and with ``bounds`` of the best cell within
        them. Each row has its name under ``cell``.
    """
    rows = [{"cell": "found", **query(genotype)}, {"cell": "all nor_conv_3x3", **query(conv3x3())}]
    top = best(bounds) if bounds else None
    return rows + (
        [{"cell": f"best with {bounds_text(bounds)}", **query(top)}] if bounds and top else []
    )


def standing(known: Mapping[str, float]) -> dict[str, float]:
    """Return the regret and the relative improvement of test accuracies, for each image set.

    Args:
        known: Accuracies in percent under ``cifar10_test``, ``cifar100_test``, ``imagenet16_test``.

    Returns:
        ``cifar10_regret`` is (best - accuracy) / (best - average): 0 for the best cell, 1 for an
        average one. ``cifar10_relative`` is 100 (accuracy - average) / average, the relative
        improvement over the average random architecture (Yang, Esperanca & Carlucci, ICLR 2020,
        arXiv 1912.12522); the average here is over all architectures instead of a sample.
    """
    found = {}
    for column in (column for column in ACCURACIES if column.endswith("_test") and column in known):
        best, average, name = (
            table().best_accuracy(column),
            table().mean_accuracy(column),
            column.removesuffix("_test"),
        )
        found[f"{name}_regret"] = (best - known[column]) / (best - average)
        found[f"{name}_relative"] = 100 * (known[column] - average) / average
    return found


def index_of(genotype: Genotype) -> int:
    """Return a cell's row in the table; raise ValueError if it is no cell of this space."""
    groups = [cell.group for cell in genotype.cells]
    if groups != [CELL]:
        raise ValueError(
            f"a NAS-Bench-201 genotype has the one group {CELL!r}, "
            f"not {', '.join(map(repr, groups)) or 'none'}"
        )
    cell = genotype.cells[0]
    if sorted(link[:2] for link in cell.links) != sorted(EDGES) or cell.concat != (3,):
        raise ValueError(
            "a NAS-Bench-201 cell has one op on each of its six edges (0 -> 1 to 2 -> 3) "
            f"and returns node 3: {genotype}"
        )
    for link in cell.links:
        if link.primitive not in OPS:
            raise unknown_name(
                f"NAS-Bench-201 primitive on edge {link.source} -> {link.target}:",
                link.primitive,
                OPS,
            )
    ops = {(source, target): OPS.index(primitive) for source, target, primitive in cell.links}
    return table().row[int(_code(np.array([ops[edge] for edge in EDGES])))]


def _code(ops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the base-5 number (...) of op indices (..., 6)."""
    return ops @ len(OPS) ** np.arange(5, -1, -1)
