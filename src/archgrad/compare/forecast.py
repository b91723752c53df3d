"""The time that a study still takes, from its finished runs and the estimates of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, time

from archgrad.compare import retrained, summary
from archgrad.compare.jobs import Run
from archgrad.observers.timing import LONG, estimate_text
from archgrad.run.folder import RunFolder
from archgrad.searching.duration import Costs, Part, Remaining, duration_text
from archgrad.searching.progress import time_left_text
from archgrad.storage import typed_json
from archgrad.storage.folder import EstimateFile


@dataclass(frozen=True)
class Ahead:
    """One search or retraining of a study.

    Attributes:
        kind: Its arm, and ``searches`` or ``retrainings``.
        total: Its whole time in seconds; None if it is unknown.
        fraction_left: The fraction of it that is still to come.
    """

    kind: str
    total: float | None
    fraction_left: float


def time_left(parts: Iterable[Ahead], jobs: int) -> Remaining:
    """Return the time that a study still takes.

    A run of an arm takes the mean time of the known runs of this arm. If there is none, it takes
    the mean over the other arms. Searches and retrainings are counted separately.

    Args:
        parts: All searches and retrainings of the study.
        jobs: How many of them run at the same time.
    """
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
        units = sum(part.fraction_left for part in parts if part.kind == kind)
        found.append(Part(kind, units, like, mean / costs.each[like] if like else 1.0))
    return costs.remaining(found)


def parts_of(runs: Iterable[Run], now: float | None = None) -> list[Ahead]:
    """Return all searches and retrainings of these runs, read from their folders.

    Args:
        runs: The runs of a study.
        now: The time in seconds; by default the present one.
    """
    found = []
    for one in runs:
        found.append(_ahead(f"{one.arm} searches", one.folder, partial(_search_seconds, one), now))
        for seed in range(1, one.retrain_seeds + 1):
            own = retrained.Retraining(one.folder, seed)
            took = partial(_retraining_seconds, own)
            found.append(_ahead(f"{one.arm} retrainings", own.folder, took, now))
    return found


def _search_seconds(one: Run) -> float | None:
    return summary.read(one.summary).get("seconds") if one.summary.exists() else None


def _retraining_seconds(one: retrained.Retraining) -> float | None:
    return one.read_result()["seconds"] if one.is_done else None


def _ahead(
    kind: str, folder: RunFolder, seconds: Callable[[], float | None], now: float | None
) -> Ahead:
    """Return a search or retraining with the time in its result or in its estimate."""
    # other code reports a damaged file, and a run that ends may remove its files just now
    with suppress(ValueError, OSError):
        if (took := seconds()) is not None:
            return Ahead(kind, took, 0.0)
        if folder.estimate.exists():
            estimate = typed_json.read(folder.estimate, EstimateFile)
            total = estimate["total"]
            passed = (time() if now is None else now) - estimate["when"]
            left = max(estimate["left"] - passed, 0.0)
            return Ahead(kind, total, min(left / total, 1.0) if total else 0.0)
    return Ahead(kind, None, 1.0)


class StudyProgress:
    """The lines that a study prints while its runs write to their own logs.

    It prints the expected time of the whole study as soon as one run has an estimate. After that it
    prints a sign of life whenever nothing was printed for some time.

    Args:
        runs: The runs of the study.
        jobs: How many of them run at the same time.
        signs: Whether to print signs of life.
        period: Seconds of silence before a sign of life.
        clock: Returns the time in seconds.
    """

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
        self.announced, self.last_line, self.last_estimate = False, clock(), clock()

    def remaining(self) -> Remaining:
        """Return the time that the study still takes."""
        self.last_estimate = self.clock()
        return time_left(parts_of(self.runs), self.jobs)

    def note_end(self, one: Run, *, failed: bool) -> str:
        """Return the remaining time as the end of a line about a run that ended.

        A failed run no longer counts.
        """
        self.last_line = self.clock()
        self.runs = [other for other in self.runs if not failed or other != one]
        left = self.remaining()
        return f"; {time_left_text(left.seconds)}" if left.terms else ""

    def lines_due(self, alive: Sequence[Run]) -> list[str]:
        """Return the lines to print now."""
        due = self.clock() - self.last_line >= self.period
        if not due and (self.announced or self.clock() - self.last_estimate < 1):
            return []
        left = self.remaining()
        if left.terms and not self.announced:
            self.announced, self.last_line = True, self.clock()
            return [
                estimate_text(left),
                *(self._shorter_study_lines(left) if left.seconds > LONG else ()),
            ]
        if not due or not self.signs:
            return []
        self.last_line = self.clock()
        end = f", {time_left_text(left.seconds)}" if left.terms else ""
        return [f"running: {', '.join(one.name for one in alive) or 'nothing'}{end}"]

    def _shorter_study_lines(self, left: Remaining) -> list[str]:
        """Return a line with settings that halve the time of the study."""
        seeds, half = {one.seed for one in self.runs}, duration_text(left.seconds / 2)
        ways = [f"--seeds {len(seeds) // 2} (about {half})"] if len(seeds) > 1 else []
        ways.append(
            "half of --search.epochs, of --search.limit or, about, of --space.channels "
            "(each halves the time of the searches)"
        )
        return [f"a shorter study: {', '.join(ways)}"]
