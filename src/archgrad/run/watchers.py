"""What watches a run, by its settings: its measurements, and an estimate of its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

from archgrad import spaces, tabular
from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Space
from archgrad.data import Data
from archgrad.diagnostics.sharpness import MOVED
from archgrad.observers.probes import Curvature, Entropies, Gap, Probe, Ranking, Sharpness
from archgrad.observers.timing import Timing, shorter
from archgrad.run.config import SearchConfig
from archgrad.searching.duration import Left
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
    """What times the parts of a search and says what the rest will take. ``past``: the rows of earlier processes."""
    s = config.diagnostics
    points = 1 if method.patch.finalise else 1 + s.front_points
    front = points * min(s.gap_images, images.count("val")) if s.front else 0
    return Timing(
        method, state, probes, float(front), past=sum(row.get("seconds") or 0.0 for row in past)
    )


def shorter_searches(config: SearchConfig, images: Data, begun: bool, left: Left) -> list[str]:
    """What would make such a search shorter; nothing for one that began before."""
    epochs, train, width = (
        config.search.epochs or 1,
        images.count("train"),
        config.space.get("channels", 1),
    )
    halves = {
        "--search.epochs": (epochs // 2, True, epochs > 1),
        "--search.limit": (train // 2, True, train > 2 * images.batch),
        "--space.channels": (width // 2, False, width > 1),
    }
    return (
        []
        if begun
        else shorter(
            left,
            {flag: (half, exact) for flag, (half, exact, possible) in halves.items() if possible},
        )
    )


def diagnostics(config: SearchConfig) -> tuple[Probe, ...]:
    """The measurements that are on, `curvature` apart."""
    s = config.diagnostics
    over = tuple(MOVED) if s.sharpness_over == "all" else (s.sharpness_over,)
    assert config.search.batch is not None  # resolved
    sharpness = Sharpness(
        s.sharpness_every,
        over,
        s.sharpness_rho,
        s.sharpness_steps,
        s.sharpness_batches,
        config.search.batch,
    )
    gap, entropies = Gap(s.gap_every, s.gap_images), Entropies(s.entropy_every)
    return (
        *(
            probe
            for on, probe in ((s.gap, gap), (s.sharpness, sharpness), (s.entropy, entropies))
            if on
        ),
        *ranking(config),
    )


def curvature(config: SearchConfig) -> tuple[Curvature, ...]:
    """The one probe that a rule for stopping reads."""
    s = config.diagnostics
    assert config.search.batch is not None  # resolved
    wanted = s.curvature or config.stop.eigenvalue is not None
    return (
        (Curvature(s.curvature_every, s.curvature_batches, config.search.batch),) if wanted else ()
    )


def ranking(config: SearchConfig) -> tuple[Ranking, ...]:
    """The one probe that says beforehand what it costs."""
    s = config.diagnostics
    if not s.ranking:
        return ()
    known = true_accuracies(spaces.space_of(config.space)) if s.ranking_table else {}
    return (Ranking(s.ranking_every, s.ranking_architectures, s.ranking_images, known),)


def benchmark(space: Space) -> ModuleType | None:
    """The table that knows all networks of this space; None where none does."""
    usual = spaces.space(space.name).groups
    known = all(
        set(edge.primitives) <= {*usual[name].edges[0].primitives}
        for name, group in space.groups.items()
        for edge in group.edges
    )
    return tabular.lookup(space.name) if known else None


def true_accuracies(space: Space) -> dict[str, Callable[[Genotype], float]]:
    """CIFAR-10 test accuracy (percent) of a genotype, where a table knows all of the space; empty where none does."""
    table = benchmark(space)
    return (
        {"cifar10": lambda genotype: float(table.query(genotype)["cifar10_test"])} if table else {}
    )
