"""Signs of life: a progress bar in a terminal or a notebook, and a line now and then elsewhere."""

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
from archgrad.searching.duration import Left, span

if TYPE_CHECKING:
    from archgrad.searching.types import Data, Decision, Method, State, Values
    from archgrad.storage.records import Row

Clock = Callable[[], float]


class Timing(Protocol):
    """Says how long the rest takes: `archgrad.observers.timing.Timing` does."""

    def left(self, state: State) -> Left:
        """Return the parts that are to come."""


class Life:
    """A sign of life every ``seconds`` in which nothing else was said: where the work is, and how long it will still take.

    The thread reads what the main thread said last and prints it; it sees nothing of the search. Quiet where ``say`` is None (a terminal).
    """

    def __init__(
        self, say: Callable[[str], Any] | None, seconds: float = 30.0, clock: Clock = monotonic
    ) -> None:
        self.say, self.seconds, self.clock = say, seconds, clock
        self.place, self.end = "", None  # type: str, float | None
        self.spoken, self.over = clock(), threading.Event()

    def at(self, place: str, left: float | None = None) -> None:
        """The work is there now; without ``left`` the end that was expected before still is."""
        self.place = place
        if left is not None:
            self.end = self.clock() + left

    def spoke(self) -> None:
        """A line was printed: the next sign is due ``seconds`` later."""
        self.spoken = self.clock()

    def sign(self) -> str | None:
        """What is to be said now, if anything is."""
        if not self.place or self.clock() - self.spoken < self.seconds:
            return None
        self.spoke()
        return f"{self.place}{'' if self.end is None else ', ' + to_go(self.end - self.clock())}"

    def __enter__(self) -> Life:
        if self.say is not None:
            threading.Thread(target=self._speak, args=(self.say,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()

    def _speak(self, say: Callable[[str], Any]) -> None:
        while not self.over.wait(min(1.0, self.seconds)):
            if (line := self.sign()) is not None:
                with suppress(
                    OSError
                ):  # standard output is full or gone, which the next line of the main thread tells
                    say(line)


class Bar:
    """A progress bar over all steps, with the phase, the running accuracies and the time left; a line per epoch and decision."""

    def __init__(
        self, console: Console, timing: Timing | None = None, life: Life | None = None
    ) -> None:
        self.progress, self.timing, self.life = (
            bar(console, own=timing is not None),
            timing,
            life or Life(None),
        )
        self.task: Any = None

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task(
                "", total=method.done(state) + method.left(state), left=""
            )
        if state.step % 10 == 0 or state.step == method.steps(
            state
        ):  # reading a number off a GPU waits for it
            line = self._line(method, state, state.averages())
            self.progress.update(
                self.task,
                description=line,
                completed=method.done(state),
                left=self._left(state).removeprefix(", "),
            )
        over = state.step == method.steps(state)
        place = f"epoch {state.epoch + 1}/{state.plan.epochs}, {'its end' if over else f'step {state.step}/{method.steps(state)}'}"
        self.life.at(
            place,
            self.timing.left(state).seconds
            if self.timing and (over or state.step % 10 == 1)
            else None,
        )

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self._print(
            state, self._line(method, state, row, row["epoch"]) + f"  {row['seconds']:.0f} s"
        )
        over = state.stopped or state.epoch == state.plan.epochs
        self.life.at(
            "after the last epoch" if over else f"epoch {state.epoch + 1}/{state.plan.epochs}"
        )

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        said = {
            name: value
            for name, value in decision.note.items()
            if isinstance(value, str | int | float)
        }  # the rest is for going on
        note = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in said.items()
        )
        self._print(state, f"decided {len(state.decisions)}: {note}")
        self.life.at(f"after decision {len(state.decisions)}")

    def close(self) -> None:
        self.progress.stop()

    def _print(self, state: State, line: str) -> None:
        self.progress.console.print(line + self._left(state), highlight=False, markup=False)
        self.life.spoke()
        if self.timing:
            self.life.at(self.life.place, self.timing.left(state).seconds)

    def _left(self, state: State) -> str:
        left = self.timing.left(state) if self.timing else None
        return f", {to_go(left.seconds)}" if left and left.terms else ""

    def _line(self, method: Method, state: State, row: Row, epoch: int | None = None) -> str:
        shown = {
            "train": "train_accuracy",
            "val": "val_accuracy",
            "evaluation": "evaluation_accuracy",
            "draw": "draw_accuracy",
        }
        parts = [f"{label} {100 * row[key]:.2f} %" for label, key in shown.items() if key in row]
        parts += [f"entropy {row['entropy']:.3f}"] if "entropy" in row else []
        place = f"epoch {(state.epoch if epoch is None else epoch) + 1}/{state.plan.epochs} {row.get('phase') or method.phase(state)}"
        return "  ".join([place, *parts])


def to_go(seconds: float, now: datetime | None = None) -> str:
    """``about 12 min to go, until 14:05``"""
    until = (now or datetime.now()) + timedelta(seconds=max(seconds, 0))
    return f"about {span(max(seconds, 0))} to go, until {until:{'%H:%M' if seconds < 12 * 3600 else '%Y-%m-%d %H:%M'}}"


def is_watched(console: Console) -> bool:
    """Says whether a terminal or a notebook shows what changes."""
    return console.is_terminal or console.is_jupyter


@contextmanager
def watched() -> Iterator[list[Bar]]:
    """A bar where a terminal or a notebook watches; none elsewhere."""
    console = terminal.console(soft_wrap=True)
    shown = Bar(console) if is_watched(console) else None
    try:
        yield [shown] if shown else []
    finally:
        if shown:
            shown.close()


def bar(console: Console, *, own: bool = False) -> Progress:
    """A bar that shows only where a terminal or a notebook watches. ``own``: tasks say themselves what is ``left``."""
    left = TextColumn("{task.fields[left]}") if own else TimeRemainingColumn()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        left,
        console=console,
        disable=not is_watched(console),
    )


def life(console: Console, place: str = "reading the images") -> Life:
    """Signs of life on a console that is no terminal; on one a bar shows as much."""
    alive = Life(
        None
        if console.is_terminal
        else lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
    )
    alive.at(place)
    return alive
