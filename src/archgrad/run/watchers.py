"""The measurements of a run that its settings choose, and the estimate of its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

from archgrad import spaces, tabular
from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Space
from archgrad.data import Data
from archgrad.diagnostics.sharpness import BALLS
from archgrad.observers.probes import Curvature, Entropies, Gap, Probe, Ranking, Sharpness
from archgrad.observers.timing import Timing, shorter_search_lines
from archgrad.run.config import SearchConfig
from archgrad.searching.duration import Remaining
from archgrad.searching.types import Method, State
from archgrad.storage.records import Row


def timed(
    config: SearchConfig,
    method: Method,
    state: State,
    images: Data,
    probes: Sequence[Probe],
    past: Sequence[Row],
) -> Timing:
    """Return the timer of a search, which estimates the time that is left.

    Args:
        config: The resolved settings.
        method: The method of the search.
        state: Its state before the next step.
        images: Its images.
        probes: Its measurements.
        past: The rows of the epochs that earlier processes finished.
    """
    settings = config.diagnostics
    front_images = 0
    if settings.front:
        points = 1 if method.patch.finalise else 1 + settings.front_points
        front_images = points * min(settings.gap_images, images.count("val"))
    seconds = sum(row.get("seconds") or 0.0 for row in past)
    return Timing(method, state, probes, float(front_images), past=seconds)


def shorter_searches(config: SearchConfig, images: Data, begun: bool, left: Remaining) -> list[str]:
    """Return the settings that would make a search shorter, each with its time.

    Args:
        config: The resolved settings.
        images: The images of the search.
        begun: Whether an earlier process began the search. Then its settings are fixed.
        left: The time that is left.
    """
    if begun:
        return []
    epochs, train = config.search.epochs or 1, images.count("train")
    width = config.space.get("channels", 1)
    halves: dict[str, tuple[int, bool]] = {}  # flag -> its half, and whether time halves exactly
    if epochs > 1:
        halves["--search.epochs"] = epochs // 2, True
    if train > 2 * images.batch:
        halves["--search.limit"] = train // 2, True
    if width > 1:
        halves["--space.channels"] = width // 2, False
    return shorter_search_lines(left, halves)


def diagnostics(config: SearchConfig) -> tuple[Probe, ...]:
    """Return the measurements that are switched on, except `curvature`."""
    settings = config.diagnostics
    probes: list[Probe] = []
    if settings.gap:
        probes.append(Gap(settings.gap_every, settings.gap_images))
    if settings.sharpness:
        probes.append(_sharpness(config))
    if settings.entropy:
        probes.append(Entropies(settings.entropy_every))
    return (*probes, *ranking(config))


def _sharpness(config: SearchConfig) -> Sharpness:
    settings = config.diagnostics
    over = settings.sharpness_over
    assert config.search.batch is not None  # `resolve` sets it
    return Sharpness(
        settings.sharpness_every,
        tuple(BALLS) if over == "all" else (over,),
        settings.sharpness_rho,
        settings.sharpness_steps,
        settings.sharpness_batches,
        config.search.batch,
    )


def curvature(config: SearchConfig) -> tuple[Curvature, ...]:
    """Return the measurement of the curvature, which a rule for stopping may read, if it is on."""
    settings = config.diagnostics
    if not settings.curvature and config.stop.eigenvalue is None:
        return ()
    assert config.search.batch is not None  # `resolve` sets it
    return (Curvature(settings.curvature_every, settings.curvature_batches, config.search.batch),)


def ranking(config: SearchConfig) -> tuple[Ranking, ...]:
    """Return the measurement of the ranking, which announces its cost beforehand, if it is on."""
    settings = config.diagnostics
    if not settings.ranking:
        return ()
    return (
        Ranking(
            settings.ranking_every,
            settings.ranking_architectures,
            settings.ranking_images,
            true_accuracies(spaces.space_of(config.space)) if settings.ranking_table else {},
        ),
    )


def benchmark(space: Space) -> ModuleType | None:
    """Return the benchmark table that has all networks of this space, or None."""
    usual = spaces.space(space.name).groups
    known = all(
        set(edge.primitives) <= {*usual[name].edges[0].primitives}
        for name, group in space.groups.items()
        for edge in group.edges
    )
    return tabular.benchmark_of(space.name) if known else None


def true_accuracies(space: Space) -> dict[str, Callable[[Genotype], float]]:
    """Return the functions that look up true accuracies, none if no table has the whole space.

    Returns:
        Name of a data set -> function of a genotype that returns its test accuracy in percent.
    """
    table = benchmark(space)
    if table is None:
        return {}
    return {"cifar10": lambda genotype: float(table.query(genotype)["cifar10_test"])}
