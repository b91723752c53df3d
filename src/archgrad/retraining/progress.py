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
        advise: Function that returns advice, printed where more than an hour is left.
        record: Function that records the seconds left and the seconds in all.
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
        advise: Callable[[Remaining], Sequence[str]] = lambda left: (),
        record: Callable[[float, float], Any] = lambda left, total: None,
        clock: Clock = monotonic,
    ) -> None:
        console = terminal.console()
        self.epochs, self.steps, self.say, self.tests = epochs, steps, say, tests
        self.test_steps = test_steps / STEP
        self.advise, self.record, self.clock = advise, record, clock
        self.progress = progress_bar(console, own=True)
        self.life = SignsOfLife(None if console.is_terminal else say)
        self.task = self.progress.add_task("", total=epochs * steps, left="")
        self.costs, self.timed_steps, self.announced = Costs(), 0, False
        self.began, self.past, self.last_time = clock(), past, clock()

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
        self.costs.add("steps", now - self.last_time)
        self.last_time, self.timed_steps = now, self.timed_steps + 1
        left = self.remaining(epoch, step)
        self.progress.update(self.task, completed=epoch * self.steps + step)
        # Not at every step: reading a number from a GPU waits until the GPU has computed it.
        if not self.progress.disable and (step % 10 == 0 or step == self.steps):
            line = (
                f"epoch {epoch + 1}/{self.epochs}  train {100 * averages()['train_accuracy']:.2f} %"
            )
            self.progress.update(self.task, description=line, left=time_left_text(left.seconds))
        self.life.set_place(
            f"epoch {epoch + 1}/{self.epochs}, step {step}/{self.steps}", left.seconds
        )
        if not self.announced and (self.timed_steps >= 3 or now - self.began >= 10):
            self.announced = True
            for text in (estimate_text(left), *(self.advise(left) if left.seconds > LONG else ())):
                self.say(text)
            self._record(left)

    @contextmanager
    def time_test(self, epoch: int) -> Iterator[None]:
        """Measure the time of the test after an epoch, which the caller runs inside the block."""
        began = self.clock()
        self.life.set_place(f"epoch {epoch + 1}/{self.epochs}, its test")
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
        left = self.remaining(row["epoch"] + 1, 0)
        parts += [
            f"lr {row['lr']:.4g}",
            f"{row['seconds']:.0f} s{', ' + time_left_text(left.seconds) if left.terms else ''}",
        ]
        self.say("  ".join(parts))
        self.life.note_line()
        self.last_time = self.clock()
        self._record(left)

    def remaining(self, epoch: int, step: int) -> Remaining:
        """Return the expected work after a step."""
        tests = sum(one >= epoch for one in self.tests)
        return self.costs.remaining(
            [
                Part("steps", (self.epochs - epoch) * self.steps - step),
                Part("tests", tests, "steps", self.test_steps),
            ]
        )

    def _record(self, left: Remaining) -> None:
        self.record(left.seconds, self.past + self.clock() - self.began + left.seconds)
