"""The projection of DARTS-PT (arXiv 2108.04392): the choices that are left and that are made.

A choice that is made holds for the rest of the search: its edge runs the chosen op alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archgrad.arch.edges import Alphas, EdgeGroup, Groups
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.searching.types import Memory
from archgrad.seeds import generator


class Projection(Memory):
    """The choices that are made, as group -> edge -> column of the op; -1 is a removed edge."""

    def __init__(self) -> None:
        self.fixed: dict[str, dict[int, int]] = {}

    def fix(self, group: str, edge: int, column: int) -> None:
        """Let the edge run the op of this column alone, or nothing if the column is -1."""
        self.fixed.setdefault(group, {})[edge] = column

    def state_dict(self) -> dict[str, Any]:
        return {"fixed": {group: dict(columns) for group, columns in self.fixed.items()}}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.fixed = {group: dict(columns) for group, columns in saved["fixed"].items()}


def projected(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """Return the mixture with weight 1 on the op of each fixed edge and 0 on a removed edge.

    Neither edge runs another op, and neither has a gradient.
    """
    fixed: dict[str, dict[int, int]] = context.memory["projection"].fixed
    if not fixed:
        return mixture
    weights, active = dict(mixture.weights), running(mixture, context.groups)
    for name, columns in fixed.items():
        edges, column = torch.tensor(list(columns)), torch.tensor(list(columns.values()))
        only = column[:, None] == torch.arange(context.groups[name].width)
        active[name] = with_rows(active[name], edges, only)
        device = weights[name].device
        weights[name] = with_rows(weights[name], edges.to(device), only.to(weights[name]))
    return replace(mixture, weights=weights, active=active)


def running(mixture: Mixture, groups: Groups) -> dict[str, Tensor]:
    """Return the ops that are executed, bool by group, on the host."""
    return dict(mixture.active or {name: group.mask() for name, group in groups.items()})


def without_op(
    mixture: Mixture, groups: Groups, group: str, edge: int, column: int | None = None
) -> Mixture:
    """Return the mixture without one op, or without a whole edge: weight 0, and not executed.

    Args:
        mixture: The mixture of all groups.
        groups: The edge groups.
        group: Name of the group of the edge.
        edge: Number of the edge in its group.
        column: Number of the op on the edge. None removes the whole edge.
    """
    at = (..., edge, slice(None) if column is None else column)
    weights, active = mixture.weights[group].clone(), running(mixture, groups)
    active[group] = active[group].clone()
    weights[at], active[group][at] = 0, False
    return replace(mixture, weights={**mixture.weights, group: weights}, active=active)


def with_fixed(groups: Groups, fixed: Mapping[str, Mapping[int, int]]) -> Groups:
    """Return the groups with one op on each fixed edge and none on a removed edge."""

    def left(group: EdgeGroup, columns: Mapping[int, int]) -> EdgeGroup:
        edges = list(group.edges)
        for number, column in columns.items():
            kept = edges[number].primitives[column : column + 1] if column >= 0 else ()
            edges[number] = edges[number]._replace(primitives=kept)
        return replace(group, edges=tuple(edges))

    return {name: left(group, fixed.get(name, {})) for name, group in groups.items()}


def with_rows(rows: Tensor, edges: Tensor, values: Tensor) -> Tensor:
    """Return ``rows``, (..., edges, ops), with the rows of these edges replaced in every cell.

    Args:
        rows: A tensor of all edges, (edges, ops) or (cells, edges, ops).
        edges: Numbers of the edges, (n,).
        values: Their new rows, (n, ops).
    """
    return rows.index_copy(-2, edges, values.expand(*rows.shape[:-2], *values.shape))


class Choice(NamedTuple):
    """A choice that is left: the op of an edge, or the inputs of a node.

    Attributes:
        kind: "op" or "inputs".
        group: Name of the edge group.
        place: Number of the edge or of the node.
        begins_round: Whether the choice begins a round. A round has one choice of every group.
    """

    kind: str
    group: str
    place: int
    begins_round: bool


def choices(groups: Groups, order: str, seed: int) -> list[Choice]:
    """Return all choices: first the ops, then the inputs, in rounds [author code].

    An edge with one selectable op has no choice, nor has a node whose inputs are all kept.
    """
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
    """Return the edges with more than one selectable op."""
    return [edge for edge in range(len(group.edges)) if len(selectable_columns(group, edge)) > 1]


def open_nodes(group: EdgeGroup) -> list[int]:
    """Return the nodes with more inputs than they may keep."""
    return [
        node
        for node in group.nodes()
        if group.keep is not None and len(inputs(group, node)) > group.keep
    ]


def selectable_columns(group: EdgeGroup, edge: int) -> list[int]:
    """Return the columns of the ops that may be selected on an edge."""
    return [
        k
        for k, primitive in enumerate(group.edges[edge].primitives)
        if primitive not in group.hidden
    ]


def inputs(group: EdgeGroup, node: int) -> list[int]:
    """Return the edges into a node that have a selectable op."""
    return [edge for edge in group.nodes()[node] if selectable_columns(group, edge)]
