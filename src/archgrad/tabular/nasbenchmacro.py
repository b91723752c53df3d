"""NAS-Bench-Macro (Su et al., CVPR 2021, arXiv 2103.11922): all 6,561 chains of eight layers.

Every network was trained for 50 epochs on CIFAR-10. Accuracies are in percent of the test images.
Each one is the accuracy of a training's best epoch, a little above that of its last epoch.
Parameters and MACs are those of the CIFAR-10 network (32 channels, 32x32 pixels).

An identity inside a stage computes nothing, so networks that differ only in the places of such
identities are the same. 3,969 networks were trained, three times each, and the table repeats their
values. NOTICE gives the source.
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
from archgrad.cost.cost import bounds_text
from archgrad.tabular.rows import best_row

MEASURED = (
    "Measurements of this network by the benchmark: "
    "32 channels, 50 epochs on CIFAR-10, best epoch, mean of three seeds"
)
JUDGED_BY = "cifar10_test"  # the column of rank, distance and trajectories
LAYERS = sum(MACRO_STAGES)


@dataclass(frozen=True)
class NASBenchMacro:
    """The columns of the table: 6,561 networks, of which row ``int(digits, 3)`` has the digits."""

    test: NDArray[np.float64]  # (networks, 3) percent, by seed
    params: NDArray[np.int64]
    macs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.params)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Return the accuracies (networks,) in percent, means over the seeds."""
        means: NDArray[np.float64] = self.test.mean(1)
        return means

    def genotype(self, index: int) -> Genotype:
        """Return the network of row ``index``; raise ValueError if the table has no such row."""
        if not 0 <= index < len(self):
            raise ValueError(f"NAS-Bench-Macro has the networks 0 to {len(self) - 1}, not {index}")
        return Genotype(chain.macro(np.base_repr(index, len(MACRO)).zfill(LAYERS)))


@cache
def table() -> NASBenchMacro:
    """Return the table of the package. The first call reads its file."""
    with (
        files("archgrad.data_files").joinpath("nasbenchmacro.csv.gz").open("rb") as packed,
        gzip.open(packed, "rt") as lines,
    ):
        _, *test, params, macs = np.loadtxt(lines, delimiter=",", skiprows=1, unpack=True)
    return NASBenchMacro(np.stack(test, 1), params.astype(np.int64), macs.astype(np.int64))


def query(genotype: Genotype | str) -> dict[str, Any]:
    """Return the benchmark's measurements of a network, as values for JSON.

    Args:
        genotype: The network, or its text.

    Returns:
        ``index``; ``arch``, its digits; ``trained``, the digits of the equal network that was
        trained; ``cifar10_test`` in percent and its ``sd`` over the three seeds; ``params`` and
        ``macs``; ``rank`` among ``of`` networks, where 1 is the best and ``tied`` other networks
        (equal ones among them) have the same accuracy; ``distance`` to the best in points.

    Raises:
        ValueError: The genotype is no network of this space.
    """
    found = Genotype.parse(genotype) if isinstance(genotype, str) else genotype
    if not chain.is_macro(found.cells):
        stages, ops = ", ".join(map(str, MACRO_STAGES)), ", ".join(MACRO)
        layers = f"{LAYERS} layers in stages of {stages}, each one of {ops}"
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
    """Return the digits of the equal network that was trained.

    There the identities of a stage stand behind its other layers. The first layer of a stage stays
    in its place, because there an "identity" is a 1x1 convolution.
    """
    whole, rest = "", iter(digits)
    for count in MACRO_STAGES:
        first, *others = (next(rest) for _ in range(count))
        whole += first + "".join(sorted(others, key=lambda digit: digit == "0"))
    return whole


def largest() -> Genotype:
    """Return the network with expansion 6 and kernel 5 in every layer.

    Nobody needs a search to find it, so a method should find a better network of a lower cost.
    """
    return Genotype(chain.macro(str(len(MACRO) - 1) * LAYERS))


def best(bounds: Mapping[str, float]) -> Genotype | None:
    """Return the network of the highest test accuracy within bounds.

    Args:
        bounds: The largest ``params`` and ``macs``; one of them may be missing.

    Returns:
        The network; None if no network is within the bounds.
    """
    rows = table()
    index = best_row(rows.accuracy, {name: getattr(rows, name) for name in bounds}, bounds)
    return None if index is None else rows.genotype(index)


def verdict(
    genotype: Genotype | str, bounds: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Return the rows that a finished search prints beside each other.

    Args:
        genotype: The network that the search found, or its text.
        bounds: The budget of the search, by ``params`` and ``macs``.

    Returns:
        `query` of the found network and of `largest`, and with ``bounds`` of the best network
        within them. Each row has its name under ``cell``.
    """
    rows = [{"cell": "found", **query(genotype)}, {"cell": "all mb6_k5", **query(largest())}]
    top = best(bounds) if bounds else None
    return rows + (
        [{"cell": f"best with {bounds_text(bounds)}", **query(top)}] if bounds and top else []
    )


def standing(known: Mapping[str, float]) -> dict[str, float]:
    """Return the regret and the relative improvement of a test accuracy.

    Args:
        known: The accuracy in percent under ``cifar10_test``.

    Returns:
        ``cifar10_regret`` is (best - accuracy) / (best - average): 0 for the best network, 1 for an
        average one. ``cifar10_relative`` is 100 (accuracy - average) / average (Yang, Esperanca &
        Carlucci, ICLR 2020, arXiv 1912.12522). Empty if the accuracy is not given.
    """
    if JUDGED_BY not in known:
        return {}
    accuracy, own = table().accuracy, known[JUDGED_BY]
    best, average = float(accuracy.max()), float(accuracy.mean())
    return {
        "cifar10_regret": (best - own) / (best - average),
        "cifar10_relative": 100 * (own - average) / average,
    }
