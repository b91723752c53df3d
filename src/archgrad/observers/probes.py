"""Observers that measure: the gap, sharpness, curvature, entropies and rankings.

They measure the epoch that ended, and leave the search as it was. The last measurement follows the
last epoch, or the epoch at which an earlier observer ends the search.
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
from archgrad.components.select import uniform_genotype
from archgrad.diagnostics import entropy
from archgrad.diagnostics.curvature import supernet_curvature
from archgrad.diagnostics.gap import gap
from archgrad.diagnostics.ranking import accuracies, correlation
from archgrad.diagnostics.sharpness import BALLS, supernet_sharpness
from archgrad.errors import counted
from archgrad.searching.duration import EIGENVALUE
from archgrad.searching.observer import Observer
from archgrad.searching.types import Method, SearchData, State
from archgrad.storage.records import Row

TIMES = 5
"""The default number of measurements of the gap and of the ranking in a search."""


class Probe(Observer, Protocol):
    """Measure something after some epochs."""

    @property
    def name(self) -> str:
        """The name of the measurement, in words."""

    def interval(self, epochs: int) -> int | Fraction:
        """Return the epochs between two measurements in a search of ``epochs``.

        There is always a measurement after the last epoch.
        """

    def passes(self, state: State) -> float:
        """Return about how many forward passes of an image a measurement takes.

        A backward pass counts as two.
        """


@dataclass(frozen=True)
class Gap(Probe):
    """Measure the gap between the readout mixture and its genotype (`archgrad.diagnostics.gap`).

    It is measured on validation images that are not augmented, in batches of 256.

    Attributes:
        every: Epochs between two measurements; None measures five times in a search. There is
            always one after the last epoch.
        images: Largest number of images.
    """

    every: int | None = None
    images: int = 1024
    name = "discretisation gap"

    def interval(self, epochs: int) -> int | Fraction:
        return self.every or Fraction(epochs, TIMES)

    def passes(self, state: State) -> float:
        return 2 * validation_images(state, self.images)

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> Row | None:
        if not is_due(self.interval(state.plan.epochs), state, row):
            return None
        past = state_at_end(method, state, row)
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
        return {name: finite_or_none(value) for name, value in found.items()}


@dataclass(frozen=True)
class Sharpness(Probe):
    """Measure the sharpness of the loss on training images (`archgrad.diagnostics.sharpness`).

    The images are not augmented, and only whole batches count.

    Attributes:
        every: Epochs between two measurements; None measures after the last epoch only. There is
            always one after the last epoch.
        over: Names of the balls: "weights", "alphas", "both".
        rho: Radius of the ball.
        steps: Number of steps of the ascent.
        batches: Number of batches.
        batch: Number of images in a batch.
    """

    every: int | None = None
    over: tuple[str, ...] = tuple(BALLS)
    rho: float = 0.05
    steps: int = 1
    batches: int = 8
    batch: int = 64
    name = "sharpness"

    def interval(self, epochs: int) -> int | Fraction:
        return self.every or epochs

    def passes(self, state: State) -> float:
        return float(self.batches * self.batch * len(self.over) * (3 * self.steps + 1))

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> Row | None:
        if not is_due(self.interval(state.plan.epochs), state, row):
            return None
        mixture = readout_of(method, state_at_end(method, state, row))
        images = whole_batches(
            data.evaluation("train", self.batch, self.batches * self.batch), self.batch
        )
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
            column: finite_or_none(value)
            for name, (mean, half) in named.items()
            for column, value in ((name, mean), (f"{name}_interval", half))
        }


@dataclass(frozen=True)
class Curvature(Probe):
    """Measure the curvature of the loss over the alphas (`archgrad.diagnostics.curvature`).

    It is measured at the readout mixture, on the same validation images every time, which are not
    augmented. Only whole batches count. The column is ``eigenvalue``, and its value is None where
    it is not finite. A method that measures the curvature itself (RobustDARTS) does so instead.

    Attributes:
        every: Epochs between two measurements. There is always one after the last epoch.
        batches: Number of batches.
        batch: Number of images in a batch.
        before_product: Function that is called before each product of the Hessian; it may raise.
    """

    every: int = 1
    batches: int = 1
    batch: int = 64
    before_product: Callable[[], object] = lambda: None
    name = "curvature"

    def interval(self, epochs: int) -> int | Fraction:
        return self.every

    def passes(self, state: State) -> float:
        return EIGENVALUE * self.batches * self.batch

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> Row | None:
        if "eigenvalue" in row or not is_due(self.every, state, row):
            return None
        mixture, groups = readout_of(method, state_at_end(method, state, row)), state.space.groups
        images = whole_batches(
            data.evaluation("val", self.batch, self.batches * self.batch), self.batch
        )
        place = (state.seed, "curvature", row["epoch"])
        net, alphas = state.nets["search"], state.alphas
        value = supernet_curvature(
            net,
            alphas,
            mixture,
            groups,
            images,
            *place,
            between=self.before_product,
            of=method.loss,
        )
        return {"eigenvalue": finite_or_none(value)}


@dataclass(frozen=True)
class Entropies(Probe):
    """Measure the entropy (nats) and the margin of each edge of the readout mixture.

    Attributes:
        every: Epochs between two measurements. There is always one after the last epoch.
    """

    every: int = 1
    name = "entropies"

    def interval(self, epochs: int) -> int | Fraction:
        return self.every

    def passes(self, state: State) -> float:
        return 0.0

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> Row | None:
        if not is_due(self.every, state, row):
            return None
        mixture, groups = method.readout(state_at_end(method, state, row)), state.space.groups
        ahead = entropy.margins(mixture, groups)
        edges = rounded_edges(entropy.edge_entropies(mixture, groups))
        margin = (
            entropy.mean_over_edges(ahead) if any(ahead.values()) else None
        )  # no edge has a choice
        return {"entropy_edges": edges, "margin": margin, "margin_edges": rounded_edges(ahead)}


@dataclass(frozen=True)
class Ranking(Probe):
    """Measure whether the networks of a search, and tables, rank architectures alike.

    The judges are the search network S, the evaluation network E of a method that has one, and
    tables. Kendall's tau and Spearman's rho (`archgrad.diagnostics.ranking`) compare them over
    distinct genotypes that are drawn uniformly from the space. The draw is a function of the seed,
    so it is the same at every epoch. A network judges a genotype by its accuracy alone in the
    network, on validation images that are not augmented.

    ``ranking_tau`` and ``ranking_rho`` compare S and E, from E's first cycle on. For each table,
    ``ranking_search_tau_NAME`` and ``ranking_evaluation_tau_NAME`` (and the same of rho) compare a
    network with the table. An op of E that no cycle has run yet is untrained, which lowers E's
    rankings in early cycles. A value is None where a judge gives all genotypes the same score.

    Attributes:
        every: Epochs between two measurements; None measures five times in a search. There is
            always one after the last epoch.
        architectures: Largest number of genotypes.
        images: Largest number of images.
        known: Name of a table -> function that gives the value of a genotype.

    Raises:
        ValueError: There are fewer than 2 architectures, or no images.
    """

    every: int | None = None
    architectures: int = 32
    images: int = 256
    known: Mapping[str, Callable[[Genotype], float]] = field(default_factory=dict)
    name = "ranking"

    def __post_init__(self) -> None:
        if self.architectures < 2 or self.images < 1:
            raise ValueError(
                "a ranking needs at least 2 architectures and 1 image, not "
                f"{self.architectures} and {self.images}"
            )

    def interval(self, epochs: int) -> int | Fraction:
        return self.every or Fraction(epochs, TIMES)

    def passes(self, state: State) -> float:
        nets = 2 if "evaluation" in state.nets else 1
        return nets * self.architectures * validation_images(state, self.images)

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> Row | None:
        if not is_due(self.interval(state.plan.epochs), state, row):
            return None
        groups = state.space.groups
        sample = self.sample(groups, state.seed)
        batches = Rereadable(partial(data.evaluation, "val", limit=self.images))
        # An evaluation network has a genotype from the first cycle on.
        judges = ("search", "evaluation") if state.genotype else ("search",)
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

    def sample(self, groups: Groups, seed: int) -> tuple[Genotype, ...]:
        """Return the architectures that are ranked, each once."""
        draws = (
            uniform_genotype(groups, seed, "ranking", number)
            for number in range(self.architectures)
        )
        return tuple(dict.fromkeys(draws))

    def cost_line(self, state: State) -> str:
        """Return a line about the work in a whole search."""
        times = measurement_count(self, state.plan.epochs)
        nets = "2 networks" if "evaluation" in state.nets else "1 network"
        images = int(validation_images(state, self.images))
        return (
            f"ranking: {self.architectures} architectures on {images:,} images in {nets}, "
            f"{counted(times, 'time')}"
        )


@dataclass(frozen=True)
class Rereadable:
    """Read batches again for each iteration, so that a request to stop works before each batch."""

    read: Callable[[], Iterable[Batch]]

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.read())


def measurement_count(probe: Probe, epochs: int, begin: int = 0) -> int:
    """Return the number of measurements of a probe from epoch ``begin`` on."""
    every = probe.interval(epochs)
    return sum(is_multiple(every, epoch) or epoch == epochs - 1 for epoch in range(begin, epochs))


def validation_images(state: State, images: int) -> float:
    """Return the number of images of the validation half, at most ``images``."""
    return float(min(images, state.plan.images[1] or images))


def state_at_end(method: Method, state: State, row: Row) -> State:
    """Return the state at the end of the epoch of ``row``, as `loop.epoch_row` reads it.

    Schedules must not read the next epoch yet.
    """
    past = replace(state, epoch=row["epoch"])
    return replace(past, step=method.steps(past))


def readout_of(method: Method, state: State) -> Callable[[Alphas], Mixture]:
    """Return the function alphas -> the mixture that discretisation reads, in this state."""
    context = method.context(state, "readout")
    return lambda alphas: method.mixture(alphas, context)


def whole_batches(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Return the first batch and all others of full size, because each counts the same."""
    return (
        batch for number, batch in enumerate(batches) if not number or len(batch.labels) == size
    )


def is_due(every: int | Fraction, state: State, row: Row) -> bool:
    """Return whether a measurement is due: a multiple of ``every`` epochs, or the last epoch."""
    return (
        state.epoch == state.plan.epochs
        or bool(row.get("stop"))
        or is_multiple(every, row["epoch"])
    )


def is_multiple(every: int | Fraction, epoch: int) -> bool:
    """Return whether a multiple of ``every`` epochs ends with this epoch."""
    return (epoch + 1) // every > epoch // every


def finite_or_none(value: float | None) -> float | None:
    """Return the value, or None if it is not finite, because JSON has no infinity."""
    return value if value is None or math.isfinite(value) else None


def rounded_edges(edges: entropy.Edges) -> entropy.Edges:
    """Return the values rounded to four digits."""
    return {name: [round(value, 4) for value in values] for name, values in edges.items()}
