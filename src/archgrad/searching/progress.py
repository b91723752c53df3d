"""The progress of a search: a bar in a terminal or a notebook, and lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from archgrad import terminal
from archgrad.searching.duration import Remaining, duration_text
from archgrad.searching.observer import Observer

if TYPE_CHECKING:
    from archgrad.searching.types import Decision, Method, SearchData, State, Values
    from archgrad.storage.records import Row

Clock = Callable[[], float]
"""A function that returns the seconds of a clock."""


class TimeLeft(Protocol):
    """Estimate the remaining time, as `archgrad.observers.timing.Timing` does."""

    def remaining(self, state: State) -> Remaining:
        """Return the estimate of the work to come."""


class SignsOfLife:
    """Print a line with the place and the remaining time when nothing else was printed.

    A thread prints it; the thread reads only the place that the main thread set last, and nothing
    of the search.

    Args:
        say: Function that prints a line; None prints nothing (in a terminal).
        seconds: Seconds without output after which a line is printed.
        clock: Clock.
    """

    def __init__(
        self, say: Callable[[str], Any] | None, seconds: float = 30.0, clock: Clock = monotonic
    ) -> None:
        self.say, self.seconds, self.clock = say, seconds, clock
        self.place, self.end = "", None  # type: str, float | None
        self.last_line, self.finished = clock(), threading.Event()

    def set_place(self, place: str, left: float | None = None) -> None:
        """Set the place of the work, and the seconds that are left; None keeps the expected end."""
        self.place = place
        if left is not None:
            self.end = self.clock() + left

    def note_line(self) -> None:
        """Record that a line was printed, so that the next one is due ``seconds`` later."""
        self.last_line = self.clock()

    def line_due(self) -> str | None:
        """Return the line that is due now, or None."""
        if not self.place or self.clock() - self.last_line < self.seconds:
            return None
        self.note_line()
        if self.end is None:
            return self.place
        return f"{self.place}, {time_left_text(self.end - self.clock())}"

    def __enter__(self) -> SignsOfLife:
        if self.say is not None:
            threading.Thread(target=self._print_lines, args=(self.say,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.finished.set()

    def _print_lines(self, say: Callable[[str], Any]) -> None:
        while not self.finished.wait(min(1.0, self.seconds)):
            if (line := self.line_due()) is not None:
                # Where standard output is full or closed, the next line of the main thread fails.
                with suppress(OSError):
                    say(line)


class Bar(Observer):
    """Show a progress bar over all steps, and print a line per epoch and per decision.

    The bar has the phase, the running accuracies and the remaining time.
    """

    def __init__(
        self, console: Console, timing: TimeLeft | None = None, life: SignsOfLife | None = None
    ) -> None:
        self.progress = progress_bar(console, own=timing is not None)
        self.timing, self.life = timing, life or SignsOfLife(None)
        self.task: Any = None

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task(
                "", total=method.steps_done(state) + method.steps_left(state), left=""
            )
        # The bar moves every ten steps, because reading a number waits for the GPU.
        if state.step % 10 == 0 or state.step == method.steps(state):
            line = self._line(method, state, state.averages())
            self.progress.update(
                self.task,
                description=line,
                completed=method.steps_done(state),
                left=self._time_left_text(state).removeprefix(", "),
            )
        over = state.step == method.steps(state)
        place = "its end" if over else f"step {state.step}/{method.steps(state)}"
        left = None
        if self.timing and (over or state.step % 10 == 1):
            left = self.timing.remaining(state).seconds
        self.life.set_place(f"epoch {state.epoch + 1}/{state.plan.epochs}, {place}", left)

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> None:
        self._print(
            state, self._line(method, state, row, row["epoch"]) + f"  {row['seconds']:.0f} s"
        )
        over = state.stopped or state.epoch == state.plan.epochs
        self.life.set_place(
            "after the last epoch" if over else f"epoch {state.epoch + 1}/{state.plan.epochs}"
        )

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        # Only plain values are printed; the finalisation needs the others to go on.
        note = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in decision.note.items()
            if isinstance(value, str | int | float)
        )
        self._print(state, f"decided {len(state.decisions)}: {note}")
        self.life.set_place(f"after decision {len(state.decisions)}")

    def close(self) -> None:
        """Remove the bar."""
        self.progress.stop()

    def _print(self, state: State, line: str) -> None:
        self.progress.console.print(
            line + self._time_left_text(state), highlight=False, markup=False
        )
        self.life.note_line()
        if self.timing:
            self.life.set_place(self.life.place, self.timing.remaining(state).seconds)

    def _time_left_text(self, state: State) -> str:
        left = self.timing.remaining(state) if self.timing else None
        return f", {time_left_text(left.seconds)}" if left and left.terms else ""

    def _line(self, method: Method, state: State, row: Row, epoch: int | None = None) -> str:
        shown = {
            "train": "train_accuracy",
            "val": "val_accuracy",
            "evaluation": "evaluation_accuracy",
            "draw": "draw_accuracy",
        }
        parts = [f"{label} {100 * row[key]:.2f} %" for label, key in shown.items() if key in row]
        if "entropy" in row:
            parts.append(f"entropy {row['entropy']:.3f}")
        number = (state.epoch if epoch is None else epoch) + 1
        phase = row.get("phase") or method.phase(state)
        return "  ".join([f"epoch {number}/{state.plan.epochs} {phase}", *parts])


def time_left_text(seconds: float, now: datetime | None = None) -> str:
    """Return a duration and its end as text, such as "about 12 min to go, until 14:05"."""
    until = (now or datetime.now()) + timedelta(seconds=max(seconds, 0))
    form = "%H:%M" if seconds < 12 * 3600 else "%Y-%m-%d %H:%M"
    return f"about {duration_text(max(seconds, 0))} to go, until {until:{form}}"


def is_watched(console: Console) -> bool:
    """Return whether the console is a terminal or a notebook, which can show a moving bar."""
    return console.is_terminal or console.is_jupyter


@contextmanager
def visible_bars() -> Iterator[list[Bar]]:
    """Yield a list with a bar in a terminal or a notebook, and an empty list elsewhere."""
    console = terminal.console(soft_wrap=True)
    shown = Bar(console) if is_watched(console) else None
    try:
        yield [shown] if shown else []
    finally:
        if shown:
            shown.close()


def progress_bar(console: Console, *, own: bool = False) -> Progress:
    """Return a bar that is visible in a terminal or a notebook only.

    Args:
        console: Console.
        own: Whether tasks give the remaining time themselves, in their field ``left``.
    """
    left = TextColumn("{task.fields[left]}") if own else TimeRemainingColumn()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        left,
        console=console,
        disable=not is_watched(console),
    )


def signs_of_life(console: Console, place: str = "reading the images") -> SignsOfLife:
    """Return signs of life for a console that is not a terminal; a terminal has a bar instead."""
    alive = SignsOfLife(
        None
        if console.is_terminal
        else lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
    )
    alive.set_place(place)
    return alive
