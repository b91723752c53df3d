"""Measure a search step on one and on two threads, alone and beside a busy process.

    python benchmarks/threads.py [--seconds 3] [--spaces darts nasbench201]
        [--sizes small usual] [--threads 1 2]

A step is both halves, of first order, in float32, on random images. Waiting threads either spin or
sleep: each number of threads runs in one process without the settings of `archgrad.cli.process`
("before"), and in one with them ("after"). Each size is measured alone, then beside a busy process,
after a step that does not count. Steps are repeated for ``--seconds``, one at least. The table has
the wall seconds of a step (median, smallest, largest) and the number of steps. It takes about four
minutes on an otherwise idle machine of two cores. Results are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from archgrad.cli.process import ASLEEP
from archgrad.run import processors

SIZES: dict[tuple[str, str], dict[str, int]] = {
    ("darts", "small"): {"channels": 8, "cells": 3, "side": 16, "batch": 16},
    ("darts", "usual"): {"channels": 16, "cells": 8, "side": 32, "batch": 16},
    ("nasbench201", "small"): {"channels": 4, "cells": 1, "side": 8, "batch": 32},
    ("nasbench201", "usual"): {"channels": 16, "cells": 5, "side": 32, "batch": 16},
}
POLICIES = {"before": {}, "after": ASLEEP}
MOST = 50  # largest number of steps of one measurement


@contextmanager
def busy() -> Iterator[None]:
    """Run a busy process beside this one."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def timed(step: Callable[[], Any], seconds: float) -> list[float]:
    """Return the wall seconds of each step."""
    found: list[float] = []
    while not found or (sum(found) < seconds and len(found) < MOST):
        began = perf_counter()
        step()
        found.append(perf_counter() - began)
    return found


def step_of(
    space_name: str, *, channels: int, cells: int, side: int, batch: int
) -> Callable[[], Any]:
    """Return a step of DARTS of this size."""
    import torch

    import archgrad
    from archgrad.arch.passes import Batch

    space = archgrad.space(space_name, channels=channels, cells=cells)
    method = archgrad.method("darts", space)
    state = method.start(seed=0, epochs=50, steps=1000)
    rng = torch.Generator().manual_seed(0)
    images = Batch(
        torch.randn(batch, 3, side, side, generator=rng),
        torch.randint(10, (batch,), generator=rng),
        torch.arange(batch),
    )
    return lambda: method.step(state, images, images)


def measure(threads: int, names: list[tuple[str, str]], seconds: float) -> None:
    """Print a JSON line for each measurement: the work of one process."""
    import torch

    torch.set_num_threads(threads)
    for space_name, size in names:
        step = step_of(space_name, **SIZES[space_name, size])
        step()
        alone = timed(step, seconds)
        with busy():
            beside = timed(step, seconds)
        print(
            json.dumps({"space": space_name, "size": size, "alone": alone, "beside": beside}),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each measurement")
    parser.add_argument("--spaces", nargs="+", default=["darts", "nasbench201"], help="spaces")
    parser.add_argument("--sizes", nargs="+", default=["small", "usual"], help="sizes of a step")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = [(space, size) for space in given.spaces for size in given.sizes]
    if given.child:
        return measure(given.child, names, given.seconds)
    usual = {
        name: value
        for name, value in os.environ.items()
        if name not in {*ASLEEP, "GOMP_SPINCOUNT", "OMP_NUM_THREADS"}
    }
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before"
    print(f"{load}; {processors.available()} may be used")
    print("| space, size | threads | policy | alone, s a step | beside a busy process |")
    print("|---|---|---|---|---|")
    for threads in given.threads:
        for policy, variables in POLICIES.items():
            command = [sys.executable, __file__, "--child", str(threads)]
            command += ["--seconds", str(given.seconds)]
            command += ["--spaces", *given.spaces, "--sizes", *given.sizes]
            done = subprocess.run(
                command, env=usual | variables, stdout=subprocess.PIPE, text=True, check=True
            )
            for row in map(json.loads, done.stdout.splitlines()):
                size = about(row["space"], row["size"])
                times = f"{shown(row['alone'])} | {shown(row['beside'])}"
                print(f"| {size} | {threads} | {policy} | {times} |", flush=True)


def about(space: str, size: str) -> str:
    """Return the size of a step in words, and the number of threads that archgrad's rule takes."""
    sizes = SIZES[space, size]
    channels, cells, side, images = (sizes[name] for name in ("channels", "cells", "side", "batch"))
    rule = processors.by_size(images * channels * side**2, 2)
    return (
        f"{space}, C={channels}, {cells} cells, {images} images of {side}x{side} "
        f"(of 2 the rule takes {rule})"
    )


def shown(values: list[float]) -> str:
    """Return the median, smallest and largest value, and their number."""
    return (
        f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f}), n = {len(values)}"
    )


if __name__ == "__main__":
    main()
