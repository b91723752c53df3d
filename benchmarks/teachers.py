"""What SD-DARTS costs: a search step with each kind of teachers beside the same step of DARTS, alternated in one process.

    python benchmarks/teachers.py [--space nasbench201] [--channels 16] [--cells 5] [--batch 64] [--images 25000] [--k 3] [--repeats 5]

A step is both halves of a first-order step with their optimizers, in float32, on one thread and random images of 32x32; the teachers are
all there. Columns: CPU seconds, median with the smallest and largest of ``--repeats`` (one step before them is not counted); wall seconds,
median; how many steps of DARTS that is, by medians and by minima of CPU seconds; megabytes the teachers take, with ``--images`` in each
half. Results in docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from typing import Any

import torch
from search_step import batch, machine, timed

import archgrad
from archgrad.arch.passes import Batch
from archgrad.arch.space import Space
from archgrad.searching.method import Method
from archgrad.searching.types import State

KINDS: dict[str, dict[str, Any]] = {
    "remembered": {"teachers": "remembered"},
    "average": {"teachers": "average"},
    "snapshots": {"teachers": "snapshots"},
    "snapshots, both levels": {"teachers": "snapshots", "level": "both"},
}


def ready(method: Method, images: int, size: int, epochs: int) -> State:
    """A search whose memories have seen ``epochs`` short epochs."""
    state = method.start(seed=0, epochs=50, steps=390, images=(images, images))
    for _ in range(epochs):
        method.step(state, batch(size, "train"), batch(size, "val"))
        for memory in state.memory.values():  # of the epoch that ends; none of these reads the data
            memory.after_epoch(method, state, None, method.context(state, "readout"))  # type: ignore[arg-type]
        state.epoch, state.step = state.epoch + 1, 0
    return state


def prepared(
    space: Space, given: argparse.Namespace
) -> tuple[dict[str, Callable[[Batch, Batch], Any]], dict[str, int]]:
    """Name -> a step, and the bytes of its teachers."""
    steps, sizes = {}, {}
    for name, options in {"darts": None, **KINDS}.items():
        if options is None:
            method = archgrad.method("darts", space)
        else:
            several = {} if options["teachers"] == "average" else {"k": given.k}
            method = archgrad.method("sddarts", space, first=0, **options, **several)
        state = ready(method, given.images, given.batch, given.k)
        steps[name] = lambda train, val, method=method, state=state: method.step(state, train, val)
        sizes[name] = sum(memory.size() for memory in state.memory.values())
    return steps, sizes


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time a search step with each kind of teachers against DARTS."
    )
    parser.add_argument("--space", default="nasbench201", choices=["nasbench201", "darts"])
    for name, default in (
        ("--channels", 16),
        ("--cells", None),
        ("--batch", 64),
        ("--images", 25_000),
        ("--k", 3),
        ("--repeats", 5),
    ):
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = archgrad.space(
        given.space, channels=given.channels, **({"cells": given.cells} if given.cells else {})
    )
    steps, sizes = prepared(space, given)
    print(
        f"archgrad {archgrad.__version__}; {machine()}; load average at the start {os.getloadavg()[0]:.1f}\n"
    )
    cells = space.spec()["cells"]
    print(
        f"### {given.space}, C={given.channels}, cells={cells}, batch {given.batch}, K = {given.k}, n = {given.repeats}\n"
    )
    print("| | CPU s, median (min-max) | wall s | DARTS steps, medians | minima | MB |")
    print("|---|---|---|---|---|---|")
    seconds = timed(steps, given.batch, given.repeats)
    base = [s.cpu for s in seconds["darts"]]
    for name, found in seconds.items():
        cpu, wall = [s.cpu for s in found], statistics.median(s.wall for s in found)
        times = f"{statistics.median(cpu):.2f} ({min(cpu):.2f}-{max(cpu):.2f}) | {wall:.2f}"
        ratios = (
            f"{statistics.median(cpu) / statistics.median(base):.2f} | {min(cpu) / min(base):.2f}"
        )
        print(f"| {name} | {times} | {ratios} | {sizes[name] / 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    main()
