"""Measure memory and time of a search step with and without `--search.recompute cells`.

    python benchmarks/recompute.py [--space darts] [--method darts] [--channels 16] [--cells 8]
        [--batch 16] [--repeats 3] [--device cpu]

Each setting has its own process with one thread. It prints the CPU seconds of a step (on a GPU the
wall seconds): median, smallest and largest of the repeats, after one step that does not count. It
also prints the peak memory of these steps, above the memory of the process before the first step.
On a GPU it is the allocated memory. Results are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
from time import monotonic, process_time

import torch

import archgrad
from archgrad.arch.passes import Batch
from archgrad.seeds import generator

Measured = tuple[list[float], int]


def batch(given: argparse.Namespace, place: int) -> Batch:
    """Return a batch of noise that depends only on its place."""
    rng = generator(0, "recompute", place)
    images = torch.randn(given.batch, 3, given.size, given.size, generator=rng)
    labels = torch.randint(10, (given.batch,), generator=rng)
    return Batch(
        images.to(given.device),
        labels.to(given.device),
        torch.arange(given.batch, device=given.device),
    )


def measured(recompute: str, given: argparse.Namespace) -> Measured:
    """Return the seconds of each repeat, and the bytes of peak memory above the start."""
    torch.set_num_threads(1)
    gpu = given.device != "cpu"
    options = {
        name: value for name in ("channels", "cells") if (value := getattr(given, name)) is not None
    }
    made = archgrad.method(given.method, archgrad.space(given.space, **options))
    state = made.start(seed=0, epochs=50, steps=100, device=given.device, recompute=recompute)
    state.epoch = made.alpha_from(50)  # the first epoch with alpha steps
    made.begin_epoch(state)
    start = (
        torch.cuda.memory_allocated()
        if gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    took = []
    for place in range(given.repeats + 1):
        train, val = batch(given, 2 * place), batch(given, 2 * place + 1)
        if gpu:
            torch.cuda.synchronize()
        began = monotonic() if gpu else process_time()
        made.step(state, train, val)
        if gpu:
            torch.cuda.synchronize()
        took.append((monotonic() if gpu else process_time()) - began)
    peak = (
        torch.cuda.max_memory_allocated()
        if gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return took[1:], peak - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure memory and time of a search step with and without recomputed cells."
    )
    parser.add_argument("--space", default="darts")
    parser.add_argument("--method", default="darts")
    parser.add_argument("--channels", type=int)
    parser.add_argument("--cells", type=int)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    for recompute in ("none", "cells"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            took, peak = pool.apply(measured, (recompute, given))
        spread = f"({min(took):.3f}-{max(took):.3f}, n={len(took)})"
        time = f"{statistics.median(took):.3f} s a step {spread}"
        print(f"{given.space} {recompute}: {time}, peak {peak / 2**20:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
