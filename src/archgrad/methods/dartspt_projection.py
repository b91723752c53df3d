"""Reading an architecture off a supernet choice by choice: what is left to choose, and what is chosen already and holds from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archgrad.arch.edges import Alphas, EdgeGroup, Groups
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Forward
from archgrad.searching.types import Data, Method, State
from archgrad.seeds import generator


class Projection:
    """What is fixed: group -> edge -> column, -1 where the edge is removed."""

    def __init__(self) -> None:
        self.fixed: dict[str, dict[int, int]] = {}

    def fix(self, group: str, edge: int, column: int) -> None:
        self.fixed.setdefault(group, {})[edge] = column

    def bind(self, state: State) -> None:
        pass

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        pass

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"fixed": {group: dict(columns) for group, columns in self.fixed.items()}}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.fixed = {group: dict(columns) for group, columns in saved["fixed"].items()}


def projected(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """A fixed edge runs its op alone, at weight 1, a removed one nothing; neither has a gradient."""
    fixed: dict[str, dict[int, int]] = context.memory["projection"].fixed
    if not fixed:
        return mixture
    weights, active = dict(mixture.weights), running(mixture, context.groups)
    for name, columns in fixed.items():
        edges, column = torch.tensor(list(columns)), torch.tensor(list(columns.values()))
        only = column[:, None] == torch.arange(context.groups[name].width)
        active[name] = put(active[name], edges, only)
        device = weights[name].device
        weights[name] = put(weights[name], edges.to(device), only.to(weights[name]))
    return replace(mixture, weights=weights, active=active)


def running(mixture: Mixture, groups: Groups) -> dict[str, Tensor]:
    """What is executed, bool, on the host."""
    return dict(mixture.active or {name: group.mask() for name, group in groups.items()})


def without(
    mixture: Mixture, groups: Groups, group: str, edge: int, column: int | None = None
) -> Mixture:
    """An op, or all of an edge, neither weighed nor executed."""
    at = (..., edge, slice(None) if column is None else column)
    weights, active = mixture.weights[group].clone(), running(mixture, groups)
    active[group] = active[group].clone()
    weights[at], active[group][at] = 0, False
    return replace(mixture, weights={**mixture.weights, group: weights}, active=active)


def pinned(groups: Groups, fixed: Mapping[str, Mapping[int, int]]) -> Groups:
    """The groups with what is fixed alone on its edge, and nothing on a removed one."""

    def left(group: EdgeGroup, columns: Mapping[int, int]) -> EdgeGroup:
        own = [
            edge.primitives[columns[e] : columns[e] + 1] if columns.get(e, -1) >= 0 else ()
            for e, edge in enumerate(group.edges)
        ]
        edges = (
            edge._replace(primitives=own[e]) if e in columns else edge
            for e, edge in enumerate(group.edges)
        )
        return replace(group, edges=tuple(edges))

    return {name: left(group, fixed.get(name, {})) for name, group in groups.items()}


def put(rows: Tensor, edges: Tensor, values: Tensor) -> Tensor:
    """These rows of (..., edges, ops), in every cell."""
    return rows.index_copy(-2, edges, values.expand(*rows.shape[:-2], *values.shape))


class Choice(NamedTuple):
    """Of an edge its op, or of a node its inputs; ``first`` of a round, in which every group has one."""

    what: str
    group: str
    place: int
    first: bool


def choices(groups: Groups, order: str, seed: int) -> list[Choice]:
    """All ops first, then all inputs, round by round one of each group [author code]; what leaves no choice is left out."""
    found = []
    for what, places in (("op", open_edges), ("inputs", open_nodes)):
        queues = {}
        for name, group in groups.items():
            queue = places(group) if group.cells else []
            drawn = torch.randperm(
                len(queue), generator=generator(seed, "dartspt", what, name)
            ).tolist()
            queues[name] = [queue[k] for k in drawn] if order == "random" else queue
        for row in zip_longest(*queues.values()):
            here = [
                (name, place) for name, place in zip(queues, row, strict=True) if place is not None
            ]
            found += [Choice(what, name, place, k == 0) for k, (name, place) in enumerate(here)]
    return found


def open_edges(group: EdgeGroup) -> list[int]:
    return [edge for edge in range(len(group.edges)) if len(columns(group, edge)) > 1]


def open_nodes(group: EdgeGroup) -> list[int]:
    return [
        node
        for node in group.nodes()
        if group.keep is not None and len(inputs(group, node)) > group.keep
    ]


def columns(group: EdgeGroup, edge: int) -> list[int]:
    """What may be selected there."""
    return [
        k
        for k, primitive in enumerate(group.edges[edge].primitives)
        if primitive not in group.hidden
    ]


def inputs(group: EdgeGroup, node: int) -> list[int]:
    """The edges of a node that have something to select."""
    return [edge for edge in group.nodes()[node] if columns(group, edge)]
