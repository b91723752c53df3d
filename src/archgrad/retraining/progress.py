"""Watching a retraining on the terminal: a bar over all steps, a line an epoch, the time left. It reads and never writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from archgrad import terminal
from archgrad.observers.timing import LONG, expected
from archgrad.searching.duration import Costs, Left, Part
from archgrad.searching.progress import Clock, Life, bar, to_go
from archgrad.storage.records import Row

STEP = 3.0
"""Forward passes of an image in a step: forward and backward."""


class Watch:
    """``say`` takes whole lines; those of ``long`` are said if the end is further off than an hour. ``tests``: epochs that end with a test;
    ``test_steps``: how many steps' worth of images a test passes. ``keep`` is told the seconds left and the seconds in all."""

    def __init__(
        self, epochs: int, steps: int, say: Callable[[str], Any], *, tests: Sequence[int] = (), test_steps: float = 0.0, past: float = 0.0,
        long: Callable[[Left], Sequence[str]] = lambda left: (), keep: Callable[[float, float], Any] = lambda left, total: None,
        clock: Clock = monotonic,
    ) -> None:  # fmt: skip
        console = terminal.console()
        self.epochs, self.steps, self.say, self.tests, self.like = (
            epochs,
            steps,
            say,
            tests,
            test_steps / STEP,
        )
        self.long, self.keep, self.clock = long, keep, clock
        self.progress, self.life = (
            bar(console, own=True),
            Life(None if console.is_terminal else say),
        )
        self.task = self.progress.add_task("", total=epochs * steps, left="")
        self.costs, self.seen, self.said = Costs(), 0, False
        self.began, self.past, self.at = clock(), past, clock()

    def __enter__(self) -> Watch:
        self.progress.start()
        self.life.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.life.__exit__(*error)
        self.progress.stop()

    def on_step(self, epoch: int, step: int, averages: Callable[[], dict[str, float]]) -> None:
        """After a step; ``step`` counts those of this epoch that are done."""
        now = self.clock()
        self.costs.add("steps", now - self.at)
        self.at, self.seen = now, self.seen + 1
        left = self.left(epoch, step)
        self.progress.update(self.task, completed=epoch * self.steps + step)
        if not self.progress.disable and (
            step % 10 == 0 or step == self.steps
        ):  # reading a number off a GPU waits for it
            line = (
                f"epoch {epoch + 1}/{self.epochs}  train {100 * averages()['train_accuracy']:.2f} %"
            )
            self.progress.update(self.task, description=line, left=to_go(left.seconds))
        self.life.at(f"epoch {epoch + 1}/{self.epochs}, step {step}/{self.steps}", left.seconds)
        if not self.said and (self.seen >= 3 or now - self.began >= 10):
            self.said = True
            for text in (expected(left), *(self.long(left) if left.seconds > LONG else ())):
                self.say(text)
            self._keep(left)

    @contextmanager
    def testing(self, epoch: int) -> Iterator[None]:
        """The test after an epoch happens inside."""
        began = self.clock()
        self.life.at(f"epoch {epoch + 1}/{self.epochs}, its test")
        yield
        self.costs.add("tests", self.clock() - began)

    def on_epoch(self, row: Row) -> None:
        parts = [
            f"epoch {row['epoch'] + 1}/{self.epochs}",
            f"train {100 * row['train_accuracy']:.2f} %",
        ]
        parts += [
            f"{split} {100 * row[name]:.2f} %"
            for split in ("val", "test")
            if (name := f"{split}_accuracy") in row
        ]
        left = self.left(row["epoch"] + 1, 0)
        parts += [
            f"lr {row['lr']:.4g}",
            f"{row['seconds']:.0f} s{', ' + to_go(left.seconds) if left.terms else ''}",
        ]
        self.say("  ".join(parts))
        self.life.spoke()
        self.at = self.clock()
        self._keep(left)

    def left(self, epoch: int, step: int) -> Left:
        """What is to come after a step."""
        tests = sum(one >= epoch for one in self.tests)
        return self.costs.left(
            [
                Part("steps", (self.epochs - epoch) * self.steps - step),
                Part("tests", tests, "steps", self.like),
            ]
        )

    def _keep(self, left: Left) -> None:
        self.keep(left.seconds, self.past + self.clock() - self.began + left.seconds)
