"""What searches in stages share: which ops an edge keeps, how long its alphas rest, how deep a stage is."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from archgrad.arch.edges import EdgeGroup, Primitives
from archgrad.arch.space import Space, absent
from archgrad.components.context import Context, Forward
from archgrad.components.schedules import When
from archgrad.components.select import strongest
from archgrad.searching.types import Data, Method, State


def survivors(method: Method, state: State, keep: int) -> Primitives:
    """The primitives of each edge with the ``keep`` largest alphas. Under limits what is selected now is always among them, and so is a
    selection with all its links, where the method leaves some out: something that keeps to the limits must be left to select."""
    groups, alphas = state.space.groups, dict(state.alphas)
    if method.limits:
        for genotype in (
            strongest(method.readout(state), groups, method.limits),
            method.selected(state),
        ):
            selected = genotype.one_hot(groups).weights
            alphas = {
                name: alphas[name]
                .detach()
                .masked_fill(selected[name].bool().to(alphas[name].device), math.inf)
                for name in groups
            }
    return {name: pruned(group, alphas[name], keep) for name, group in groups.items()}


def pruned(group: EdgeGroup, alphas: Tensor, keep: int) -> tuple[tuple[str, ...], ...]:
    """alphas (edges, ops) -> the primitives of each edge with the ``keep`` largest, in their order; of equals the first stay."""
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


def resting(rest: float, life: int) -> int:
    """Epochs of a stage in which the alphas rest; it leaves at least one."""
    return min(round(rest * life), life - 1)


def rested(begin: When, end: When, rest: float) -> When:
    return lambda epochs: begin(epochs) + resting(rest, end(epochs) - begin(epochs))


def deepened(space: Space, cells: int | None, times: float) -> Space:
    """The space with ``times`` so many cells. None: its depth is searched, and stays as it is. ValueError where it cannot."""
    if cells is not None:
        return filled(space, max(1, round(times * cells)))
    if times != 1:
        raise ValueError(
            f"the depth of space {space.name!r} is searched, so no stage has {times:g} times its cells: set pdarts.depth to 1"
        )
    return space


def filled(space: Space, cells: int) -> Space:
    """The space with so many cells, or as many more as it takes for every group of edges to be in one: alphas that no cell reads stay noise."""
    made = space.resized(cells=cells)
    return filled(space, cells + 1) if absent(made) else made


class Cells:
    """How many the search began with: what each stage's depth is a multiple of, so that no stage rounds what another has rounded. None in a
    space that has no cells."""

    def __init__(self) -> None:
        self.base: int | None = None

    def bind(self, state: State) -> None:
        if self.base is None:
            self.base = state.space.spec().get("cells")

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        pass

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"base": self.base}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.base = saved["base"]
