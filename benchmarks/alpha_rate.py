"""Choose the constant c of ``alphas.lr auto`` (`archgrad.searching.rate.STRETCH`) by entropy alone.

    python benchmarks/alpha_rate.py --data CIFAR

The rule was written down before the first measurement. c is the smallest whole number at which the
final mean entropy of `darts`, averaged over the seeds, is below 90 % of the uniform one in every
setting. The settings are all combinations of two lengths (16 and 2 epochs of 24 steps of 16 images,
384 images a half), two sets of images (scikit-learn's digits, and with ``--data`` a folder, read at
16x16), and two spaces (NAS-Bench-201 with C=4 and N=1, NAS-Bench-Macro with C=4). Seeds 100 to 102
serve for nothing else, and no accuracy is read.

c grows from 1 until the rule holds. The first setting that fails ends the measurement of a c. The
longer length comes first because it is harder: in a short search at a high rate the noise of the
gradients alone moves the alphas. Then `stdarts` and `gdas` are measured at the chosen c, on the
first seed of each setting, to see whether c holds for them too.

It prints the machine, and one row for each setting and c: the entropy of each seed as a fraction of
the uniform one, their mean and standard deviation, and the rate.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import product
from pathlib import Path
from time import process_time

import torch

import archgrad
from archgrad import data
from archgrad.arch.mixture import Mixture
from archgrad.diagnostics.entropy import mean_entropy
from archgrad.searching import loop, rate
from archgrad.searching.types import Plan

SPACES = {"nasbench201": {"channels": 4, "cells": 1}, "nasbenchmacro": {"channels": 4}}
STEPS, BATCH = 24, 16
LENGTHS = (16, 2)  # epochs
SEEDS = (100, 101, 102)
BOUND = 0.9


def share(method: archgrad.Method, halves: data.Data, epochs: int, seed: int) -> float:
    """Return the final mean entropy of a search as a fraction of that of a uniform mixture."""
    last: list[float] = []

    class Last:
        def on_step(self, method, state, values): ...

        def on_epoch(self, method, state, data, row):
            last.append(row["entropy"])

        def on_decision(self, method, state, decision): ...

    loop.search(method, halves, epochs, seed=seed, observers=(Last(),))
    groups = method.space.groups
    return last[-1] / mean_entropy(
        Mixture({name: group.mask().double() for name, group in groups.items()}), groups
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of images, the second set")
    parser.add_argument("--first", type=int, default=1, help="smallest c that is tried")
    parser.add_argument("--up-to", type=int, default=8, help="largest c that is tried")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = {"digits": archgrad.load("digits")}
    if given.data:
        sets[given.data.name] = archgrad.load(str(given.data), size=16)
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {capability}, one thread; n = {len(SEEDS)} seeds {SEEDS}")

    def measured(name: str, c: int, seeds: tuple[int, ...], whole: bool) -> bool:
        """Return whether every setting ends below the bound.

        The first setting that does not ends the measurement, unless ``whole`` is true.
        """
        rate.STRETCH, below = float(c), True
        for epochs, (images_name, images), (space_name, size) in product(
            LENGTHS, sets.items(), SPACES.items()
        ):
            space = archgrad.space(
                space_name, **size, in_channels=images.in_channels, classes=len(images.classes)
            )
            method = archgrad.method(name, space)
            found = []
            for seed in seeds:
                halves = archgrad.search_data(images, batch=BATCH, limit=STEPS * BATCH, seed=seed)
                found.append(share(method, halves, epochs, seed))
            mean, spread = (
                statistics.mean(found),
                statistics.stdev(found) if len(found) > 1 else 0.0,
            )
            below &= mean < BOUND
            lr = method.alpha_settings(Plan(epochs, STEPS)).lr
            each = " ".join(f"{one:.3f}" for one in found)
            where = (
                f"{name:8} c={c} {space_name:13} {images_name:12} "
                f"{epochs * STEPS:4} steps lr {lr:.4f}"
            )
            print(
                f"{where}  {each}  mean {mean:.3f} sd {spread:.3f}  ({process_time():.0f} CPU s)",
                flush=True,
            )
            if not (below or whole):
                break
        verdict = "every" if below else "not every"
        print(f"{name} c={c}: {verdict} setting below {BOUND:.0%} of uniform", flush=True)
        return below

    chosen = next(
        (c for c in range(given.first, given.up_to + 1) if measured("darts", c, SEEDS, False)), None
    )
    for name in ("stdarts", "gdas") if chosen else ():
        measured(name, chosen, SEEDS[:1], True)
    print(f"c = {chosen}")


if __name__ == "__main__":
    main()
