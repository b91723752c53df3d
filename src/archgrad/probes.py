"""Observers that measure: the discretisation gap, sharpness, entropies. They see the epoch that ended and leave the search as it was.

A last row is that of the last epoch, or of one at which an observer before them asked to stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from archgrad.arch import Alphas, Mixture
from archgrad.diagnostics import entropy
from archgrad.diagnostics.gap import gap
from archgrad.diagnostics.sharpness import MOVED, supernet_sharpness
from archgrad.loop import Row
from archgrad.patch import Decision
from archgrad.search_method import Method
from archgrad.state import Data, State
from archgrad.stepper import Values

TIMES = 5
"""How often the gap is measured in a search by default."""


@dataclass(frozen=True)
class Gap:
    """`archgrad.diagnostics.gap` of the readout mixture and its genotype on at most ``images`` validation images as they are, in batches of
    256; after every ``every`` epochs (None: five times a search, every fifth of its epochs) and always after the last."""

    every: int | None = None
    images: int = 1024

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        if not due(self.every or Fraction(state.plan.epochs, TIMES), state, row):
            return None
        past = at_end(method, state, row)
        single = method.genotype(past).one_hot(state.space.groups)
        batches = partial(data.evaluation, "val", limit=self.images)
        found = gap(state.nets["search"], method.readout(past), single, batches, state.seed, "gap", row["epoch"])
        return {name: finite(value) for name, value in found.items()}

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


@dataclass(frozen=True)
class Sharpness:
    """`archgrad.diagnostics.sharpness` of the cross-entropy on ``batches`` whole batches of ``batch`` training images, not augmented; after
    every ``every`` epochs (None: none but the last) and always after the last."""

    every: int | None = None
    over: tuple[str, ...] = tuple(MOVED)
    rho: float = 0.05
    steps: int = 1
    batches: int = 8
    batch: int = 64

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        if not due(self.every or state.plan.epochs, state, row):
            return None
        context = method.context(at_end(method, state, row), "readout")

        def mixture(alphas: Alphas) -> Mixture:
            return method.mixture(alphas, context)

        images = data.evaluation("train", self.batch, self.batches * self.batch)
        whole = (batch for k, batch in enumerate(images) if not k or len(batch.labels) == self.batch)  # a rest would count as much
        net, place = state.nets["search"], (state.seed, "sharpness", row["epoch"])
        found = supernet_sharpness(net, state.alphas, mixture, whole, *place, over=self.over, rho=self.rho, steps=self.steps)
        named = {f"sharpness_{name}": one for name, one in found.items()}
        return {column: finite(value) for name, (mean, half) in named.items() for column, value in ((name, mean), (f"{name}_interval", half))}

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


@dataclass(frozen=True)
class Entropies:
    """Entropy (nats) and margin of each edge of the readout mixture, after every ``every`` epochs and always after the last."""

    every: int = 1

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        if not due(self.every, state, row):
            return None
        mixture, groups = method.readout(at_end(method, state, row)), state.space.groups
        ahead = entropy.margins(mixture, groups)
        edges = rounded(entropy.edge_entropies(mixture, groups))
        margin = entropy.mean(ahead) if any(ahead.values()) else None  # nothing left to choose
        return {"entropy_edges": edges, "margin": margin, "margin_edges": rounded(ahead)}

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


def at_end(method: Method, state: State, row: Row) -> State:
    """The state in the place where the epoch of ``row`` ended, as `loop.summary` saw it: schedules must not read the next epoch already."""
    past = replace(state, epoch=row["epoch"])
    return replace(past, step=method.steps(past))


def due(every: int | Fraction, state: State, row: Row) -> bool:
    """Whether a multiple of ``every`` epochs ended with this one, or no epoch follows it."""
    last = state.epoch == state.plan.epochs or bool(row.get("stop"))
    return last or (row["epoch"] + 1) // every > row["epoch"] // every


def finite(value: float | None) -> float | None:
    """JSON knows no infinity: a loss that overflowed is null."""
    return value if value is None or math.isfinite(value) else None


def rounded(edges: entropy.Edges) -> entropy.Edges:
    return {name: [round(value, 4) for value in values] for name, values in edges.items()}
