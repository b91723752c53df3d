"""Measure the cost of an SD-DARTS step with each kind of teachers, beside a DARTS step.

    python benchmarks/teachers.py [--space nasbench201] [--channels 16] [--cells 5] [--batch 64]
        [--images 25000] [--k 3] [--repeats 5]

A step is both halves of a first-order step with their optimizers. It runs in float32, on one
thread, on random images of 32x32, with all teachers present. The variants take turns in one
process.

Columns:

- CPU seconds: median, smallest and largest of ``--repeats``, after one step that does not count;
- wall seconds: median;
- cost in DARTS steps: by the medians, and by the minima, of the CPU seconds;
- megabytes of the teachers, with ``--images`` in each half.

Results are in docs/performance.md.
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
    """Return a search whose memories have seen ``epochs`` epochs of one step."""
    state = method.start(seed=0, epochs=50, steps=390, images=(images, images))
    for _ in range(epochs):
        method.step(state, batch(size, "train"), batch(size, "val"))
        for memory in state.memory.values():  # none of these memories reads the data
            memory.after_epoch(method, state, None, method.context(state, "readout"))  # type: ignore[arg-type]
        state.epoch, state.step = state.epoch + 1, 0
    return state


def prepared(
    space: Space, given: argparse.Namespace
) -> tuple[dict[str, Callable[[Batch, Batch], Any]], dict[str, int]]:
    """Return the steps of all variants, and the bytes of their teachers, by name."""
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
    options = {"cells": given.cells} if given.cells else {}
    space = archgrad.space(given.space, channels=given.channels, **options)
    steps, sizes = prepared(space, given)
    load = os.getloadavg()[0]
    print(f"archgrad {archgrad.__version__}; {machine()}; load average at the start {load:.1f}\n")
    size = f"C={given.channels}, cells={space.spec()['cells']}, batch {given.batch}"
    print(f"### {given.space}, {size}, K = {given.k}, n = {given.repeats}\n")
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
