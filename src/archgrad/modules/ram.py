"""The peak memory of the networks of a space, at one image and in evaluation mode.

    peak of a network = max( peak outside all choices, peak while each choice runs )
    peak while a choice runs = tensors beside it that outlive it + own peak of its alternative

The peak is the largest sum of live storages (`archgrad.modules.tape`). One traced run finds the
numbers of all alternatives. An alternative that hands on its input counts as a copy of it, so the
prediction is never below the peak of the derived network. It is equal where nothing is handed on.

An operation may copy a tensor of one memory layout and not that of another. So each layout that an
alternative returns has a run of its own. All runs are on the CPU, because other devices may choose
other layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from archgrad.arch.edges import EdgeGroup, Groups
from archgrad.arch.genotype import Genotype
from archgrad.cost.cost import Cost
from archgrad.errors import one_line
from archgrad.modules.blueprint import Select
from archgrad.modules.counting import without_fast_paths
from archgrad.modules.probe import Layout, Pick, Probe, Run
from archgrad.modules.tape import Event, peaks, returned
from archgrad.seeds import seeded

NAME = "ram"
"""Name of the cost."""
Fill = Callable[[EdgeGroup, Select], nn.Module]
"""(edge group, `Select`) -> a module in the place of a choice."""


class Fillable(Protocol):
    """A space in whose network any modules can stand for the choices."""

    @property
    def name(self) -> str:
        """Return the name of the space."""

    @property
    def groups(self) -> Groups:
        """Return the edge groups by name."""

    def filled(self, fill: Fill, size: int) -> tuple[nn.Module, tuple[Any, ...]]:
        """Return a network with the modules that ``fill`` returns, and an example of its inputs.

        Args:
            fill: Function that returns the module for a choice.
            size: Side of an image in pixels.
        """


class Traced(NamedTuple):
    """The peaks of the part outside all choices, and group -> primitive -> its peak in bytes."""

    fixed: int
    ops: dict[str, dict[str, int]]


def peak_ram(space: Any, size: int = 0, **options: Any) -> Cost:
    """Return the peak memory of the derived networks of a space, in bytes.

    `Cost.sum_over_ops` is the prediction, and `Cost.value_of` traces the derived network itself.

    Args:
        space: Space of a user's module, or a chain space.
        size: Side of an image in pixels, for a chain space.
        options: Options of the networks ``space.derive(genotype, **options)``.

    Raises:
        ValueError: The space has cells, or its network cannot be traced.
    """
    if not hasattr(space, "filled"):
        raise ValueError(
            f"budget {NAME}: space {space.name} has cells, whose peak memory is no maximum over "
            "choices: use a chain space or a module of your own"
        )
    whole: Fillable = space.evaluation(**options)
    found = traced(whole, size)

    @cache
    def exact(genotype: Genotype) -> float:
        return measured(whole, genotype, size)

    ops = {
        name: {(0, 1, primitive): float(number) for primitive, number in numbers.items()}
        for name, numbers in found.ops.items()
    }
    return Cost(NAME, "", float(found.fixed), ops, exact, is_maximum=True)


def measured(whole: Fillable, genotype: Genotype, size: int = 0) -> int:
    """Return the peak memory of one derived network in bytes.

    Args:
        whole: Space of the derived networks.
        genotype: The genotype.
        size: Side of an image in pixels, for a chain space.
    """
    kept = genotype.primitives(whole.groups)
    net, example = _built(whole, lambda group, select: select(kept[group.name][0]), size)
    return peaks(*_run(net, example, [])).fixed


def traced(whole: Fillable, size: int) -> Traced:
    """Return the peaks of all alternatives of a space.

    Args:
        whole: The space.
        size: Side of an image in pixels, for a chain space.
    """
    runs: list[Run] = []

    def probe(group: EdgeGroup, select: Select) -> nn.Module:
        return Probe(runs, group.name, {pick: select(pick) for pick in _picks(group)})

    net, example = _built(whole, probe, size)
    fixed = 0
    ops = {name: dict.fromkeys(g.edges[0].primitives, 0) for name, g in whole.groups.items()}
    waiting: list[dict[int, Layout]] = [{}]
    known: set[Any] = set()
    while waiting:
        found = peaks(*_run(net, example, runs, waiting.pop()))
        fixed = max(fixed, found.fixed)
        for (call, pick), number in found.branches.items():
            table = ops[runs[-1].groups[call]]
            for primitive in pick if len(pick) == 1 else table:
                table[primitive] = max(table[primitive], number)
        for call, layouts in enumerate(runs[-1].layouts):
            names = [(call, one) for one in layouts]
            if len(runs) == 1:
                known.add(names[0])  # the first run had the layout of the first alternative
            waiting += [{call: layouts[one[1]]} for one in names if one not in known]
            known.update(names)
    return Traced(fixed, ops)


def _picks(group: EdgeGroup) -> list[Pick]:
    """Return selections in which each primitive occurs."""
    names = group.edges[0].primitives
    return [
        tuple(names[(first + k) % len(names)] for k in range(group.pick))
        for first in range(len(names))
    ]


def _built(whole: Fillable, fill: Fill, size: int) -> tuple[nn.Module, tuple[Any, ...]]:
    """Return a network in evaluation mode and its inputs, as `Fillable.filled`."""
    with seeded("module", "ram"):
        net, example = whole.filled(fill, size)
    return net.cpu().eval(), tree_map_only(Tensor, lambda x: x.detach().cpu(), example)


def _run(
    net: nn.Module,
    example: tuple[Any, ...],
    runs: list[Run],
    layouts: dict[int, Layout] | None = None,
) -> tuple[Sequence[Event], Mapping[int, int]]:
    """Run a network, add the run to ``runs``, and return its events and the sizes of storages.

    Raises:
        ValueError: The run fails.
    """
    # A copy has a storage of its own size, and an operation in place does not reach the example.
    given = tree_map_only(Tensor, lambda x: x.clone(), example)
    run = Run(given, layouts or {})
    runs.append(run)
    try:
        with _evaluation(), run.tape:
            output = net(*given)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"the memory of {type(net).__name__} cannot be traced "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    run.tape.add(returned(run.tape, output))
    return run.tape.events, run.tape.sizes


@contextmanager
def _evaluation() -> Iterator[None]:
    with torch.no_grad(), without_fast_paths(), seeded("module", "ram run"):
        yield
