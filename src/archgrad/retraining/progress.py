"""Watching a retraining on the terminal: a bar over all steps, a line an epoch, the estimated end. It reads and never writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from archgrad.loop import Row
from archgrad.observers import Pace, bar, ending

LONG = 2 * 3600
"""Seconds beyond which a retraining on a CPU is told of the quick preset."""


class Watch:
    """``say`` takes whole lines; ``hint`` is said if the end is further off than `LONG`."""

    def __init__(self, epochs: int, steps: int, say: Callable[[str], Any], hint: str = "") -> None:
        self.progress, self.pace = bar(Console()), Pace()
        self.task = self.progress.add_task("", total=epochs * steps)
        self.epochs, self.steps, self.say, self.hint = epochs, steps, say, hint

    def __enter__(self) -> Watch:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def on_step(self, epoch: int, step: int, averages: Callable[[], dict[str, float]]) -> None:
        """After a step; ``step`` counts those of this epoch that are done."""
        done = epoch * self.steps + step
        self.progress.update(self.task, completed=done)
        if not self.progress.disable and (step % 10 == 0 or step == self.steps):  # reading a number off a GPU waits for it
            line = f"epoch {epoch + 1}/{self.epochs}  train {100 * averages()['train_accuracy']:.2f} %"
            self.progress.update(self.task, description=line)
        if (each := self.pace.tick()) is not None:
            left = each * (self.epochs * self.steps - done)
            self.say(ending(left, f"{each:.2f} s a step, tests not counted"))
            if left > LONG and self.hint:
                self.say(self.hint)

    def on_epoch(self, row: Row) -> None:
        parts = [f"epoch {row['epoch'] + 1}/{self.epochs}", f"train {100 * row['train_accuracy']:.2f} %"]
        parts += [f"test {100 * row['test_accuracy']:.2f} %"] if "test_accuracy" in row else []
        self.say("  ".join([*parts, f"lr {row['lr']:.4g}", f"{row['seconds']:.0f} s"]))
