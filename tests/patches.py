"""Patches for the tests: small simplified forms of published methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from archgrad.arch.edges import Alphas, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.arch.space import Space
from archgrad.components.context import Context, Forward
from archgrad.components.hypergradient import second_order
from archgrad.components.losses import task, weighted
from archgrad.components.relax import softmax
from archgrad.components.schedules import epoch_at_share, linear
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.types import SearchData, Stage, State


class Average:
    """A memory of a number and of a tensor: the running mean of the loss and of the logits."""

    def __init__(self) -> None:
        self.loss, self.logits = 0.0, None

    def bind(self, state: State) -> None:
        self.logits = None  # what depends on the supernet clears, the number stays

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        if forward.context.phase != "weight":
            return
        logits = forward.output.logits.detach().mean(0)
        self.logits = logits if self.logits is None else 0.9 * self.logits + 0.1 * logits
        self.loss = 0.9 * self.loss + 0.1 * task(forward).item()

    def after_epoch(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> dict[str, Any]:
        return {"remembered": self.loss}

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "logits": self.logits}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.loss, self.logits = saved["loss"], saved["logits"]


def pull(forward: Forward) -> Tensor:
    """A term that reads the memory."""
    average = forward.context.memory["average"]
    if average.logits is None:
        return forward.output.logits.new_zeros(())
    return average.loss * (forward.output.logits - average.logits).square().mean()


def memory() -> Patch:
    return Patch(
        "memory", memory={"average": Average}, weight_terms=(weighted(linear(0.1, 0.3), pull),)
    )


def pruned(method: Method, state: State) -> Space:
    """The two strongest ops of every edge."""
    rows = softmax(state.alphas, Context(state.space.groups, None, "readout", {}, 0)).weights  # type: ignore[arg-type]
    return state.space.resized(
        primitives={
            name: tuple(map(tuple, kept))
            for name, group in state.space.groups.items()
            if (kept := strong(rows[name], group))
        }
    )


def strong(weights: Tensor, group: EdgeGroup) -> list[list[str]]:
    best = weights.detach().argsort(dim=1, descending=True, stable=True).tolist()
    return [
        [
            p
            for k, p in enumerate(edge.primitives)
            if k in [c for c in order if c < len(edge.primitives)][:2]
        ]
        for edge, order in zip(group.edges, best, strict=True)
    ]


def keep_alphas(old: State, new: State) -> None:
    """Copy the logits of the ops that stay."""
    for name, group in new.space.groups.items():
        for e, edge in enumerate(group.edges):
            columns = [old.space.groups[name].edges[e].primitives.index(p) for p in edge.primitives]
            new.alphas[name].data[e, : len(columns)] = old.alphas[name].data[e, columns]


def stages() -> Patch:
    return Patch("stages", stages=(Stage(epoch_at_share(1, of=2), pruned, keep_alphas),))


def cells_differ(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """(edges, ops) -> (cells, edges, ops), each cell with a factor of its own, near 1."""
    factors = {name: 1 + 0.1 * alphas[f"{name}/cell"].tanh() for name in context.groups}
    return replace(
        mixture, weights={name: w * factors[name] for name, w in mixture.weights.items()}
    )


def per_cell() -> Patch:
    return Patch(
        "per_cell",
        extra_alphas={"cell": lambda group: (max(group.cells, 1), len(group.edges), group.width)},
        reshape=(cells_differ,),
    )


def unrolled() -> Patch:
    return Patch("unrolled", hypergradient=second_order)


def dropped(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """Dropout behind every skip while training (P-DARTS)."""
    return replace(mixture, dropout={"skip_connect": 0.3} if context.phase != "readout" else {})


def dropout() -> Patch:
    return Patch("dropout", reshape=(dropped,))


PATCHES: dict[str, Callable[[], Patch]] = {p.__name__: p for p in (memory, per_cell, unrolled)}
"""What no method in METHODS does as plainly: enrolled in the generic tests beside them."""
