"""P-DARTS, "Progressive Differentiable Architecture Search: Bridging the Depth Gap between Search and Evaluation" (Chen et al. 2019,
arXiv 1904.12760).

DARTS in stages: each is a new, deeper supernet over the ops that were strongest in the one before. Dropout behind skips, which fades, keeps
these from starving the other ops, and a cell ends with few of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from archgrad.arch.edges import Alphas, EdgeGroup, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.space import Space
from archgrad.components.context import Context
from archgrad.components.schedules import Scalar, When, never, share
from archgrad.components.select import strongest
from archgrad.cost.cost import Cost
from archgrad.cost.limits import Limit, Limits, fit, keeps
from archgrad.methods.stages import Cells, deepened, rested, resting, survivors
from archgrad.option_types import NotNegativeInt, PositiveFloat, PositiveInt, Share
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch
from archgrad.searching.types import Method, Reshape, Select, Stage, State

SKIP = "skip_connect"

PRESETS: dict[
    str, dict[str, Any]
] = {  # [reconstructed] the benchmark's networks are as deep as the search's: there is no gap to close
    "nasbench201": {"keep": (4, 3), "depth": (1.0, 1.0, 1.0)},
    "mbconv": {"depth": (1.0, 1.0, 1.0)},  # a chain's depth is searched
    "nasbenchmacro": {"keep": (2,), "depth": (1.0, 1.0), "dropout": (0.0, 0.4)},  # of three ops
}


@marked(PRESETS)
def pdarts(
    *,
    keep: tuple[PositiveInt, ...] = (5, 3),
    depth: tuple[PositiveFloat, ...] = (0.625, 1.375, 2.125),
    dropout: tuple[Share, ...] = (0.0, 0.4, 0.7),
    rest: Share = 0.4,
    skips: NotNegativeInt | None = 2,
) -> Patch:
    """Stages of equal length: each is a new, deeper supernet over the ops that were strongest
    in the one before.

    Args:
        keep: numbers of ops that each edge keeps in the second, the third, ... stage.
        depth: depths of the stages, each in multiples of the space's cells.
        dropout: rates of the dropout behind skips, each at the start of its stage.
        rest: share of each stage, at its start, in which the alphas rest.
        skips: largest number of skips in a selected cell that does not reduce. None, in Python, is
            any number, and the selection is then DARTS's own.

    Returns:
        The patch of the method.

    Raises:
        ValueError: `depth` and `dropout` have not one value for each stage that `keep` makes.
    """
    if not len(depth) == len(dropout) == len(keep) + 1:
        raise ValueError(
            f"pdarts.depth and pdarts.dropout need a value for each of the {len(keep) + 1} stages that pdarts.keep makes"
        )
    count = len(depth)
    begins = [share(k, of=count) for k in range(count)]
    ends = [*begins[1:], never]
    changes = [begun(depth), *(grown(*stage) for stage in zip(keep, depth[1:]))]
    rate = fading(begins, dropout, rest)
    return Patch(
        "pdarts",
        select=at_most(skips) if skips is not None else None,
        reshape=(dropout_behind_skips(rate),),
        memory={"pdarts": Cells},
        scalars={"skip_dropout": rate},
        stages=tuple(
            Stage(begin, change, alpha_from=rested(begin, end, rest), set_by="pdarts.keep")
            for begin, change, end in zip(begins, changes, ends)
        ),
        weights={"lr_end": 0.0},  # [author code], as the next
        alphas={"lr": 6e-4},
    )


def begun(depth: tuple[float, ...]) -> Callable[[Method, State], Space]:
    """The first stage's space; ValueError if that of a later one could not be: not in the middle of a search."""

    def change(method: Method, state: State) -> Space:
        memory: Any = state.memory["pdarts"]
        first, *_ = [deepened(state.space, memory.base, times) for times in depth]
        return first

    return change


def grown(keep: int, times: float) -> Callable[[Method, State], Space]:
    """The space of ``times`` as many cells as at first, and the ``keep`` strongest ops of each edge; `none` may be among them."""

    def change(method: Method, state: State) -> Space:
        kept = survivors(method, state, keep)
        memory: Any = state.memory["pdarts"]
        return deepened(state.space, memory.base, times).resized(primitives=kept)

    return change


def fading(begins: list[When], dropout: tuple[float, ...], rest: float) -> Scalar:
    """Of a stage of 25 epochs, n of which the alphas rest: ``p * (1 - (epoch + 1) / 25)`` while they do, then ``p * exp(-0.2 (epoch - n))``
    [author code]; in stages of another length the same over their shares."""

    def at(context: Context) -> float:
        t = context.t
        stage = sum(begin(t.epochs) <= t.born for begin in begins) - 1
        age, still = t.epoch - t.born, resting(rest, t.life)
        return dropout[stage] * (
            1 - (age + 1) / t.life if age < still else math.exp(-0.2 * 25 * (age - still) / t.life)
        )

    return at


def dropout_behind_skips(rate: Scalar) -> Reshape:
    def reshape(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
        p = rate(context) if context.phase != "readout" else 0.0
        return replace(mixture, dropout={**mixture.dropout, SKIP: p}) if p else mixture

    return reshape


def at_most(skips: int) -> Select:
    """DARTS's selection; while it takes more skips, the weakest of them counts 0 and it is made again. Reduction cells are left alone.

    Where that exceeds a limit, the skips are limits too: the best selection within all of them.
    """

    def select(mixture: Mixture, groups: Groups, limits: Limits = ()) -> Genotype:
        rows = {name: mixture.cell(name, None).weights.detach().cpu().clone() for name in groups}
        counted = {
            name: skips if name != "reduce" else len(group.edges) for name, group in groups.items()
        }
        found = Genotype(
            tuple(_limited(group, rows[name], counted[name]) for name, group in groups.items())
        )
        if keeps(found, limits):
            return found
        both = (*limits, *(Limit(_skips(name, groups), count) for name, count in counted.items()))
        return strongest(mixture, groups, both if fit(groups, both) else limits)

    return select


def _skips(cell: str, groups: Groups) -> Cost:
    """How many skips a cell has."""
    counts = {
        n: {
            (*edge[:2], p): float(n == cell and p == SKIP)
            for edge in g.edges
            for p in edge.primitives
        }
        for n, g in groups.items()
    }
    return Cost("skips", "", 0.0, counts)


def _limited(group: EdgeGroup, weights: Tensor, skips: int) -> CellGenotype:
    at = {
        (edge.source, edge.target): (e, edge.primitives.index(SKIP))
        for e, edge in enumerate(group.edges)
        if SKIP in edge.primitives
    }
    while True:
        (cell,) = strongest(Mixture({group.name: weights}), {group.name: group}).cells
        taken = [at[link.source, link.target] for link in cell.links if link.primitive == SKIP]
        left = [place for place in taken if weights[place] > 0]  # an edge may have nothing else
        if len(taken) <= skips or not left:
            return cell
        weights[min(left, key=lambda place: weights[place].item())] = 0.0
