"""The measurement: each distinct op of the supernet by itself, then whole derived networks, and the line that leads from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache, partial
from statistics import median
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, channels_last, nn

from archgrad.arch.edges import Edge, EdgeGroup, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.space import Space, Supernet
from archgrad.components.select import strongest, uniform
from archgrad.cost import room
from archgrad.cost.cost import Cost, r_squared
from archgrad.latency.profile import Net, Profile, Setting
from archgrad.latency.timing import keep_memory, milliseconds, threads

Tick = Callable[[str, int, int], None]
"""(what, done, of): how far a measurement is."""
LEAST_NETS, MOST_NETS = 10, 200
ROUNDS = 15


class _Shape(NamedTuple):
    """What an op reads and gives, (B, C, H, W) each."""

    reads: tuple[int, ...]
    gives: tuple[int, ...]


def measure(
    space: Space,
    wanted: Setting,
    *,
    nets: int = 12,
    seed: int = 0,
    seconds: float = 0.05,
    tick: Tick | None = None,
) -> Profile:
    """Latency of the derived networks of ``wanted``: eval mode, no gradient, channels_last.

    An op is measured once for each structure, input and output that it has, with the addition to its node where nodes have several inputs.
    Then ``nets`` derived networks, the smallest, the largest and others spread over the range of predictions between, are measured whole;
    ``base`` and ``scale`` are the least squares of those. Ops and networks take turns, `in_turns`. ValueError for fewer than 10 networks, or
    where sums of ops say nothing of networks, as on a machine that is busy with other work.
    """
    if nets < LEAST_NETS:
        raise ValueError(
            f"nets must be at least {LEAST_NETS}, which a line is calibrated on, not {nets}"
        )
    if nets > MOST_NETS:
        raise ValueError(f"nets must be at most {MOST_NETS}, not {nets}")
    whole, tell = space.resized(**wanted.spec), tick or (lambda what, done, of: None)
    with threads(wanted.threads), torch.no_grad():
        raw = Cost("latency", "ms", 0.0, _ops_ms(whole, wanted, seconds, tell))
        genotypes = chosen(raw, whole.groups, nets, seed)
        measured = networks_ms(
            [whole.derive(genotype, **wanted.spec) for genotype in genotypes],
            wanted,
            seconds=seconds,
            tick=tell,
        )
    added = [raw.added(genotype) for genotype in genotypes]
    base, scale = line(added, measured)
    predicted = [base + scale * one for one in added]
    r2 = r_squared(
        torch.tensor(measured, dtype=torch.float64), torch.tensor(predicted, dtype=torch.float64)
    )
    if not scale > 0:
        raise ValueError(
            f"what ops add up to says nothing of networks here (R2 {r2:.2f}): measure again with nothing else running"
        )
    worst = max(abs(one - true) / true for one, true in zip(predicted, measured))
    found = tuple(Net(*one) for one in zip(genotypes, added, measured))
    return Profile(wanted, raw.ops, base, scale, r2, worst, found, date.today().isoformat())


def chosen(
    cost: Cost, groups: Groups, nets: int, seed: int = 0, draws: int = 400
) -> list[Genotype]:
    """The genotypes of least and of most cost, and ``nets - 2`` random ones, whose costs are spread evenly over the range of all drawn."""
    tables = cost.on(groups)
    ends = [
        strongest(Mixture({name: sign * table for name, table in tables.items()}), groups)
        for sign in (-1, 1)
    ]
    drawn = sorted(
        {uniform(groups, seed, "latency", i) for i in range(draws)} - set(ends), key=cost.added
    )
    low, high = cost.added(drawn[0]), cost.added(drawn[-1])
    found: list[Genotype] = []
    for i in range(nets - 2):
        goal = low + (high - low) * i / max(1, nets - 3)
        found.append(
            min(
                (one for one in drawn if one not in found),
                key=lambda one: abs(cost.added(one) - goal),
            )
        )
    return [ends[0], *found, ends[1]]


def networks_ms(
    networks: Sequence[nn.Module],
    wanted: Setting,
    *,
    seconds: float = 0.05,
    tick: Tick | None = None,
) -> list[float]:
    """Of whole networks, ms: of the space, the size, the batch and on the device of ``wanted``, of any width."""
    images = _images(wanted)
    calls = [partial(network.to(wanted.device).eval(), images) for network in networks]
    with threads(wanted.threads), torch.no_grad():
        return in_turns(
            calls, wanted, seconds, lambda done, of: tick("networks", done, of) if tick else None
        )


def in_turns(
    calls: Sequence[Callable[[], Tensor]],
    wanted: Setting,
    seconds: float,
    tick: Callable[[int, int], None],
) -> list[float]:
    """ms of each: the median over rounds in which each is called for ``seconds``, so that a slower minute of the machine is nobody's own."""
    keep_memory()
    rounds: list[list[float]] = [[] for _ in calls]
    for turn in range(ROUNDS):
        for index, call in enumerate(calls):
            rounds[index].append(milliseconds(call, wanted.device, wanted.threads, seconds))
            tick(turn * len(calls) + index + 1, ROUNDS * len(calls))
    return [median(times) for times in rounds]


def line(x: Iterable[float], y: Iterable[float]) -> tuple[float, float]:
    """Intercept and slope of the least squares of relative errors: the largest network would else decide for all others."""
    xs, ys = torch.tensor(list(x), dtype=torch.float64), torch.tensor(list(y), dtype=torch.float64)
    solution = torch.linalg.lstsq(torch.stack([1 / ys, xs / ys], 1), torch.ones_like(ys)).solution
    return float(solution[0]), float(solution[1])


def _ops_ms(
    space: Space, wanted: Setting, seconds: float, tick: Tick
) -> dict[str, dict[tuple[int, int, str], float]]:
    room.check(space)
    network = space.supernet().to(wanted.device).eval()
    supernet = cast("Supernet", network)
    places = [
        (group, edge, primitive, supernet.ops(group.name, index, primitive))
        for group in space.groups.values()
        for index, edge in enumerate(group.edges)
        for primitive in edge.primitives
    ]
    shapes = _shapes(
        network, {module for *_, modules in places for module in modules}, _images(wanted)
    )
    jobs: dict[Any, tuple[nn.Module, _Shape, bool]] = {}
    uses: list[tuple[EdgeGroup, Edge, str, list[Any]]] = []
    for group, edge, primitive, modules in places:
        adds, keys = _adds(group, edge), []
        for module in modules:
            if module in shapes:  # `none` never runs
                keys.append((primitive, repr(module), shapes[module], adds))
                jobs.setdefault(keys[-1], (module, shapes[module], adds))
        uses.append((group, edge, primitive, keys))

    @cache
    def filled(shape: tuple[int, ...]) -> Tensor:  # one for all ops that read or give it
        return torch.randn(shape, device=wanted.device).contiguous(memory_format=channels_last)

    calls = [
        _call(module, filled(shape.reads), filled(shape.gives) if adds else None)
        for module, shape, adds in jobs.values()
    ]
    ms = dict(zip(jobs, in_turns(calls, wanted, seconds / ROUNDS, partial(tick, "ops"))))
    found: dict[str, dict[tuple[int, int, str], float]] = {name: {} for name in space.groups}
    for group, edge, primitive, keys in uses:
        found[group.name][edge.source, edge.target, primitive] = sum(ms[key] for key in keys)
    return found


def _call(module: nn.Module, x: Tensor, total: Tensor | None) -> Callable[[], Tensor]:
    return partial(module, x) if total is None else lambda: total + module(x)


def _adds(group: EdgeGroup, edge: Edge) -> bool:
    """Whether what comes over an edge is added to something."""
    return (
        group.keep != 1
        and sum(other.target == edge.target and bool(other.primitives) for other in group.edges) > 1
    )


def _shapes(network: nn.Module, modules: set[nn.Module], images: Tensor) -> dict[nn.Module, _Shape]:
    """What each module reads and gives in a pass under unit weights."""
    found: dict[nn.Module, _Shape] = {}

    def see(module: nn.Module, args: Any, output: Tensor) -> None:
        found[module] = _Shape(tuple(args[0].shape), tuple(output.shape))

    hooks = [module.register_forward_hook(see) for module in modules]
    network(images)
    for hook in hooks:
        hook.remove()
    return found


def _images(wanted: Setting) -> Tensor:
    shape = (wanted.batch, wanted.spec["in_channels"], wanted.size, wanted.size)
    return torch.randn(shape, device=wanted.device).contiguous(memory_format=channels_last)
