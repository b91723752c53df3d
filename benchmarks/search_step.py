"""Measure the cost of a search step of archgrad and of the official code, in the same process.

    python benchmarks/search_step.py --peer quark0=PATH --peer autodl=PATH [--batch 64]
        [--repeats 3] [--table NAME]

A step is both halves with their optimizers. It runs in float32, on one thread, on random images of
32x32. The variants take turns.

Columns:

- CPU seconds: median, smallest and largest of ``--repeats``, after one step that does not count;
- wall seconds: median (on an idle machine they equal the CPU seconds);
- speed in multiples of the first row: by the medians, and by the minima, of the CPU seconds;
- megabytes held for the backward pass (`saved_tensors_hooks`): the most at any time, per sample,
  without parameters;
- operators dispatched (`TorchDispatchMode`), with the backward pass and the optimizers.

Megabytes and operators are counted at a batch of 8: the former are proportional to the batch, the
latter do not depend on it. Results are in docs/performance.md.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import peers
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import archgrad
from archgrad.arch.passes import Batch
from archgrad.arch.space import Space
from archgrad.seeds import generator

COUNTED_AT = 8


def batch(size: int, place: str) -> Batch:
    """Return a batch of noise that depends only on its place."""
    rng = generator("search step", place)
    return Batch(
        torch.randn(size, 3, 32, 32, generator=rng),
        torch.randint(10, (size,), generator=rng),
        torch.arange(size),
    )


def own_step(space: Space, **options: Any) -> peers.Step:
    """Return a step of archgrad's DARTS."""
    method = archgrad.method("darts", space, **options)
    state = method.start(seed=0, epochs=50, steps=390)
    return lambda train, val: method.step(state, train, val)


class Dispatches(TorchDispatchMode):
    """A mode that counts the operators that are dispatched."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class Ledger:
    """The bytes of distinct storages held for the backward pass: now, and at most so far."""

    def __init__(self) -> None:
        self.held, self.now, self.most = Counter[int](), 0, 0

    def move(self, tensor: Tensor, by: int) -> None:
        storage = tensor.untyped_storage()
        before = self.held[storage.data_ptr()]
        self.held[storage.data_ptr()] += by
        self.now += storage.nbytes() * ((before + by > 0) - (before > 0))
        self.most = max(self.most, self.now)


class Held:
    """A saved tensor that takes itself off the ledger when autograd drops it."""

    def __init__(self, tensor: Tensor, ledger: Ledger) -> None:
        self.tensor, self.ledger = tensor, ledger
        ledger.move(tensor, 1)

    def __del__(self) -> None:
        self.ledger.move(self.tensor, -1)


@contextmanager
def ledger() -> Iterator[Ledger]:
    """Count the tensors that autograd saves in this context."""
    book = Ledger()

    def pack(tensor: Tensor) -> Tensor | Held:
        return tensor if isinstance(tensor, nn.Parameter) else Held(tensor, book)

    def unpack(held: Tensor | Held) -> Tensor:
        return held.tensor if isinstance(held, Held) else held

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield book


def counted(step: peers.Step) -> tuple[float, int]:
    """Return the megabytes held for the backward pass per sample, and the dispatched operators."""
    train, val = batch(COUNTED_AT, "train"), batch(COUNTED_AT, "val")
    step(train, val)  # optimizers make their state in the first step
    with ledger() as book:
        step(train, val)
    with Dispatches() as dispatches:
        step(train, val)
    return book.most / COUNTED_AT / 1e6, dispatches.count


class Seconds(NamedTuple):
    cpu: float
    wall: float


def timed(steps: dict[str, peers.Step], size: int, repeats: int) -> dict[str, list[Seconds]]:
    """Return the seconds of each repeat, by variant.

    The variants take turns, so other work on the machine slows all of them equally.
    """
    train, val = batch(size, "train"), batch(size, "val")
    seconds: dict[str, list[Seconds]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            cpu, wall = time.process_time(), time.perf_counter()
            step(train, val)
            if repeat:
                seconds[name].append(Seconds(time.process_time() - cpu, time.perf_counter() - wall))
    return seconds


def table(
    title: str, steps: dict[str, peers.Step], target: float | None, size: int, repeats: int
) -> None:
    """Print a table with one row for each variant."""
    print(f"\n### {title}, batch {size}, n = {repeats}\n")
    print(
        "| variant | CPU s, median (min-max) | wall s | x, medians | x, minima "
        "| saved, MB a sample | dispatches |"
    )
    print("|---|---|---|---|---|---|---|")
    counts = {name: counted(step) for name, step in steps.items()}
    seconds = timed(steps, size, repeats)
    base = [s.cpu for s in next(iter(seconds.values()))]
    for name, found in seconds.items():
        cpu, wall = [s.cpu for s in found], statistics.median(s.wall for s in found)
        median, least = statistics.median(cpu), min(cpu)
        ratio = statistics.median(base) / median
        megabytes, dispatches = counts[name]
        times = f"{median:.2f} ({least:.2f}-{max(cpu):.2f}) | {wall:.2f}"
        times += f" | {ratio:.2f} | {min(base) / least:.2f}"
        print(f"| {name} | {times} | {megabytes:.1f} | {dispatches:,} |", flush=True)
    if target is not None and len(seconds) > 1:
        verdict = "reached" if ratio >= target else "NOT reached"
        print(f"\nTarget {target}: {verdict} ({ratio:.2f}).")


def machine() -> str:
    """Return the processor, the number of threads, and the versions of torch and Python."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    isa = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    return (
        f"{cpu}, {os.cpu_count()} cores, {isa}; torch {torch.__version__}, {threads} thread; "
        f"Python {platform.python_version()}"
    )


def darts(given: Mapping[str, Path]) -> tuple[str, dict[str, peers.Step], float]:
    """Return the title, the variants and the target of the table for the DARTS space."""
    space, steps = archgrad.space("darts"), {}
    if "quark0" in given:
        steps["official (quark0)"] = quark0(given["quark0"])
    return (
        "DARTS space, C=16, 8 cells: first-order step",
        {**steps, "archgrad": own_step(space)},
        3.5,
    )


def nasbench201(given: Mapping[str, Path]) -> tuple[str, dict[str, peers.Step], float]:
    """Return the title, the variants and the target of the table for NAS-Bench-201."""
    space, steps = archgrad.space("nasbench201"), {}
    if "autodl" in given:
        peer, five = peers.autodl(given["autodl"]), list(space.groups["cell"].edges[0].primitives)
        steps["official (autodl)"] = peers.autodl_step(
            peer, peer.TinyNetworkDarts(16, 5, 4, 10, five, False, True)
        )
    return "NAS-Bench-201, C=16, N=5: first-order step", {**steps, "archgrad": own_step(space)}, 2.3


def second_order(given: Mapping[str, Path]) -> tuple[str, dict[str, peers.Step], None]:
    """Return the title and the variants of the table of second-order steps; it has no target."""
    space = archgrad.space("darts")
    steps = {
        "archgrad, first order": own_step(space),
        "archgrad, exact": own_step(space, hypergradient="second_order"),
        "archgrad, finite differences": own_step(space, hypergradient="finite_differences"),
    }
    if "quark0" in given:
        steps["official (quark0), finite differences"] = quark0(given["quark0"], unrolled=True)
    return "DARTS space, C=16, 8 cells: second order", steps, None


TABLES = {"darts": darts, "nasbench201": nasbench201, "second_order": second_order}


def quark0(path: Path, *, unrolled: bool = False) -> peers.Step:
    """Return a step of quark0/darts, with contiguous images and the optimizers of its script."""
    peer = peers.quark0(path)
    with peers.on_cpu():
        return peers.quark0_step(
            peer, peer.search.Network(16, 10, 8, nn.CrossEntropyLoss()), unrolled=unrolled
        )


def main() -> None:
    parser = peers.arguments("Time one search step of archgrad and of the official code.")
    parser.add_argument("--batch", type=int, default=64, help="batch size of each half")
    parser.add_argument("--repeats", type=int, default=3, help="steps that are measured")
    parser.add_argument(
        "--table",
        choices=list(TABLES),
        action="append",
        help="table to print; default: all but second_order, which takes longest",
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load = os.getloadavg()[0]
    print(f"archgrad {archgrad.__version__}; {machine()}; load average at the start {load:.1f}\n")
    for name, path in given.peer:
        print(f"- {name}: {peers.PEERS[name]} @ {peers.commit(path)}")
    for name in given.table or ("darts", "nasbench201"):
        table(*TABLES[name](dict(given.peer)), given.batch, given.repeats)


if __name__ == "__main__":
    main()
