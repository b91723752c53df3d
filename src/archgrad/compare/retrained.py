"""What is found, trained from scratch several times: seeds of the search and seeds of the retraining are counted apart."""

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
        return RunFolder(self.search.path / f"retrain-seed{self.seed}")

    @property
    def done(self) -> bool:
        return (self.folder.path / WEIGHTS).exists()

    def arguments(self) -> list[str]:
        """Of the command line ``archgrad``; paths whole, so that it works from anywhere."""
        search, own = self.search.path.resolve(), self.folder.path.resolve()
        if (own / CARD).exists():
            return ["resume", str(own)]
        return ["retrain", str(search), "--seed", str(self.seed), "--out", str(own)]

    def result(self) -> dict[str, Any]:
        """Of a finished one: ``test``, its accuracy after the last epoch in percent, and what it took. ValueError where it is not known."""
        own = records.tested(self.folder.metrics, read_card(self.folder.path).settings.epochs)
        return {
            "seed": self.seed,
            "test": 100 * own[-1]["test_accuracy"],
            "seconds": sum(row.get("seconds") or 0.0 for row in own),
        }


def results(search: RunFolder, count: int) -> dict[str, Any]:
    """Of the retrainings 1 to ``count`` that are finished: their common ``settings``, and ``runs``, one `Retraining.result` each; else empty."""
    finished = [
        one for one in (Retraining(search, seed) for seed in range(1, count + 1)) if one.done
    ]
    if not finished:
        return {}
    return {
        "settings": asdict(read_card(finished[0].folder.path).settings),
        "runs": [one.result() for one in finished],
    }


@dataclass(frozen=True)
class Retrained(Spread):
    """Over n searches, each by the mean of its ``each`` retrainings; percent.

    ``sd``: between these means, so it contains the noise of retraining divided by its number. ``sd_retraining``: between the retrainings of one
    search, pooled over the searches; None where none has two. n is never their product: retrainings of one cell say nothing of other searches.
    """

    each: tuple[int, ...]
    sd_retraining: float | None


def retrained(tests: Mapping[int, Sequence[float]]) -> Retrained:
    """``tests``: search seed -> test accuracies of its retrainings."""
    whole = spread([math.fsum(own) / len(own) for own in tests.values()])
    free = sum(len(own) - 1 for own in tests.values())
    within = math.fsum(_squares(own) for own in tests.values())
    return Retrained(
        **asdict(whole),
        each=tuple(map(len, tests.values())),
        sd_retraining=math.sqrt(within / free) if free else None,
    )


def _squares(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def tests_of(summary: Mapping[str, Any]) -> list[float]:
    """Of a summary; empty where nothing was retrained."""
    return [one["test"] for one in summary.get("retrained", {}).get("runs", ())]


def pending(search: RunFolder, count: int) -> Iterator[Retraining]:
    return (
        one for one in (Retraining(search, seed) for seed in range(1, count + 1)) if not one.done
    )
