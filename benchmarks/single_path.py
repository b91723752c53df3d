"""Measure the memory of a search step with one path, beside a step with the whole mixture.

    python benchmarks/single_path.py [--space nasbenchmacro] [--methods darts gdas rsws]
        [--channels C] [--size 32] [--batch 64]

Every method has its own process. It prints the number of InvertedResidual blocks that a weight step
executes, and the bytes that autograd holds for the backward pass at most (each storage once,
without parameters and buffers). It also prints the peak resident memory of three whole steps, above
the memory of the process before the first. Results are in docs/spaces.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource

import torch

import archgrad
from archgrad.arch.passes import Batch
from archgrad.methods import method
from archgrad.searching.steps import forward
from archgrad.seeds import generator
from archgrad.spaces.blocks import InvertedResidual


def batch(given: argparse.Namespace, place: int) -> Batch:
    """Return a batch of noise that depends only on its place."""
    rng = generator(0, "single path", place)
    images = torch.randn(given.batch, 3, given.size, given.size, generator=rng)
    return Batch(
        images, torch.randint(10, (given.batch,), generator=rng), torch.arange(given.batch)
    )


def measured(name: str, given: argparse.Namespace) -> tuple[int, int, int]:
    """Return executed blocks, bytes saved for the backward pass, and bytes above the start."""
    torch.set_num_threads(1)
    options = {"channels": given.channels} if given.channels else {}
    made = method(name, archgrad.space(given.space, **options))
    state = made.start(seed=0, epochs=50, steps=100)
    made.begin_epoch(state)
    net, start = state.nets["search"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}
    runs: list[int] = []
    hooks = [
        m.register_forward_hook(lambda *_: runs.append(1))
        for m in net.modules()
        if isinstance(m, InvertedResidual)
    ]
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        passed = forward(
            made,
            state,
            "search",
            "weight",
            batch(given, 0),
            {group: alphas.detach() for group, alphas in state.alphas.items()},
        )
    executed = len(runs)
    del passed
    for hook in hooks:
        hook.remove()
    for place in range(3):
        made.step(state, batch(given, 2 * place), batch(given, 2 * place + 1))
    return (
        executed,
        sum(saved.values()),
        1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the memory of a search step with one path and with the whole mixture."
    )
    parser.add_argument("--space", default="nasbenchmacro")
    parser.add_argument("--methods", nargs="+", default=["darts", "gdas", "rsws"])
    parser.add_argument("--channels", type=int)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    for name in given.methods:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            executed, saved, peak = pool.apply(measured, (name, given))
        print(
            f"{name}: {executed} blocks run, {saved / 2**20:.1f} MiB saved for backward, "
            f"peak {peak / 2**20:.1f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
