"""Show the progress of a retraining: a bar over all steps, a line for each epoch, the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from archgrad import terminal
from archgrad.observers.timing import LONG, estimate_text
from archgrad.searching.duration import Costs, Part, Remaining
from archgrad.searching.progress import Clock, SignsOfLife, progress_bar, time_left_text
from archgrad.storage.records import Row
from archgrad.terminal import Say

STEP = 3.0
"""Cost of a training step (forward and backward), in forward passes."""


class TrainingProgress:
    """Progress of a retraining. It reads the state and never changes it.

    Args:
        epochs: Number of epochs.
        steps: Number of steps of an epoch.
        say: Function that prints a line.
        tests: Epochs that end with a test.
        test_steps: Number of images of a test, divided by the batch size.
        past: Seconds of the epochs before this process.
        long: Function that returns advice, printed where more than an hour is left.
        keep: Function that records the seconds left and the seconds in all.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self,
        epochs: int,
        steps: int,
        say: Say,
        *,
        tests: Sequence[int] = (),
        test_steps: float = 0.0,
        past: float = 0.0,
        long: Callable[[Remaining], Sequence[str]] = lambda left: (),
        keep: Callable[[float, float], Any] = lambda left, total: None,
        clock: Clock = monotonic,
    ) -> None:
        console = terminal.console()
        self.epochs, self.steps, self.say, self.tests = epochs, steps, say, tests
        self.test_steps = test_steps / STEP
        self.long, self.keep, self.clock = long, keep, clock
        self.progress = progress_bar(console, own=True)
        self.life = SignsOfLife(None if console.is_terminal else say)
        self.task = self.progress.add_task("", total=epochs * steps, left="")
        self.costs, self.timed, self.announced = Costs(), 0, False
        self.began, self.past, self.last = clock(), past, clock()

    def __enter__(self) -> TrainingProgress:
        self.progress.start()
        self.life.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.life.__exit__(*error)
        self.progress.stop()

    def on_step(self, epoch: int, step: int, averages: Callable[[], dict[str, float]]) -> None:
        """Show the state after a step.

        Args:
            epoch: The epoch, counted from 0.
            step: Number of finished steps of this epoch.
            averages: Function that returns ``train_accuracy``.
        """
        now = self.clock()
        self.costs.add("steps", now - self.last)
        self.last, self.timed = now, self.timed + 1
        left = self.left(epoch, step)
        self.progress.update(self.task, completed=epoch * self.steps + step)
        # Not at every step: reading a number from a GPU waits until the GPU has computed it.
        if not self.progress.disable and (step % 10 == 0 or step == self.steps):
            line = (
                f"epoch {epoch + 1}/{self.epochs}  train {100 * averages()['train_accuracy']:.2f} %"
            )
            self.progress.update(self.task, description=line, left=time_left_text(left.seconds))
        self.life.at(f"epoch {epoch + 1}/{self.epochs}, step {step}/{self.steps}", left.seconds)
        if not self.announced and (self.timed >= 3 or now - self.began >= 10):
            self.announced = True
            for text in (estimate_text(left), *(self.long(left) if left.seconds > LONG else ())):
                self.say(text)
            self._keep(left)

    @contextmanager
    def testing(self, epoch: int) -> Iterator[None]:
        """Measure the time of the test after an epoch, which the caller runs inside the block."""
        began = self.clock()
        self.life.at(f"epoch {epoch + 1}/{self.epochs}, its test")
        yield
        self.costs.add("tests", self.clock() - began)

    def on_epoch(self, row: Row) -> None:
        """Print the line of a finished epoch.

        Args:
            row: The epoch's row of metrics.
        """
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
            f"{row['seconds']:.0f} s{', ' + time_left_text(left.seconds) if left.terms else ''}",
        ]
        self.say("  ".join(parts))
        self.life.spoke()
        self.last = self.clock()
        self._keep(left)

    def left(self, epoch: int, step: int) -> Remaining:
        """Return the expected work after a step."""
        tests = sum(one >= epoch for one in self.tests)
        return self.costs.left(
            [
                Part("steps", (self.epochs - epoch) * self.steps - step),
                Part("tests", tests, "steps", self.test_steps),
            ]
        )

    def _keep(self, left: Remaining) -> None:
        self.keep(left.seconds, self.past + self.clock() - self.began + left.seconds)
