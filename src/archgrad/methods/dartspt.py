"""DARTS-PT, "Rethinking Architecture Selection in Differentiable NAS" (Wang et al. 2021, arXiv 2108.04392).

Changes how an architecture is read off, after any search: not the op with the largest alpha is the best, but the one whose removal from the
supernet hurts most. Edge by edge it is fixed, and the supernet learns on with it; then each node keeps the inputs whose removal hurts most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from archgrad.arch import Alphas, Context, EdgeGroup, Forward, Groups, Mixture
from archgrad.diagnostics.accuracy import accuracy
from archgrad.patch import Decision, Finalise, Patch
from archgrad.schedules import Span, never
from archgrad.search_method import Method
from archgrad.seeds import generator
from archgrad.select import strongest
from archgrad.state import Data, State

PRESETS: dict[str, dict[str, Any]] = {"nasbench201": {"tune": 0.05}}  # [author code]: 5 epochs after a search of 100; elsewhere after one of 50


def dartspt(
    *,
    fixed: bool = False,
    tune: Span = 0.1,
    rate: Annotated[float, Field(gt=0)] = 0.1,
    criterion: Literal["accuracy", "loss"] = "accuracy",
    order: Literal["random", "index"] = "random",
    images: Annotated[int, Field(ge=1)] | None = None,
) -> Patch:
    """``fixed``: alphas never move (the paper's "DARTS-PT-fix"). ``tune``: how long the supernet learns between decisions, in epochs (5) or as
    a share of the search (0.1), at ``rate`` times the search's learning rate. ``criterion`` of what hurts, on the validation half, or on so
    many ``images`` of it. ``order`` of the edges and nodes."""
    return Patch(
        "dartspt",
        reshape=(projected,),
        memory={"projection": Projection},
        finalise=perturbation(tune, rate, criterion, order, images),
        alpha_from=never if fixed else None,
    )


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

    def after_epoch(self, method: Method, state: State, data: Data, context: Context) -> dict[str, Any]:
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
    weights = dict(mixture.weights)
    active = dict(mixture.active or {name: group.mask() for name, group in context.groups.items()})
    for name, columns in fixed.items():
        edges, column = torch.tensor(list(columns)), torch.tensor(list(columns.values()))
        only = column[:, None] == torch.arange(context.groups[name].width)
        active[name] = put(active[name], edges, only)
        device = weights[name].device
        weights[name] = put(weights[name], edges.to(device), only.to(weights[name]))
    return replace(mixture, weights=weights, active=active)


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
            drawn = torch.randperm(len(queue), generator=generator(seed, "dartspt", what, name)).tolist()
            queues[name] = [queue[k] for k in drawn] if order == "random" else queue
        for places_ in zip_longest(*queues.values()):
            here = [(name, place) for name, place in zip(queues, places_, strict=True) if place is not None]
            found += [Choice(what, name, place, k == 0) for k, (name, place) in enumerate(here)]
    return found


def open_edges(group: EdgeGroup) -> list[int]:
    return [edge for edge in range(len(group.edges)) if len(columns(group, edge)) > 1]


def open_nodes(group: EdgeGroup) -> list[int]:
    return [node for node in group.nodes() if group.keep is not None and len(inputs(group, node)) > group.keep]


def columns(group: EdgeGroup, edge: int) -> list[int]:
    """What may be selected there."""
    return [k for k, primitive in enumerate(group.edges[edge].primitives) if primitive not in group.hidden]


def inputs(group: EdgeGroup, node: int) -> list[int]:
    """The edges of a node that have something to select."""
    return [edge for edge in group.nodes()[node] if columns(group, edge)]


def perturbation(tune: float, rate: float, criterion: str, order: str, images: int | None) -> Finalise:
    """A decision for every choice; between rounds the supernet learns on, without its old momentum and at one learning rate [author code]."""

    def finalise(method: Method, state: State, data: Data, decisions: list[Decision]) -> Iterator[Decision]:
        learner = replace(method, patch=replace(method.patch, weights={**method.patch.weights, "lr": rate * method.weights.lr, "per": "never"}))
        each = method.stepper.steps(method, state.plan, state.plan.epochs - 1)
        steps = tune * each if isinstance(tune, int) else max(1, round(tune * state.plan.epochs * each))
        groups = state.space.groups
        projection: Any = state.memory["projection"]

        def remains(mixture: Mixture, group: str, edge: int, column: int | slice = slice(None)) -> float:
            """What the supernet still reaches when this is removed: its accuracy, or minus its loss."""
            weights = mixture.weights[group].clone()
            weights[..., edge, column] = 0
            less, batches = replace(mixture, weights={**mixture.weights, group: weights}), data.evaluation("val", limit=images)
            right, loss = accuracy(state.nets["search"], less, batches, state.seed, "dartspt", batch_statistics=True)
            return right if criterion == "accuracy" else -loss

        def decide(choice: Choice) -> dict[str, Any]:
            name, group, mixture = choice.group, groups[choice.group], method.readout(state).whole()
            if choice.what == "op":
                source, target, primitives = group.edges[choice.place]
                left = {column: remains(mixture, name, choice.place, column) for column in columns(group, choice.place)}
                best = min(left, key=left.__getitem__)
                projection.fix(name, choice.place, best)
                return {"group": name, "edge": f"{source} -> {target}", "op": primitives[best], "without": left[best]}
            left = {edge: remains(mixture, name, edge) for edge in inputs(group, choice.place)}
            ranked = sorted(left, key=left.__getitem__)
            for edge in ranked[group.keep :]:
                projection.fix(name, edge, -1)
            kept = ", ".join(str(group.edges[edge].source) for edge in sorted(ranked[: group.keep]))
            return {"group": name, "node": choice.place, "inputs": kept, "without": left[ranked[0]]}

        if not decisions:
            state.optimizers["weights"].state.clear()
        agenda = choices(groups, order, state.seed)
        for turn in range(len(decisions), len(agenda)):
            if turn and agenda[turn].first:
                learn_on(learner, state, data, steps)
            note = decide(agenda[turn])
            yield Decision(strongest(method.readout(state), groups), note)

    return finalise


def learn_on(method: Method, state: State, data: Data, steps: int) -> None:
    """So many steps more, in further epochs."""
    while steps:
        if state.step == 0:
            method.stepper.begin_epoch(method, state)
        some = min(steps, method.steps(state) - state.step)
        for train, val in zip(*(data.batches(split, state.epoch, state.step, some) for split in ("train", "val")), strict=True):
            method.step(state, train, val)
        steps -= some
        if state.step == method.steps(state):
            state.epoch, state.step = state.epoch + 1, 0
