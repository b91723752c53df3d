"""Not only the end: the true accuracy of what would have been found, had the search been stopped after each of its epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from archgrad.compare.statistics import Spread, spread
from archgrad.compare.summary import Summary

SHOWN = 5  # epochs in a printed table


@dataclass(frozen=True)
class Trajectory:
    """``spreads``: arm -> one an epoch; ``measure``: of what, in percent."""

    measure: str
    spreads: Mapping[str, tuple[Spread, ...]]

    @property
    def epochs(self) -> int:
        return max(map(len, self.spreads.values()))

    def shown(self) -> list[int]:
        """A few epochs, evenly spaced, the last among them; counted from 1."""
        count = min(SHOWN, self.epochs)
        return [-(-self.epochs * k // count) for k in range(1, count + 1)]

    def to_json(self) -> dict[str, Any]:
        columns = ("n", "mean", "low", "high")
        arms = {
            arm: {name: [getattr(one, name) for one in path] for name in columns}
            for arm, path in self.spreads.items()
        }
        return {"measure": self.measure, "arms": arms}


def of_run(one: Summary, table: ModuleType) -> list[float]:
    """After each epoch, percent; empty where the genotypes are not in the summary, or one was lost.

    Where whole draws are trained and judged one after another (`random`) it is the best one judged so far. Of a search that stopped early the
    last one stands for the rest of its epochs: it would be found then as well. A finalisation comes after the last epoch and is not in it.
    """
    texts = one["epochs"].get("genotype", ())
    if None in texts:
        return []
    drawn = one["epochs"].get("draw_accuracy") or [None] * len(texts)
    ahead: tuple[float, str] | None = None
    found = []
    for text, accuracy in zip(texts, drawn):
        if accuracy is not None and (ahead is None or accuracy > ahead[0]):
            ahead = accuracy, text
        found.append(float(table.query(ahead[1] if ahead else text)[table.JUDGED_BY]))
    planned = one["config"].get("search", {}).get("epochs", len(found))
    return found + found[-1:] * (planned - len(found))


def trajectory(paths: Mapping[str, Sequence[Sequence[float]]], measure: str) -> Trajectory | None:
    """``paths``: arm -> `of_run` of each of its runs. None if there are none."""
    spreads = {}
    for arm, runs in paths.items():
        known = [path for path in runs if path]
        longest = max(map(len, known), default=0)
        if longest:
            spreads[arm] = tuple(
                spread([path[k] for path in known if k < len(path)]) for k in range(longest)
            )
    return Trajectory(measure, spreads) if spreads else None
