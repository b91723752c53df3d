"""Retrainings of the found networks of a study.

The seeds of the searches and the seeds of the retrainings are counted separately.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from archgrad.compare.statistics import Spread, spread
from archgrad.retraining.card import CARD, WEIGHTS, read_card
from archgrad.run.folder import RunFolder
from archgrad.storage import records


@dataclass(frozen=True)
class Retraining:
    """One training of a found network, inside the run folder of its search."""

    search: RunFolder
    seed: int

    @property
    def folder(self) -> RunFolder:
        """The folder of the retraining."""
        return RunFolder(self.search.path / f"retrain-seed{self.seed}")

    @property
    def is_done(self) -> bool:
        """Whether the retraining is finished."""
        return (self.folder.path / WEIGHTS).exists()

    def arguments(self) -> list[str]:
        """Return the words behind ``archgrad`` that begin or continue it, with absolute paths."""
        search, own = self.search.path.resolve(), self.folder.path.resolve()
        if (own / CARD).exists():
            return ["resume", str(own)]
        return ["retrain", str(search), "--seed", str(self.seed), "--out", str(own)]

    def read_result(self) -> dict[str, Any]:
        """Return ``seed``, ``test`` and ``seconds`` of a finished retraining.

        ``test`` is the test accuracy after the last epoch, in percent.

        Raises:
            ValueError: The metrics are damaged.
        """
        own = records.read_tested(self.folder.metrics, read_card(self.folder.path).settings.epochs)
        return {
            "seed": self.seed,
            "test": 100 * own[-1]["test_accuracy"],
            "seconds": sum(row.get("seconds") or 0.0 for row in own),
        }


def results(search: RunFolder, count: int) -> dict[str, Any]:
    """Return the results of the finished retrainings with the seeds 1 to ``count``.

    Returns:
        Their common ``settings``, and ``runs`` with one `Retraining.read_result` each. The mapping
        is empty if none is finished.
    """
    finished = [
        one for one in (Retraining(search, seed) for seed in range(1, count + 1)) if one.is_done
    ]
    if not finished:
        return {}
    return {
        "settings": asdict(read_card(finished[0].folder.path).settings),
        "runs": [one.read_result() for one in finished],
    }


@dataclass(frozen=True)
class Retrained(Spread):
    """Test accuracies over n searches, in percent.

    Each search counts by the mean of its retrainings. The standard deviation ``sd`` is that between
    these means, so it contains the variance of retraining divided by the number of retrainings. n
    counts the searches and not the retrainings, because retrainings of one genotype carry no
    information on other searches.

    Attributes:
        each: Number of retrainings of each search.
        sd_retraining: Standard deviation between the retrainings of one search, pooled over the
            searches; None if no search has two.
    """

    each: tuple[int, ...]
    sd_retraining: float | None


def retrained(tests: Mapping[int, Sequence[float]]) -> Retrained:
    """Return the spread of the retrainings of an arm.

    Args:
        tests: Seed of the search -> test accuracies of its retrainings, in percent.
    """
    whole = spread([math.fsum(own) / len(own) for own in tests.values()])
    free = sum(len(own) - 1 for own in tests.values())
    within = math.fsum(_squares(own) for own in tests.values())
    return Retrained(
        **asdict(whole),
        each=tuple(map(len, tests.values())),
        sd_retraining=math.sqrt(within / free) if free else None,
    )


def _squares(values: Sequence[float]) -> float:
    """Return the sum of the squared deviations from the mean."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def tests_of(summary: Mapping[str, Any]) -> list[float]:
    """Return the test accuracies of the retrainings in a summary, in percent."""
    return [one["test"] for one in summary.get("retrained", {}).get("runs", ())]


def pending(search: RunFolder, count: int) -> Iterator[Retraining]:
    """Return the retrainings with the seeds 1 to ``count`` that are not finished."""
    return (
        one for one in (Retraining(search, seed) for seed in range(1, count + 1)) if not one.is_done
    )
