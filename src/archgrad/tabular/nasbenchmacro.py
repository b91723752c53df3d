"""NAS-Bench-Macro (Su et al., CVPR 2021, arXiv 2103.11922): all 6,561 chains of eight layers, trained for 50 epochs on CIFAR-10.

Accuracies are percent of the test images, each the best of a training's epochs, so a little above what its last epoch had; params and MACs
are those of the CIFAR-10 network (32 channels, 32x32). An identity inside a stage is no layer, so networks that differ only in where such
identities stand are the same: 3,969 were trained, three times each, and the table repeats their values. NOTICE gives the source.
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

from archgrad.arch import chain
from archgrad.arch.chain import MACRO, MACRO_STAGES
from archgrad.arch.genotype import Genotype
from archgrad.cost.cost import spelled
from archgrad.tabular.rows import best_row

MEASURED = "What the benchmark measured of this network: 32 channels, 50 epochs on CIFAR-10, best epoch, mean of three seeds"
JUDGED_BY = "cifar10_test"  # what rank, distance and trajectories refer to
LAYERS = sum(MACRO_STAGES)


@dataclass(frozen=True)
class NASBenchMacro:
    """Columns over the 6,561 networks in the order of their digits: row ``int(digits, 3)``."""

    test: NDArray[np.float64]  # (networks, 3) percent, by seed
    params: NDArray[np.int64]
    macs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.params)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """(networks,) percent, mean over the seeds."""
        return self.test.mean(1)

    def genotype(self, index: int) -> Genotype:
        """The network in row ``index``. ValueError out of range."""
        if not 0 <= index < len(self):
            raise ValueError(f"NAS-Bench-Macro has the networks 0 to {len(self) - 1}, not {index}")
        return Genotype(chain.macro(np.base_repr(index, len(MACRO)).zfill(LAYERS)))


@cache
def table() -> NASBenchMacro:
    """The bundled table, read at the first call."""
    with (
        files("archgrad.data_files").joinpath("nasbenchmacro.csv.gz").open("rb") as packed,
        gzip.open(packed, "rt") as lines,
    ):
        _, *test, params, macs = np.loadtxt(lines, delimiter=",", skiprows=1, unpack=True)
    return NASBenchMacro(np.stack(test, 1), params.astype(np.int64), macs.astype(np.int64))


def query(genotype: Genotype | str) -> dict[str, Any]:
    """What the benchmark measured of a network, as JSON-able values.

    ``index``, ``arch`` (its digits) and ``trained``, those under which it was trained; ``cifar10_test`` (percent), its ``sd`` over the three
    seeds; ``params`` and ``macs``; ``rank`` among ``of`` networks (1 is the best; ``tied`` others have that very accuracy, those that are the
    same network among them); ``distance``: points to the best. ValueError if it is no network of this space.
    """
    found = Genotype.parse(genotype) if isinstance(genotype, str) else genotype
    if not chain.is_macro(found.cells):
        layers = f"{LAYERS} layers in stages of {', '.join(map(str, MACRO_STAGES))}, each one of {', '.join(MACRO)}"
        raise ValueError(f"a network of NAS-Bench-Macro has {layers}: {found}")
    digits, rows = str(found), table()
    index, accuracy = int(digits, len(MACRO)), rows.accuracy
    return {
        "index": index,
        "arch": digits,
        "trained": trained(digits),
        "cifar10_test": round(float(accuracy[index]), 3),
        "sd": round(float(rows.test[index].std(ddof=1)), 3),
        "params": int(rows.params[index]),
        "macs": int(rows.macs[index]),
        "rank": 1 + int((accuracy > accuracy[index]).sum()),
        "tied": int((accuracy == accuracy[index]).sum()) - 1,
        "of": len(rows),
        "distance": round(float(accuracy.max() - accuracy[index]), 3),
    }


def trained(digits: str) -> str:
    """The digits of the same network with the identities of each stage behind its other layers; a stage's first layer is none of them."""
    whole, rest = "", iter(digits)
    for count in MACRO_STAGES:
        first, *others = (next(rest) for _ in range(count))
        whole += first + "".join(sorted(others, key=lambda digit: digit == "0"))
    return whole


def largest() -> Genotype:
    """Expansion 6 and kernel 5 in every layer: found without any search, the bar each method must pass at a smaller cost."""
    return Genotype(chain.macro(str(len(MACRO) - 1) * LAYERS))


def best(bounds: Mapping[str, float]) -> Genotype | None:
    """The network of the highest test accuracy whose ``params`` and ``macs`` are within ``bounds``; None where there is none."""
    rows = table()
    index = best_row(rows.accuracy, {name: getattr(rows, name) for name in bounds}, bounds)
    return None if index is None else rows.genotype(index)


def verdict(
    genotype: Genotype | str, bounds: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """What a finished search is told: `query` of the found network and of the largest one, each under its name in ``cell``; under ``bounds``
    of the best network within them too."""
    rows = [{"cell": "found", **query(genotype)}, {"cell": "all mb6_k5", **query(largest())}]
    top = best(bounds) if bounds else None
    return rows + (
        [{"cell": f"best with {spelled(bounds)}", **query(top)}] if bounds and top else []
    )


def standing(known: Mapping[str, float]) -> dict[str, float]:
    """Where a test accuracy ``cifar10_test`` (percent) stands in the whole space; empty without it.

    ``cifar10_regret``: (best - accuracy) / (best - average): 0 is the best network, 1 the average one. ``cifar10_relative``: 100 (accuracy -
    average) / average (Yang, Esperanca & Carlucci, ICLR 2020, arXiv 1912.12522).
    """
    if JUDGED_BY not in known:
        return {}
    accuracy, own = table().accuracy, known[JUDGED_BY]
    best, average = float(accuracy.max()), float(accuracy.mean())
    return {
        "cifar10_regret": (best - own) / (best - average),
        "cifar10_relative": 100 * (own - average) / average,
    }
