"""The parts that all searches in stages share.

They are the ops that an edge keeps, the time without alpha steps at the start of a stage, and the
depth of a stage. `archgrad.searching.method` begins the stages and builds their networks.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from archgrad.arch.edges import EdgeGroup, Primitives
from archgrad.arch.space import Space, absent
from archgrad.components.schedules import When
from archgrad.components.select import strongest_genotype
from archgrad.searching.types import Memory, Method, State


def survivors(method: Method, state: State, keep: int) -> Primitives:
    """Return, for each edge, the primitives with the ``keep`` largest alphas.

    Under limits the next stage must contain an architecture within them. So the present selection
    is always kept. Where the method leaves out links (FairDARTS), the selection with all links is
    kept too.
    """
    groups, alphas = state.space.groups, dict(state.alphas)
    if method.limits:
        for genotype in (
            strongest_genotype(method.readout(state), groups, method.limits),
            method.selected_genotype(state),
        ):
            selected = genotype.one_hot(groups).weights
            alphas = {
                name: alphas[name]
                .detach()
                .masked_fill(selected[name].bool().to(alphas[name].device), math.inf)
                for name in groups
            }
    return {name: strongest_primitives(group, alphas[name], keep) for name, group in groups.items()}


def strongest_primitives(
    group: EdgeGroup, alphas: Tensor, keep: int
) -> tuple[tuple[str, ...], ...]:
    """Return, for each edge, the primitives with the ``keep`` largest alphas, in their order.

    Args:
        group: The edges.
        alphas: Their alphas, (edges, ops). Of equal alphas the first ones are kept.
        keep: Number of ops that an edge keeps at most.
    """
    best = (
        alphas.detach()
        .cpu()
        .masked_fill(~group.mask(), -math.inf)
        .argsort(dim=1, descending=True, stable=True)[:, :keep]
        .tolist()
    )
    return tuple(
        tuple(p for k, p in enumerate(edge.primitives) if k in row)
        for edge, row in zip(group.edges, best, strict=True)
    )


def epochs_of_rest(rest: float, life: int) -> int:
    """Return the number of epochs at the start of a stage in which the alphas do not move.

    Args:
        rest: Fraction of the stage.
        life: Epochs of the stage. At least one of them moves the alphas.
    """
    return min(round(rest * life), life - 1)


def end_of_rest(begin: When, end: When, rest: float) -> When:
    """Return the first epoch of a stage in which the alphas move."""
    return lambda epochs: begin(epochs) + epochs_of_rest(rest, end(epochs) - begin(epochs))


def with_depth(space: Space, cells: int | None, times: float) -> Space:
    """Return the space with ``times * cells`` cells, rounded, or more (see `with_every_group`).

    Args:
        space: The space of the stage before.
        cells: Cells of the first supernet. None: the space has no cells, for its depth is searched.
        times: Depth of the stage, in multiples of ``cells``.

    Raises:
        ValueError: The depth is searched, and ``times`` is not 1.
    """
    if cells is not None:
        return with_every_group(space, max(1, round(times * cells)))
    if times != 1:
        raise ValueError(
            f"the depth of space {space.name!r} is searched, so no stage has {times:g} times "
            "its cells: set pdarts.depth to 1"
        )
    return space


def with_every_group(space: Space, cells: int) -> Space:
    """Return the space with ``cells`` cells, or with the least more that use every edge group.

    The alphas of a group that is in no cell would stay noise.
    """
    resized = space.resized(cells=cells)
    return with_every_group(space, cells + 1) if absent(resized) else resized


class InitialCells(Memory):
    """The number of cells that the search began with, or None in a space whose depth is searched.

    The depth of every stage is a multiple of this number, so rounding errors do not add up.
    """

    def __init__(self) -> None:
        self.base: int | None = None

    def bind(self, state: State) -> None:
        if self.base is None:
            self.base = state.space.spec().get("cells")

    def state_dict(self) -> dict[str, Any]:
        return {"base": self.base}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.base = saved["base"]
