"""What a search leaves on the disk while it runs: metrics, decisions, checkpoints. Observers read; they never write to the state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, process_time
from typing import TYPE_CHECKING

from archgrad.observers.interrupts import Interrupted
from archgrad.storage import files, records

if TYPE_CHECKING:
    from archgrad.arch.passes import Batch
    from archgrad.searching.types import Data, Decision, Method, State, Values
    from archgrad.storage.records import Row


class Metrics:
    """One JSON line per epoch, appended. On resume, lines newer than the checkpoint are cut, so that none stands twice. ValueError where one
    of an earlier ``epoch`` is damaged or missing: then the file stays as it is."""

    def __init__(self, path: Path, *, epoch: int = 0) -> None:
        self.path = path
        records.write(path, records.kept(path, epoch))

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def append(self, row: Row) -> None:
        files.append(self.path, json.dumps(row))

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.append(row)

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


class Decisions:
    """One JSON line per decision of a finalisation: its ``note``, and the ``seconds`` and ``cpu_seconds`` it took. Cut as metrics are."""

    def __init__(self, path: Path, *, taken: int = 0) -> None:
        self.path, self.since = path, (monotonic(), process_time())
        if path.exists():
            records.write(path, records.first(path, taken))

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.since = monotonic(), process_time()

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        now = monotonic(), process_time()
        took = {"seconds": now[0] - self.since[0], "cpu_seconds": now[1] - self.since[1]}
        files.append(self.path, json.dumps({"note": decision.note, **took}))
        self.since = monotonic(), process_time()


class Checkpoints:
    """Saves after every epoch, every ``seconds`` within one, after every decision, and when ``stopping`` says so (then `Interrupted`).

    What happens between an epoch's last step and its end, and between two decisions, is saved by neither: a request to stop there is heard
    by `measuring` and `tuning`, and a resumed search does that part again. For this the last step of an epoch is saved too, if the checkpoint
    there is older than a tenth of ``seconds``.
    """

    def __init__(
        self,
        path: Path,
        *,
        seconds: float = 60,
        stopping: Callable[[], bool] = lambda: False,
        how: str = "",
    ) -> None:
        self.path, self.seconds, self.stopping, self.how = path, seconds, stopping, how
        self.last = monotonic()
        self.place = "before the first step"
        self.over = True  # no epoch is at work: what steps now belongs to a finalisation

    def on_step(self, method: Method, state: State, values: Values) -> None:
        self.over, self.place = False, f"in what comes after epoch {state.epoch + 1}"
        ends = state.step == method.steps(state)
        if self.stopping() or monotonic() - self.last >= self.seconds / (10 if ends else 1):
            self._save(method, state)

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.over = bool(state.stopped) or state.epoch == state.plan.epochs
        self._save(method, state)

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        self.place = f"in what comes after decision {len(state.decisions)}"
        self._save(method, state)

    def measuring(self) -> None:
        """Called before each batch that something is measured on. `Interrupted` if it was asked for."""
        if self.stopping():
            raise Interrupted(
                f"stopped {self.place}; all before that is saved. Go on with: {self.how}"
            )

    def tuning(self) -> None:
        """Called before each batch that is learned from. `Interrupted` if it was asked for and no epoch is at work, which would save first."""
        if self.over:
            self.measuring()

    def _save(self, method: Method, state: State) -> None:
        from archgrad.searching import checkpoint

        checkpoint.save(self.path, checkpoint.pack(method, state))
        self.last = monotonic()
        if self.stopping():
            raise Interrupted(
                f"stopped at epoch {state.epoch + 1}, step {state.step}; everything is saved. Go on with: {self.how}"
            )


@dataclass(frozen=True, eq=False)
class Reading:
    """The same images, with ``measuring`` called before each batch that is evaluated on and ``tuning`` before each that is learned from."""

    data: Data
    measuring: Callable[[], object]
    tuning: Callable[[], object]

    def count(self, split: str = "train") -> int:
        return self.data.count(split)

    def steps(self, split: str = "train") -> int:
        return self.data.steps(split)

    def batches(
        self, split: str, epoch: int, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        self.tuning()
        for batch in self.data.batches(split, epoch, start, steps):
            yield batch
            self.tuning()

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        self.measuring()
        for found in self.data.evaluation(split, batch, limit):
            yield found
            self.measuring()
