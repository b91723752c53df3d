"""The measurement of each distinct op of a supernet and of whole derived networks.

A straight line, fitted to the whole networks, turns the sum of a network's ops into its latency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import partial
from statistics import median
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, channels_last, nn
from torch.utils._pytree import tree_flatten, tree_map_only

from archgrad.arch.edges import Edge, EdgeGroup, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.space import Space, Supernet
from archgrad.components.select import strongest_genotype, uniform_genotype
from archgrad.cost import process_memory
from archgrad.cost.cost import Cost, r_squared
from archgrad.latency.profile import MeasuredNetwork, Profile, Setting
from archgrad.latency.timing import keep_memory, milliseconds, threads

Tick = Callable[[str, int, int], None]
"""(name of the part, number done, number of all) -> None: receives a measurement's progress."""
LEAST_NETS, MOST_NETS = 10, 200
ROUNDS = 15


class _Call(NamedTuple):
    """A call of an op, with tensors of the shapes that reach it and that it returns."""

    args: tuple[Any, ...]
    named: dict[str, Any]
    gives: Any

    def key(self) -> tuple[Any, ...]:
        """Return a value that is equal for calls with equal shapes and other arguments."""
        leaves, form = tree_flatten((self.args, self.named, self.gives))
        told = [
            (tuple(one.shape), one.dtype) if isinstance(one, Tensor) else repr(one)
            for one in leaves
        ]
        return (*told, str(form))


def measure(
    space: Space,
    wanted: Setting,
    *,
    nets: int = 12,
    seed: int = 0,
    seconds: float = 0.05,
    tick: Tick | None = None,
) -> Profile:
    """Measure the latency of derived networks: eval mode, no gradient, channels_last.

    Equal ops (same structure, input and output shape) are measured once, together with the addition
    to their node where nodes have several inputs. Then whole derived networks are measured: the
    smallest, the largest, and others spread over the range of predictions between. ``base`` and
    ``scale`` of the result are the least squares over these networks.

    Args:
        space: The search space.
        wanted: The networks, the images and the device of the measurement.
        nets: Number of whole networks, 10 to 200.
        seed: Seed of the draw of these networks.
        seconds: Time for one op or network, in seconds.
        tick: Receives the progress.

    Returns:
        The measurement.

    Raises:
        ValueError: ``nets`` is out of range, or the sums of ops do not predict the networks, as on
            a machine that is busy with other work.
    """
    if nets < LEAST_NETS:
        raise ValueError(
            f"nets must be at least {LEAST_NETS}, because a line is fitted to them, not {nets}"
        )
    if nets > MOST_NETS:
        raise ValueError(f"nets must be at most {MOST_NETS}, not {nets}")
    whole, report = space.resized(**wanted.spec), tick or (lambda part, done, of: None)
    with threads(wanted.threads), torch.no_grad():
        raw = Cost("latency", "ms", 0.0, _ops_ms(whole, wanted, seconds, report))
        genotypes = choose_genotypes(raw, whole.groups, nets, seed)
        measured = measure_networks(
            [whole.derive(genotype, **wanted.spec) for genotype in genotypes],
            wanted,
            seconds=seconds,
            tick=report,
        )
    added = [raw.sum_over_ops(genotype) for genotype in genotypes]
    base, scale = fit_line(added, measured)
    predicted = [base + scale * one for one in added]
    r2 = r_squared(
        torch.tensor(measured, dtype=torch.float64), torch.tensor(predicted, dtype=torch.float64)
    )
    if not scale > 0:
        raise ValueError(
            f"the sum of a network's ops does not predict its latency here (R2 {r2:.2f}): "
            "measure again while nothing else runs"
        )
    worst = max(abs(one - true) / true for one, true in zip(predicted, measured))
    found = tuple(MeasuredNetwork(*one) for one in zip(genotypes, added, measured))
    return Profile(wanted, raw.ops, base, scale, r2, worst, found, date.today().isoformat())


def choose_genotypes(
    cost: Cost, groups: Groups, nets: int, seed: int = 0, draws: int = 400
) -> list[Genotype]:
    """Choose genotypes whose costs are spread evenly over the range of a space.

    Args:
        cost: The cost.
        groups: The edge groups of the space.
        nets: Number of genotypes.
        seed: Seed of the draw.
        draws: Number of random genotypes to choose from.

    Returns:
        The genotype of least cost, ``nets - 2`` random ones by rising cost, and the one of most
        cost. A space with fewer genotypes gives fewer.
    """
    tables = cost.op_costs(groups)
    ends = [
        strongest_genotype(Mixture({name: sign * table for name, table in tables.items()}), groups)
        for sign in (-1, 1)
    ]
    drawn = sorted(
        {uniform_genotype(groups, seed, "latency", i) for i in range(draws)} - set(ends),
        key=cost.sum_over_ops,
    )
    low, high = (cost.sum_over_ops(one) for one in (drawn[:1] + drawn[-1:] or ends))
    found: list[Genotype] = []
    for i in range(min(nets - 2, len(drawn))):
        goal = low + (high - low) * i / max(1, nets - 3)
        found.append(
            min(
                (one for one in drawn if one not in found),
                key=lambda one: abs(cost.sum_over_ops(one) - goal),
            )
        )
    return [ends[0], *found, ends[1]]


def measure_networks(
    networks: Sequence[nn.Module],
    wanted: Setting,
    *,
    seconds: float = 0.05,
    tick: Tick | None = None,
) -> list[float]:
    """Measure whole networks.

    Args:
        networks: Networks of any width.
        wanted: The image size, the batch size, the device and the threads.
        seconds: Time for one network in each round, in seconds.
        tick: Receives the progress.

    Returns:
        The latency of each network in ms.
    """
    images = _images(wanted)
    calls = [partial(network.to(wanted.device).eval(), images) for network in networks]
    with threads(wanted.threads), torch.no_grad():
        return measure_in_turns(
            calls, wanted, seconds, lambda done, of: tick("networks", done, of) if tick else None
        )


def measure_in_turns(
    calls: Sequence[Callable[[], Tensor]],
    wanted: Setting,
    seconds: float,
    tick: Callable[[int, int], None],
) -> list[float]:
    """Measure several calls in turns, so that a slow minute of the machine affects all of them.

    Args:
        calls: The calls.
        wanted: The device and the threads.
        seconds: Time for one call in each of the `ROUNDS` rounds, in seconds.
        tick: (number done, number of all) -> None: receives the progress.

    Returns:
        The median over the rounds of each call, in ms.
    """
    keep_memory()
    rounds: list[list[float]] = [[] for _ in calls]
    for turn in range(ROUNDS):
        for index, call in enumerate(calls):
            rounds[index].append(milliseconds(call, wanted.device, wanted.threads, seconds))
            tick(turn * len(calls) + index + 1, ROUNDS * len(calls))
    return [median(times) for times in rounds]


def fit_line(x: Iterable[float], y: Iterable[float]) -> tuple[float, float]:
    """Fit a line ``y = intercept + slope * x`` by the least squares of relative errors.

    With absolute errors the largest network would decide the line almost alone.

    Args:
        x: Predictions.
        y: Measured values, all positive.

    Returns:
        The intercept and the slope.
    """
    xs, ys = torch.tensor(list(x), dtype=torch.float64), torch.tensor(list(y), dtype=torch.float64)
    solution = torch.linalg.lstsq(torch.stack([1 / ys, xs / ys], 1), torch.ones_like(ys)).solution
    return float(solution[0]), float(solution[1])


def _ops_ms(
    space: Space, wanted: Setting, seconds: float, tick: Tick
) -> dict[str, dict[tuple[int, int, str], float]]:
    process_memory.check_memory(space)
    network = space.supernet().to(wanted.device).eval()
    supernet = cast("Supernet", network)
    places = [
        (group, edge, primitive, supernet.ops(group.name, index, primitive))
        for group in space.groups.values()
        for index, edge in enumerate(group.edges)
        for primitive in edge.primitives
    ]
    seen = _calls(
        network, {module for *_, modules in places for module in modules}, _images(wanted)
    )
    jobs: dict[Any, tuple[nn.Module, _Call, bool]] = {}
    uses: list[tuple[EdgeGroup, Edge, str, list[Any]]] = []
    for group, edge, primitive, modules in places:
        adds, keys = _adds(group, edge), []
        for module in modules:
            for call in seen[module]:  # a `none` is never executed
                keys.append((primitive, repr(module), call.key(), adds))
                jobs.setdefault(keys[-1], (module, call, adds))
        uses.append((group, edge, primitive, keys))

    calls = [_timed(*job) for job in jobs.values()]
    ms = dict(zip(jobs, measure_in_turns(calls, wanted, seconds / ROUNDS, partial(tick, "ops"))))
    found: dict[str, dict[tuple[int, int, str], float]] = {name: {} for name in space.groups}
    for group, edge, primitive, keys in uses:
        found[group.name][edge.source, edge.target, primitive] = sum(ms[key] for key in keys)
    return found


def _timed(module: nn.Module, call: _Call, adds: bool) -> Callable[[], Any]:
    once = partial(module, *call.args, **call.named)
    return (lambda: call.gives + once()) if adds else once


def _adds(group: EdgeGroup, edge: Edge) -> bool:
    """Return whether the output of an edge is added to that of another edge."""
    return (
        group.keep != 1
        and sum(other.target == edge.target and bool(other.primitives) for other in group.edges) > 1
    )


def _calls(
    network: nn.Module, modules: set[nn.Module], images: Tensor
) -> dict[nn.Module, list[_Call]]:
    """Return the calls of modules in a pass with weight 1 on every op."""
    found: dict[nn.Module, list[_Call]] = {module: [] for module in modules}
    shared: dict[Any, Tensor] = {}  # all ops with this shape share one tensor

    def filled(x: Tensor) -> Tensor:
        key = (x.shape, x.dtype)
        if key not in shared:
            shared[key] = _filled(x)
        return shared[key]

    def see(module: nn.Module, args: Any, named: dict[str, Any], output: Any) -> None:
        call = tree_map_only(Tensor, filled, (args, named, output))
        found[module].append(_Call(*call))

    hooks = [module.register_forward_hook(see, with_kwargs=True) for module in modules]
    network(images)
    for hook in hooks:
        hook.remove()
    return found


def _filled(x: Tensor) -> Tensor:
    """Return random numbers of the same shape. Indices and masks are returned as they are.

    Images are channels_last, as in a library space, unless a module of the user's got others.
    """
    if not x.is_floating_point():
        return x
    numbers = torch.randn(x.shape, dtype=x.dtype, device=x.device)
    plain = x.is_contiguous() and not x.is_contiguous(memory_format=channels_last)
    return numbers if x.dim() != 4 or plain else numbers.contiguous(memory_format=channels_last)


def _images(wanted: Setting) -> Tensor:
    shape = (wanted.batch, wanted.spec["in_channels"], wanted.size, wanted.size)
    return torch.randn(shape, device=wanted.device).contiguous(memory_format=channels_last)
