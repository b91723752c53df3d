"""Measure the cost of the diagnostics, as a fraction of the search that they observe.

    python benchmarks/diagnostics.py [--images 5000] [--epochs 10] [--channels 8] [--cells 1]
        [--batch 64] [--gap-images 1024] [--sharpness] [--ranking] [--method darts]

It runs a search in NAS-Bench-201 on random images of 32x32 (``--images`` in each half), on one
thread, with the default diagnostics: the gap on 1,024 images five times, and entropies and margins
in every epoch. ``--sharpness`` adds the sharpness after the last epoch. ``--ranking`` adds five
rankings of 32 architectures on 256 images, in each network of ``--method`` and against the
benchmark's table. It prints the CPU seconds of each observer, and their fraction of those of the
search without observers. The result is in docs/howto/measure.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

import archgrad
from archgrad.arch.passes import Batch
from archgrad.observers.probes import Entropies, Gap, Ranking, Sharpness
from archgrad.run.watchers import true_accuracies
from archgrad.searching import Observer
from archgrad.seeds import generator
from archgrad.storage.records import Row


@dataclass(frozen=True)
class Random:
    """A data set of noise images in ten classes."""

    images: int
    batch: int

    def count(self, split: str = "train") -> int:
        return self.images

    def steps(self, split: str = "train") -> int:
        return self.images // self.batch

    def batches(
        self, split: str, epoch: int, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        for step in range(start, self.steps() if steps is None else start + steps):
            yield drawn(self.batch, split, epoch, step)

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        whole = min(self.images, limit or self.images)
        for begin in range(0, whole, batch):
            yield drawn(min(batch, whole - begin), split, begin)


def drawn(size: int, *place: object) -> Batch:
    """Return a batch of noise that depends only on its place."""
    rng = generator("diagnostics", *place)
    return Batch(
        torch.randn(size, 3, 32, 32, generator=rng),
        torch.randint(10, (size,), generator=rng),
        torch.arange(size),
    )


class Timed:
    """An observer with a count of the CPU seconds that it takes."""

    def __init__(self, observer: Observer) -> None:
        self.observer, self.seconds, self.times = observer, 0.0, 0

    def on_step(self, *watched: Any) -> None:
        self.observer.on_step(*watched)

    def on_decision(self, *watched: Any) -> None:
        self.observer.on_decision(*watched)

    def on_epoch(self, *watched: Any) -> Row | None:
        began = time.process_time()
        found = self.observer.on_epoch(*watched)
        self.seconds += time.process_time() - began
        self.times += found is not None
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time the diagnostics against the search they watch."
    )
    for name, default in (
        ("--images", 5000),
        ("--epochs", 10),
        ("--channels", 8),
        ("--cells", 1),
        ("--batch", 64),
    ):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--gap-images", type=int, default=1024, help="images of each gap")
    parser.add_argument("--sharpness", action="store_true", help="measure the sharpness too")
    parser.add_argument("--ranking", action="store_true", help="measure the rankings too")
    parser.add_argument("--method", default="darts", help="method of the search")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = archgrad.space("nasbench201", channels=given.channels, cells=given.cells)
    observers: list[Observer] = [Gap(images=given.gap_images), Entropies()]
    if given.sharpness:
        observers.append(Sharpness(batch=given.batch))
    if given.ranking:
        observers.append(Ranking(known=true_accuracies(space)))
    timed = [Timed(observer) for observer in observers]
    method = archgrad.method(given.method, space)
    began = time.process_time()
    archgrad.search(method, Random(given.images, given.batch), given.epochs, observers=timed)
    whole = time.process_time() - began
    bare = whole - sum(one.seconds for one in timed)
    size = f"C={given.channels}, N={given.cells}"
    length = f"{given.epochs} epochs of {given.images:,} + {given.images:,} images"
    print(
        f"{given.method} in NAS-Bench-201, {size}, {length}, torch {torch.__version__}: "
        f"{bare:.1f} CPU s without observers"
    )
    for one in timed:
        cost = f"{one.seconds:.2f} CPU s, {100 * one.seconds / bare:.2f} % of the search"
        print(f"{type(one.observer).__name__}: {one.times} times, {cost}")


if __name__ == "__main__":
    main()
