"""Watching a search: metrics on disk, progress on the terminal, checkpoints, the estimated end. They read; they never write to the state."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic, process_time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from archgrad.loop import Row
    from archgrad.patch import Decision
    from archgrad.search_method import Method
    from archgrad.state import Data, State
    from archgrad.stepper import Values


Say = Callable[[str], Any]


class Interrupted(Exception):
    """The user asked to stop; everything is saved. ``str`` says how to go on."""


class Metrics:
    """One JSON line per epoch, appended. On resume, lines newer than the checkpoint are cut, so that none stands twice."""

    def __init__(self, path: Path, *, epoch: int = 0) -> None:
        self.path = path
        kept = [row for row in rows(path) if row["epoch"] < epoch] if path.exists() else []
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def append(self, row: Row) -> None:
        append(self.path, row)

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.append(row)

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


class Decisions:
    """One JSON line per decision of a finalisation: its ``note``, and the ``seconds`` and ``cpu_seconds`` it took. Cut as metrics are."""

    def __init__(self, path: Path, *, taken: int = 0) -> None:
        self.path, self.since = path, (monotonic(), process_time())
        if path.exists():
            write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows(path)[:taken]))

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.since = monotonic(), process_time()

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        now = monotonic(), process_time()
        took = {"seconds": now[0] - self.since[0], "cpu_seconds": now[1] - self.since[1]}
        append(self.path, {"note": decision.note, **took})
        self.since = monotonic(), process_time()


class Checkpoints:
    """Saves after every epoch, every ``seconds`` within one, after every decision, and when ``stopping`` says so (then `Interrupted`)."""

    def __init__(self, path: Path, *, seconds: float = 60, stopping: Callable[[], bool] = lambda: False, how: str = "") -> None:
        self.path, self.seconds, self.stopping, self.how = path, seconds, stopping, how
        self.last = monotonic()

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if self.stopping() or monotonic() - self.last >= self.seconds:
            self._save(method, state)

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self._save(method, state)

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        self._save(method, state)

    def _save(self, method: Method, state: State) -> None:
        from archgrad import checkpoint

        checkpoint.save(self.path, checkpoint.pack(method, state))
        self.last = monotonic()
        if self.stopping():
            raise Interrupted(f"stopped at epoch {state.epoch + 1}, step {state.step}; everything is saved. Go on with: {self.how}")


class Bar:
    """A progress bar over all steps, with the phase and the running accuracies; a line per epoch where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.progress = bar(console)
        self.task: Any = None

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task("", total=method.done(state) + method.left(state))
        if state.step % 10 == 0 or state.step == method.steps(state):  # reading a number off a GPU waits for it
            self.progress.update(self.task, description=self._line(method, state, state.averages()), completed=method.done(state))

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.progress.console.print(self._line(method, state, row, row["epoch"]) + f"  {row['seconds']:.0f} s", highlight=False)

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        said = {name: value for name, value in decision.note.items() if isinstance(value, str | int | float)}  # the rest is for going on
        note = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in said.items())
        self.progress.console.print(f"decided {len(state.decisions)}: {note}", highlight=False, markup=False)

    def close(self) -> None:
        self.progress.stop()

    def _line(self, method: Method, state: State, row: Row, epoch: int | None = None) -> str:
        shown = {"train": "train_accuracy", "val": "val_accuracy", "evaluation": "evaluation_accuracy", "draw": "draw_accuracy"}
        parts = [f"{label} {100 * row[key]:.2f} %" for label, key in shown.items() if key in row]
        parts += [f"entropy {row['entropy']:.3f}"] if "entropy" in row else []
        place = f"epoch {(state.epoch if epoch is None else epoch) + 1}/{state.plan.epochs} {row.get('phase') or method.phase(state)}"
        return "  ".join([place, *parts])


class Estimate:
    """After ten steps of this process in a phase, passes too short for ten added up, says when the end is to be expected at that pace."""

    def __init__(self, say: Callable[[str], None], steps: int = 10) -> None:
        self.say, self.steps, self.phase = say, steps, ""
        self.paces: dict[str, Pace] = {}

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if (phase := method.phase(state)) != self.phase:
            self.phase = phase
            self.paces.setdefault(phase, Pace(self.steps)).pause()
        if (each := self.paces[phase].tick()) is not None:
            self.say(ending(each * method.left(state), f"{each:.2f} s a step, {phase}"))

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.phase = ""  # what others measure between epochs is no step

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


class Pace:
    """How fast steps go: the mean of ``steps``, without the first and the first after a pause, which pay for warming up."""

    def __init__(self, steps: int = 10) -> None:
        self.steps, self.at = steps, 0.0
        self.took: list[float] = []  # seconds

    def pause(self) -> None:
        self.at = 0.0

    def tick(self) -> float | None:
        """Called after every step; seconds a step, said once."""
        last, self.at = self.at, monotonic()
        if not last or len(self.took) == self.steps:
            return None
        self.took.append(self.at - last)
        return sum(self.took) / self.steps if len(self.took) == self.steps else None


def bar(console: Console) -> Progress:
    """A bar that shows only where there is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def say_on(console: Console) -> Say:
    """Plain lines: what users named is no markup."""
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)


def ending(seconds: float, rate: str) -> str:
    """``about 12 min to go (0.31 s a step), until 14:05``"""
    minutes = seconds / 60
    span = f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    until = datetime.now() + timedelta(seconds=seconds)
    return f"about {span} to go ({rate}), until {until:{'%H:%M' if minutes < 720 else '%Y-%m-%d %H:%M'}}"


def append(path: Path, row: Row) -> None:
    """A line more, on the disk when it returns."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def rows(path: Path) -> list[Row]:
    """The rows of a file of metrics or decisions; a last line cut short by a kill is left out."""
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def write_atomically(path: Path, text: str) -> None:
    """Writes beside and renames."""
    beside = path.with_name(path.name + ".part")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM only set a flag inside: the step in progress ends first. A second Ctrl-C stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
