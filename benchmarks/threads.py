"""What a search step takes on one thread and on two, alone and beside a busy process, with threads that spin and threads that sleep.

    python benchmarks/threads.py [--seconds 3] [--spaces darts nasbench201] [--sizes small usual] [--threads 1 2]

Wall seconds a step (both halves, first order, float32, random images): median, with the smallest and largest, and how many. Each number of
threads is a process of its own without and with what `archgrad.cli.process` sets; each size is measured alone, then beside one process that
counts as fast as it can, after a step that is not counted. Steps are repeated for ``--seconds``, one at least. About four minutes, on an
otherwise idle machine of two cores. Results in docs/performance.md.
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
MOST = 50  # steps of one measurement


@contextmanager
def busy() -> Iterator[None]:
    """A process beside that counts as fast as it can."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def timed(step: Callable[[], Any], seconds: float) -> list[float]:
    """Wall seconds of each step."""
    found: list[float] = []
    while not found or (sum(found) < seconds and len(found) < MOST):
        began = perf_counter()
        step()
        found.append(perf_counter() - began)
    return found


def step_of(
    space_name: str, *, channels: int, cells: int, side: int, batch: int
) -> Callable[[], Any]:
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
    """The work of one process: a JSON line for each measurement."""
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
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--spaces", nargs="+", default=["darts", "nasbench201"])
    parser.add_argument("--sizes", nargs="+", default=["small", "usual"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
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
    print(
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before; {processors.available()} may be used"
    )
    print(
        "| space, size | threads | policy | alone, s a step | beside a busy process |\n|---|---|---|---|---|"
    )
    for threads in given.threads:
        for policy, told in POLICIES.items():
            command = [
                sys.executable,
                __file__,
                "--child",
                str(threads),
                "--seconds",
                str(given.seconds),
            ]
            command += ["--spaces", *given.spaces, "--sizes", *given.sizes]
            done = subprocess.run(
                command, env=usual | told, stdout=subprocess.PIPE, text=True, check=True
            )
            for row in map(json.loads, done.stdout.splitlines()):
                print(
                    f"| {about(row['space'], row['size'])} | {threads} | {policy} | {shown(row['alone'])} | {shown(row['beside'])} |",
                    flush=True,
                )


def about(space: str, size: str) -> str:
    s = SIZES[space, size]
    rule = processors.by_size(s["batch"] * s["channels"] * s["side"] ** 2, 2)
    return f"{space}, C={s['channels']}, {s['cells']} cells, {s['batch']} images of {s['side']}x{s['side']} (of 2 the rule takes {rule})"


def shown(values: list[float]) -> str:
    return (
        f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f}), n = {len(values)}"
    )


if __name__ == "__main__":
    main()
