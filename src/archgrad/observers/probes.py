"""Observers that measure: the discretisation gap, sharpness, curvature, entropies, rankings. They see the epoch that ended and leave the search
as it was.

A last row is that of the last epoch, or of one at which an observer before them asked to stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Protocol

from archgrad.arch.edges import Alphas, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch
from archgrad.components.select import uniform
from archgrad.diagnostics import entropy
from archgrad.diagnostics.curvature import supernet_curvature
from archgrad.diagnostics.gap import gap
from archgrad.diagnostics.ranking import accuracies, correlation
from archgrad.diagnostics.sharpness import MOVED, supernet_sharpness
from archgrad.errors import counted
from archgrad.searching.duration import EIGENVALUE
from archgrad.searching.types import Data, Decision, Method, State, Values
from archgrad.storage.records import Row

TIMES = 5
"""How often the gap and the ranking are measured in a search by default."""


class Probe(Protocol):
    """An observer that measures something after some epochs."""

    @property
    def name(self) -> str:
        """What it measures, in words."""

    def interval(self, epochs: int) -> int | Fraction:
        """Epochs between two measurements in a search of so many; after the last epoch there is always one."""

    def passes(self, state: State) -> float:
        """Forward passes of an image that a measurement takes, about; a backward pass counts as two."""

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None: ...

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


@dataclass(frozen=True)
class Gap:
    """`archgrad.diagnostics.gap` of the readout mixture and its genotype on at most ``images`` validation images as they are, in batches of
    256; after every ``every`` epochs (None: five times a search, every fifth of its epochs) and always after the last."""

    every: int | None = None
    images: int = 1024
    name = "discretisation gap"

    def interval(self, epochs: int) -> int | Fraction:
        return self.every or Fraction(epochs, TIMES)

    def passes(self, state: State) -> float:
        return 2 * validation(state, self.images)

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        if not due(self.interval(state.plan.epochs), state, row):
            return None
        past = at_end(method, state, row)
        single = method.genotype(past).one_hot(state.space.groups)
        batches = partial(data.evaluation, "val", limit=self.images)
        found = gap(
            state.nets["search"],
            method.readout(past),
            single,
            batches,
            state.seed,
            "gap",
            row["epoch"],
            loss=method.patch.loss,
        )
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
    name = "sharpness"

    def interval(self, epochs: int) -> int | Fraction:
        return self.every or epochs

    def passes(self, state: State) -> float:
        return float(self.batches * self.batch * len(self.over) * (3 * self.steps + 1))

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        if not due(self.interval(state.plan.epochs), state, row):
            return None
        mixture = reading(method, at_end(method, state, row))
        images = whole(data.evaluation("train", self.batch, self.batches * self.batch), self.batch)
        net, place = state.nets["search"], (state.seed, "sharpness", row["epoch"])
        found = supernet_sharpness(
            net,
            state.alphas,
            mixture,
            images,
            *place,
            over=self.over,
            rho=self.rho,
            steps=self.steps,
            of=method.loss,
        )
        named = {f"sharpness_{name}": one for name, one in found.items()}
        return {
            column: finite(value)
            for name, (mean, half) in named.items()
            for column, value in ((name, mean), (f"{name}_interval", half))
        }

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


@dataclass(frozen=True)
class Curvature:
    """`archgrad.diagnostics.curvature` of the cross-entropy over the alphas, at the readout mixture, on ``batches`` whole batches of ``batch``
    validation images as they are, the same every time: the column ``eigenvalue``; after every ``every`` epochs and always after the last. A
    method that measures it itself (RobustDARTS) is left to it. None where it is not finite."""

    every: int = 1
    batches: int = 1
    batch: int = 64
    between: Callable[[], object] = lambda: (
        None
    )  # called before each product, of which a batch has many; it may raise
    name = "curvature"

    def interval(self, epochs: int) -> int | Fraction:
        return self.every

    def passes(self, state: State) -> float:
        return EIGENVALUE * self.batches * self.batch

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        if "eigenvalue" in row or not due(self.every, state, row):
            return None
        mixture, groups = reading(method, at_end(method, state, row)), state.space.groups
        images = whole(data.evaluation("val", self.batch, self.batches * self.batch), self.batch)
        place = (state.seed, "curvature", row["epoch"])
        net, alphas = state.nets["search"], state.alphas
        value = supernet_curvature(
            net, alphas, mixture, groups, images, *place, between=self.between, of=method.loss
        )
        return {"eigenvalue": finite(value)}

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


@dataclass(frozen=True)
class Entropies:
    """Entropy (nats) and margin of each edge of the readout mixture, after every ``every`` epochs and always after the last."""

    every: int = 1
    name = "entropies"

    def interval(self, epochs: int) -> int | Fraction:
        return self.every

    def passes(self, state: State) -> float:
        return 0.0

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


@dataclass(frozen=True)
class Ranking:
    """Whether the search network S, the evaluation network E of a method that has one, and tables rank architectures alike.

    Kendall's tau and Spearman's rho (`archgrad.diagnostics.ranking`) over at most ``architectures`` distinct genotypes, drawn uniformly from
    the space: a function of the seed, so the same at every epoch. Each is judged by its accuracy on at most ``images`` validation images as
    they are, alone in each network. ``ranking_tau`` and ``ranking_rho`` are of S and E, from E's first cycle on; with a table ``name`` of
    ``known`` (genotype -> value), ``ranking_search_tau_NAME`` and ``ranking_evaluation_tau_NAME``, and the same of rho, are of each network and
    that table. An op of E that no cycle has run yet is untrained, and counts as it is: that holds E's rankings down in early cycles. None
    where a judge finds all alike. After every ``every`` epochs (None: five times a search) and always after the last.

    ValueError for fewer than 2 architectures or no images.
    """

    every: int | None = None
    architectures: int = 32
    images: int = 256
    known: Mapping[str, Callable[[Genotype], float]] = field(default_factory=dict)
    name = "ranking"

    def __post_init__(self) -> None:
        if self.architectures < 2 or self.images < 1:
            raise ValueError(
                f"a ranking needs at least 2 architectures and 1 image, not {self.architectures} and {self.images}"
            )

    def interval(self, epochs: int) -> int | Fraction:
        return self.every or Fraction(epochs, TIMES)

    def passes(self, state: State) -> float:
        return (
            (2 if "evaluation" in state.nets else 1)
            * self.architectures
            * validation(state, self.images)
        )

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        if not due(self.interval(state.plan.epochs), state, row):
            return None
        groups = state.space.groups
        sample, batches = (
            self.sample(groups, state.seed),
            Again(partial(data.evaluation, "val", limit=self.images)),
        )
        judges = (
            ("search", "evaluation") if state.genotype else ("search",)
        )  # an evaluation network runs from the first cycle on
        by_net = {
            name: accuracies(
                state.nets[name], sample, groups, batches, state.seed, "ranking", row["epoch"]
            )
            for name in judges
        }
        by_table = {
            name: [value(genotype) for genotype in sample] for name, value in self.known.items()
        }
        pairs = {"ranking_{}": (by_net["search"], by_net["evaluation"])} if state.genotype else {}
        pairs |= {
            f"ranking_{net}_{{}}_{name}": (by_net[net], values)
            for net in by_net
            for name, values in by_table.items()
        }
        found = {columns: correlation(*pair) for columns, pair in pairs.items()}
        return {
            columns.format(kind): value
            for columns, both in found.items()
            for kind, value in zip(("tau", "rho"), both)
        }

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...

    def sample(self, groups: Groups, seed: int) -> tuple[Genotype, ...]:
        """The architectures, each once."""
        return tuple(
            dict.fromkeys(uniform(groups, seed, "ranking", k) for k in range(self.architectures))
        )

    def cost(self, state: State) -> str:
        """What it will do in a whole search, in a few words."""
        times = moments(self, state.plan.epochs)
        nets = "2 networks" if "evaluation" in state.nets else "1 network"
        images = int(validation(state, self.images))
        return f"ranking: {self.architectures} architectures on {images:,} images in {nets}, {counted(times, 'time')}"


@dataclass(frozen=True)
class Again:
    """Batches that are read anew each time they are gone through: one who wants to stop is asked before each."""

    read: Callable[[], Iterable[Batch]]

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.read())


def moments(probe: Probe, epochs: int, begin: int = 0) -> int:
    """How often it measures from epoch ``begin`` on."""
    every = probe.interval(epochs)
    return sum(falls(every, epoch) or epoch == epochs - 1 for epoch in range(begin, epochs))


def validation(state: State, images: int) -> float:
    """Images of the validation half, at most so many."""
    return float(min(images, state.plan.images[1] or images))


def at_end(method: Method, state: State, row: Row) -> State:
    """The state in the place where the epoch of ``row`` ended, as `loop.summary` saw it: schedules must not read the next epoch already."""
    past = replace(state, epoch=row["epoch"])
    return replace(past, step=method.steps(past))


def reading(method: Method, state: State) -> Callable[[Alphas], Mixture]:
    """What discretisation would read of other alphas there."""
    context = method.context(state, "readout")
    return lambda alphas: method.mixture(alphas, context)


def whole(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The first, and of the others those of full size: a rest would count as much."""
    return (batch for k, batch in enumerate(batches) if not k or len(batch.labels) == size)


def due(every: int | Fraction, state: State, row: Row) -> bool:
    """Whether a multiple of ``every`` epochs ended with this one, or no epoch follows it."""
    return state.epoch == state.plan.epochs or bool(row.get("stop")) or falls(every, row["epoch"])


def falls(every: int | Fraction, epoch: int) -> bool:
    """Whether a multiple of ``every`` epochs ends with this one."""
    return (epoch + 1) // every > epoch // every


def finite(value: float | None) -> float | None:
    """JSON knows no infinity: a loss that overflowed is null."""
    return value if value is None or math.isfinite(value) else None


def rounded(edges: entropy.Edges) -> entropy.Edges:
    return {name: [round(value, 4) for value in values] for name, values in edges.items()}
