"""When a study will be done: by what its finished runs took and what the running ones expect of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, time

from archgrad.compare import retrained, summary
from archgrad.compare.jobs import Run
from archgrad.observers.timing import LONG, expected
from archgrad.run.folder import RunFolder
from archgrad.searching.duration import Costs, Left, Part, span
from archgrad.searching.progress import to_go
from archgrad.storage import typed_json
from archgrad.storage.folder import EstimateFile


@dataclass(frozen=True)
class Ahead:
    """One search or retraining, seen from outside. ``total``: its seconds in all, None where nothing is known; ``left``: the share of it that
    is to come."""

    kind: str
    total: float | None
    left: float


def study(parts: Iterable[Ahead], jobs: int) -> Left:
    """What a study still takes, ``jobs`` at a time. What an arm takes is the mean of its known runs; of an arm nobody has seen run, that of any
    other, and so with retrainings, which are no searches."""
    parts, costs = list(parts), Costs()
    for kind in dict.fromkeys(part.kind for part in parts):
        known = [part.total for part in parts if part.kind == kind and part.total is not None]
        if known:
            costs.add(kind, sum(known) / len(known) / jobs)
    found = []
    for kind in dict.fromkeys(part.kind for part in parts):
        others = [other for other in costs.each if other.split()[-1] == kind.split()[-1]]
        mean = sum(costs.each[other] for other in others) / len(others) if others else 0.0
        like = others[0] if others else None
        units = sum(part.left for part in parts if part.kind == kind)
        found.append(Part(kind, units, like, mean / costs.each[like] if like else 1.0))
    return costs.left(found)


def look(runs: Iterable[Run], now: float | None = None) -> list[Ahead]:
    """All searches and retrainings of these runs, as their folders say."""
    found = []
    for one in runs:
        found.append(_seen(f"{one.arm} searches", one.folder, partial(_searched, one), now))
        for k in range(1, one.retrain_seeds + 1):
            own = retrained.Retraining(one.folder, k)
            found.append(_seen(f"{one.arm} retrainings", own.folder, partial(_retrained, own), now))
    return found


def _searched(one: Run) -> float | None:
    return summary.read(one.summary).get("seconds") if one.summary.exists() else None


def _retrained(one: retrained.Retraining) -> float | None:
    return one.result()["seconds"] if one.done else None


def _seen(
    kind: str, folder: RunFolder, finished: Callable[[], float | None], now: float | None
) -> Ahead:
    with suppress(
        ValueError, OSError
    ):  # a damaged file is said elsewhere; one that is just being removed is of a run that ends
        if (took := finished()) is not None:
            return Ahead(kind, took, 0.0)
        if folder.estimate.exists():
            said = typed_json.read(folder.estimate, EstimateFile)
            left = max(said["left"] - ((time() if now is None else now) - said["when"]), 0.0)
            return Ahead(
                kind, said["total"], min(left / said["total"], 1.0) if said["total"] else 0.0
            )
    return Ahead(kind, None, 1.0)


class Herald:
    """What a study says while its runs write to their logs: the whole as soon as a run expects an end, then a sign of life every ``period``
    seconds in which it said nothing else, if it is to give any."""

    def __init__(
        self,
        runs: Sequence[Run],
        jobs: int,
        *,
        signs: bool = True,
        period: float = 30.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.runs, self.jobs, self.signs, self.period, self.clock = (
            list(runs),
            jobs,
            signs,
            period,
            clock,
        )
        self.whole, self.spoken, self.looked = False, clock(), clock()

    def left(self) -> Left:
        self.looked = self.clock()
        return study(look(self.runs), self.jobs)

    def ended(self, one: Run, *, failed: bool) -> str:
        """The time left as a line says it, once a run has ended; a failed one is not waited for."""
        self.spoken = self.clock()
        self.runs = [other for other in self.runs if not failed or other != one]
        left = self.left()
        return f"; {to_go(left.seconds)}" if left.terms else ""

    def lines(self, alive: Sequence[Run]) -> list[str]:
        """What is to be said now."""
        due = self.clock() - self.spoken >= self.period
        if not due and (self.whole or self.clock() - self.looked < 1):
            return []
        left = self.left()
        if left.terms and not self.whole:
            self.whole, self.spoken = True, self.clock()
            return [expected(left), *(self._shorter(left) if left.seconds > LONG else ())]
        if not due or not self.signs:
            return []
        self.spoken = self.clock()
        end = f", {to_go(left.seconds)}" if left.terms else ""
        return [f"running: {', '.join(one.name for one in alive) or 'nothing'}{end}"]

    def _shorter(self, left: Left) -> list[str]:
        seeds, half = {one.seed for one in self.runs}, span(left.seconds / 2)
        own = [f"--seeds {len(seeds) // 2} (about {half})"] if len(seeds) > 1 else []
        parts = "half of --search.epochs, of --search.limit or, about, of --space.channels (their searches take half)"
        return [f"a shorter study: {', '.join([*own, parts])}"]
