"""The files that a search writes while it runs: metrics, decisions and checkpoints.

The observers here read the state and never write to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, process_time
from typing import TYPE_CHECKING

from archgrad.observers.interrupts import Interrupted
from archgrad.searching.observer import Observer
from archgrad.storage import files, records

if TYPE_CHECKING:
    from archgrad.arch.passes import Batch
    from archgrad.searching.types import Decision, Method, SearchData, State, Values
    from archgrad.storage.records import Row


class Metrics(Observer):
    """Append one line of JSON per epoch to a file.

    On resume, lines newer than the checkpoint are removed, so that no line stands twice.

    Args:
        path: File of the metrics.
        epoch: Number of epochs in the checkpoint.

    Raises:
        ValueError: A line of one of these epochs is damaged or missing. The file stays as it is.
    """

    def __init__(self, path: Path, *, epoch: int = 0) -> None:
        self.path = path
        records.write(path, records.read_epochs(path, epoch))

    def append(self, row: Row) -> None:
        """Append one row."""
        files.append(self.path, json.dumps(row))

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> None:
        self.append(row)


class Decisions(Observer):
    """Append one line of JSON per decision of a finalisation to a file.

    A line has the decision's ``note``, and the ``seconds`` and ``cpu_seconds`` that it took. On
    resume, lines newer than the checkpoint are removed.
    """

    def __init__(self, path: Path, *, taken: int = 0) -> None:
        self.path, self.last_times = path, (monotonic(), process_time())
        if path.exists():
            records.write(path, records.read_decisions(path, taken))

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> None:
        self.last_times = monotonic(), process_time()

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        now = monotonic(), process_time()
        took = {"seconds": now[0] - self.last_times[0], "cpu_seconds": now[1] - self.last_times[1]}
        files.append(self.path, json.dumps({"note": decision.note, **took}))
        self.last_times = monotonic(), process_time()


class Checkpoints(Observer):
    """Save checkpoints of a search.

    It saves after every epoch, within an epoch every ``seconds``, after every decision, and when
    the user asks to stop, in which case it then raises `Interrupted`.

    Work between an epoch's last step and its end, and between two decisions, is not saved. There
    `before_measuring` and `before_tuning` react to a request to stop, and a resumed search repeats
    that work. For this purpose the last step of an epoch is saved too, if the checkpoint is older
    than a tenth of ``seconds``.

    Args:
        path: File of the checkpoint.
        seconds: Seconds between two checkpoints within an epoch.
        stopping: Function that returns whether the user asked to stop.
        resume_command: Command by which the user can go on, for the message.
    """

    def __init__(
        self,
        path: Path,
        *,
        seconds: float = 60,
        stopping: Callable[[], bool] = lambda: False,
        resume_command: str = "",
    ) -> None:
        self.path, self.seconds, self.stopping = path, seconds, stopping
        self.resume_command = resume_command
        self.last_save = monotonic()
        self.place = "before the first step"
        self.epochs_over = True  # no epoch is running, so a step now belongs to a finalisation

    def on_step(self, method: Method, state: State, values: Values) -> None:
        self.epochs_over, self.place = False, f"after the steps of epoch {state.epoch + 1}"
        ends = state.step == method.steps(state)
        if self.stopping() or monotonic() - self.last_save >= self.seconds / (10 if ends else 1):
            self._save(method, state)

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> None:
        self.epochs_over = bool(state.stopped) or state.epoch == state.plan.epochs
        self._save(method, state)

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        self.place = f"after decision {len(state.decisions)}"
        self._save(method, state)

    def before_measuring(self) -> None:
        """React to a request to stop, before each batch that something is measured on.

        Raises:
            Interrupted: The user asked to stop.
        """
        if self.stopping():
            raise Interrupted(
                f"stopped {self.place}; all earlier work is saved. "
                f"Go on with: {self.resume_command}"
            )

    def before_tuning(self) -> None:
        """React to a request to stop, before each batch that the search learns from.

        Raises:
            Interrupted: The user asked to stop and no epoch is running; a running epoch saves
                first.
        """
        if self.epochs_over:
            self.before_measuring()

    def _save(self, method: Method, state: State) -> None:
        from archgrad.searching import checkpoint

        checkpoint.save(self.path, checkpoint.pack(method, state))
        self.last_save = monotonic()
        if self.stopping():
            raise Interrupted(
                f"stopped at epoch {state.epoch + 1}, step {state.step}; everything is saved. Go "
                f"on with: {self.resume_command}"
            )


@dataclass(frozen=True, eq=False)
class InterruptibleData:
    """Give the same data, and call a function before each batch.

    Attributes:
        data: SearchData.
        before_measuring: Function that is called before each batch of an evaluation.
        before_tuning: Function that is called before each batch that the search learns from.
    """

    data: SearchData
    before_measuring: Callable[[], object]
    before_tuning: Callable[[], object]

    def count(self, split: str = "train") -> int:
        """Return the number of images of a split."""
        return self.data.count(split)

    def steps(self, split: str = "train") -> int:
        """Return the number of batches of a split in one epoch."""
        return self.data.steps(split)

    def batches(
        self, split: str, epoch: int, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        """Yield batches to learn from, as `SearchData.batches` does."""
        self.before_tuning()
        for batch in self.data.batches(split, epoch, start, steps):
            yield batch
            self.before_tuning()

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        """Yield batches to evaluate on, as `SearchData.evaluation` does."""
        self.before_measuring()
        for found in self.data.evaluation(split, batch, limit):
            yield found
            self.before_measuring()
