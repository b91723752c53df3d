"""Measure the cost of a CDARTS step in each phase, beside a DARTS step in the same process.

    python benchmarks/cdarts.py [--space nasbench201] [--channels 16] [--cells N] [--batch 64]
        [--depth 1 --depth 2.5] [--repeats 5]

A step includes the optimizers. It runs in float32, on one thread, on random images of 32x32. A step
of the pretraining is a DARTS step without alphas, so it has no row. The cost depends on the
genotype of the evaluation network, which is the heaviest of the space or that of ``--genotype``.

Columns:

- CPU seconds: median, smallest and largest of ``--repeats``, after one step that does not count;
- wall seconds: median;
- cost in DARTS steps: by the medians, and by the minima, of the CPU seconds;
- megabytes held for the backward pass: the most at any time, per sample, without parameters;
- megabytes of networks and optimizers.

Results are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
from itertools import chain
from typing import NamedTuple

import peers
import torch
from search_step import counted, machine, timed

import archgrad
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.space import Space
from archgrad.components.select import strongest_genotype
from archgrad.searching.method import Method
from archgrad.searching.types import State

HEAVIEST = {"nasbench201": "nor_conv_3x3", "darts": "sep_conv_5x5"}
STEPS = 390
TARGET = 2.5  # steps of DARTS that a joint step at equal size may cost


class Arm(NamedTuple):
    method: Method
    state: State

    def step(self) -> peers.Step:
        return lambda train, val: self.method.step(self.state, train, val)

    def megabytes(self) -> float:
        """Return the megabytes of networks, alphas and optimizers; shared tensors count once."""
        state = self.state
        nets = chain.from_iterable(
            [*net.parameters(), *net.buffers()] for net in state.nets.values()
        )
        moments = (
            value
            for optimizer in state.optimizers.values()
            for kept in optimizer.state.values()
            for value in kept.values()
        )
        tensors = {
            id(t): t
            for t in chain(nets, state.alphas.values(), moments)
            if isinstance(t, torch.Tensor)
        }
        return sum(t.numel() * t.element_size() for t in tensors.values()) / 1e6


def heaviest(space: Space) -> Genotype:
    """Return the genotype with the most expensive primitive on every selected edge."""
    weights = {
        name: group.columns([HEAVIEST[space.name]]).float() for name, group in space.groups.items()
    }
    return strongest_genotype(Mixture(weights), space.groups)


def arms(space: Space, depths: list[float], genotype: Genotype) -> dict[str, Arm]:
    """Return DARTS, and for each depth the two phases of CDARTS with an evaluation network."""
    darts = archgrad.method("darts", space)
    made = {"darts": Arm(darts, darts.start(seed=0, epochs=50, steps=STEPS))}
    for depth in depths:
        for phase, at in (("warm-up", 0), ("joint", STEPS)):
            method = archgrad.method("cdarts", space, pretrain=0, warmup=1, depth=depth)
            state = method.start(seed=0, epochs=50, steps=STEPS)
            method.begin_epoch(state)
            state.genotype, state.step = genotype, at
            assert method.phase(state) == phase
            made[f"{phase}, depth {depth:g}"] = Arm(method, state)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time a step of each phase of CDARTS against DARTS."
    )
    parser.add_argument("--space", default="nasbench201", choices=list(HEAVIEST))
    parser.add_argument(
        "--depth",
        type=float,
        action="append",
        help="cells of the evaluation network, in multiples of the search network's; "
        "default: 1 and 2.5",
    )
    parser.add_argument(
        "--genotype",
        type=Genotype.parse,
        help="genotype of the evaluation network; default: the heaviest of the space",
    )
    for name, default in (("--channels", 16), ("--cells", None), ("--batch", 64), ("--repeats", 5)):
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = {"cells": given.cells} if given.cells else {}
    space = archgrad.space(given.space, channels=given.channels, **options)
    genotype = given.genotype or heaviest(space)
    variants = arms(space, given.depth or [1.0, 2.5], genotype)
    load = os.getloadavg()[0]
    print(f"archgrad {archgrad.__version__}; {machine()}; load average at the start {load:.1f}\n")
    size = f"C={given.channels}, cells={space.spec()['cells']}, batch {given.batch}"
    print(f"### {given.space}, {size}, n = {given.repeats}\n\n{genotype}\n")
    print(
        "| | CPU s, median (min-max) | wall s | DARTS steps, medians | minima "
        "| saved, MB a sample | state, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    seconds = timed(
        {name: arm.step() for name, arm in variants.items()}, given.batch, given.repeats
    )
    base = [s.cpu for s in seconds["darts"]]
    ratios = {}
    for name, found in seconds.items():
        cpu, wall = [s.cpu for s in found], statistics.median(s.wall for s in found)
        ratios[name] = statistics.median(cpu) / statistics.median(base)
        saved, _ = counted(variants[name].step())
        times = f"{statistics.median(cpu):.2f} ({min(cpu):.2f}-{max(cpu):.2f}) | {wall:.2f}"
        times += f" | {ratios[name]:.2f} | {min(cpu) / min(base):.2f}"
        print(f"| {name} | {times} | {saved:.1f} | {variants[name].megabytes():.1f} |", flush=True)
    if "joint, depth 1" in ratios:
        ratio = ratios["joint, depth 1"]
        verdict = "reached" if ratio <= TARGET else "NOT reached"
        print(f"\nTarget at equal size {TARGET}: {verdict} ({ratio:.2f}).")


if __name__ == "__main__":
    main()
