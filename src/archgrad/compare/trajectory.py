"""The true accuracy of the genotype after each epoch of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from archgrad.compare.statistics import Spread, spread
from archgrad.compare.summary import Summary

SHOWN = 5
"""Number of epochs in a printed table."""


@dataclass(frozen=True)
class Trajectory:
    """The true accuracies after each epoch.

    Attributes:
        measure: The measure of the accuracies, which are in percent.
        spreads: Arm -> one spread for each epoch.
    """

    measure: str
    spreads: Mapping[str, tuple[Spread, ...]]

    @property
    def epochs(self) -> int:
        """Number of epochs of the longest arm."""
        return max(map(len, self.spreads.values()))

    def shown_epochs(self) -> list[int]:
        """Return a few epochs, evenly spaced and counted from 1; the last epoch is one of them."""
        count = min(SHOWN, self.epochs)
        return [-(-self.epochs * k // count) for k in range(1, count + 1)]

    def to_json(self) -> dict[str, Any]:
        """Return the trajectory as ``compare.json`` has it."""
        columns = ("n", "mean", "low", "high")
        arms = {
            arm: {name: [getattr(one, name) for one in path] for name in columns}
            for arm, path in self.spreads.items()
        }
        return {"measure": self.measure, "arms": arms}


def of_run(one: Summary, table: ModuleType) -> list[float]:
    """Return the true accuracy of the genotype after each epoch of a run, in percent.

    For `random`, which trains and judges whole architectures one after another, the genotype is the
    best one judged so far. If a search stopped early, its last genotype fills the rest of its
    epochs. Decisions after the last epoch take no part.

    Args:
        one: The summary of the run.
        table: The benchmark.

    Returns:
        One accuracy for each epoch. The list is empty if the summary lacks a genotype.
    """
    texts = one["epochs"].get("genotype", ())
    if None in texts:
        return []
    drawn = one["epochs"].get("draw_accuracy") or [None] * len(texts)
    best: tuple[float, str] | None = None
    found: list[float] = []
    for text, accuracy in zip(texts, drawn):
        if accuracy is not None and (best is None or accuracy > best[0]):
            best = accuracy, text
        found.append(float(table.query(best[1] if best else text)[table.JUDGED_BY]))
    planned: int = one["config"].get("search", {}).get("epochs", len(found))
    return found + found[-1:] * (planned - len(found))


def trajectory(paths: Mapping[str, Sequence[Sequence[float]]], measure: str) -> Trajectory | None:
    """Return the spread of the accuracies after each epoch.

    Args:
        paths: Arm -> `of_run` of each of its runs.
        measure: The measure of the accuracies.

    Returns:
        The trajectory, or None if no run has one.
    """
    spreads = {}
    for arm, runs in paths.items():
        known = [path for path in runs if path]
        longest = max(map(len, known), default=0)
        if longest:
            spreads[arm] = tuple(
                spread([path[k] for path in known if k < len(path)]) for k in range(longest)
            )
    return Trajectory(measure, spreads) if spreads else None
