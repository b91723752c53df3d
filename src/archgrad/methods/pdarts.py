"""P-DARTS (Chen et al. 2019, arXiv 1904.12760).

"Progressive Differentiable Architecture Search: Bridging the Depth Gap between Search and
Evaluation". Skips learn faster than other ops and would win in a deep supernet. So dropout, which
fades, stands behind every skip, and a selected cell has few skips.
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
from archgrad.components.schedules import Scalar, When, epoch_at_share, never
from archgrad.components.select import strongest_genotype
from archgrad.cost.cost import Cost
from archgrad.cost.limits import Limit, Limits, is_feasible, is_within
from archgrad.methods.stages import InitialCells, end_of_rest, epochs_of_rest, survivors, with_depth
from archgrad.option_types import NotNegativeInt, PositiveFloat, PositiveInt, Share
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Method, Reshape, Select, Stage, State

SKIP = "skip_connect"

# [reconstructed] The networks of the benchmarks are as deep as the supernet: there is no depth gap.
PRESETS: dict[str, dict[str, Any]] = {
    "nasbench201": {"keep": (4, 3), "depth": (1.0, 1.0, 1.0)},
    "mbconv": {"depth": (1.0, 1.0, 1.0)},  # the depth of a chain is searched
    # Its edges have three ops, so there are two stages.
    "nasbenchmacro": {"keep": (2,), "depth": (1.0, 1.0), "dropout": (0.0, 0.4)},
}


@with_origin(PRESETS)
def pdarts(
    *,
    keep: tuple[PositiveInt, ...] = (5, 3),
    depth: tuple[PositiveFloat, ...] = (0.625, 1.375, 2.125),
    dropout: tuple[Share, ...] = (0.0, 0.4, 0.7),
    rest: Share = 0.4,
    skips: NotNegativeInt | None = 2,
) -> Patch:
    """Search in stages of equal length, each with a new, deeper supernet and fewer ops.

    A stage keeps, on each edge, the ops that had the largest alphas at the end of the stage before.
    Once the alphas move, the dropout behind skips fades as p * exp(-5 t), with t the time since
    then as a fraction of the stage.

    Args:
        keep: numbers of ops that each edge keeps in the second, the third, ... stage.
        depth: depths of the stages, each in multiples of the space's cells.
        dropout: rates p of the dropout behind skips, each at the start of its stage.
        rest: fraction of each stage, at its start, in which the alphas do not move.
        skips: largest number of skips in a selected cell that does not reduce. None, in Python,
            allows any number and selects as DARTS does.

    Returns:
        The patch of the method.

    Raises:
        ValueError: `depth` or `dropout` does not have one value for each stage, that is one more
            than `keep`.
    """
    if not len(depth) == len(dropout) == len(keep) + 1:
        raise ValueError(
            f"pdarts.depth and pdarts.dropout need a value for each of the {len(keep) + 1} stages "
            "that pdarts.keep makes"
        )
    count = len(depth)
    begins = [epoch_at_share(k, of=count) for k in range(count)]
    ends = [*begins[1:], never]
    changes = [to_first_stage(depth), *(to_next_stage(*stage) for stage in zip(keep, depth[1:]))]
    rate = fading_dropout(begins, dropout, rest)
    return Patch(
        "pdarts",
        select=select_with_few_skips(skips) if skips is not None else None,
        reshape=(dropout_behind_skips(rate),),
        memory={"pdarts": InitialCells},
        scalars={"skip_dropout": rate},
        stages=tuple(
            Stage(begin, change, alpha_from=end_of_rest(begin, end, rest), set_by="pdarts.keep")
            for begin, change, end in zip(begins, changes, ends)
        ),
        weights={"lr_end": 0.0},  # [author code]
        alphas={"lr": 6e-4},  # [author code]
    )


def to_first_stage(depth: tuple[float, ...]) -> Callable[[Method, State], Space]:
    """Return the function that computes the space of the first stage.

    The function raises ValueError where the space of a later stage is impossible. So the error
    comes before the search, not in the middle of it.
    """

    def change(method: Method, state: State) -> Space:
        memory: Any = state.memory["pdarts"]
        first, *_ = [with_depth(state.space, memory.base, times) for times in depth]
        return first

    return change


def to_next_stage(keep: int, times: float) -> Callable[[Method, State], Space]:
    """Return the change to the space of a later stage.

    That space has ``times`` as many cells as the first, and on each edge the ``keep`` strongest
    ops, of which `none` may be one.
    """

    def change(method: Method, state: State) -> Space:
        kept = survivors(method, state, keep)
        memory: Any = state.memory["pdarts"]
        return with_depth(state.space, memory.base, times).resized(primitives=kept)

    return change


def fading_dropout(begins: list[When], dropout: tuple[float, ...], rest: float) -> Scalar:
    """Return the rate of the dropout behind skips in each epoch.

    In a stage of 25 epochs, with n epochs at the start in which the alphas do not move, the rate is
    ``p * (1 - (epoch + 1) / 25)`` in these n epochs, then ``p * exp(-0.2 (epoch - n))`` [author
    code]. A stage of another length has the same rates at the same fractions of its length.
    """

    def rate_of(context: Context) -> float:
        progress = context.progress
        stage = sum(begin(progress.epochs) <= progress.born for begin in begins) - 1
        age, still = progress.epoch - progress.born, epochs_of_rest(rest, progress.life)
        return dropout[stage] * (
            1 - (age + 1) / progress.life
            if age < still
            else math.exp(-0.2 * 25 * (age - still) / progress.life)
        )

    return rate_of


def dropout_behind_skips(rate: Scalar) -> Reshape:
    """Return a reshape that puts dropout behind every skip, except in the readout."""

    def reshape(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
        p = rate(context) if context.phase != "readout" else 0.0
        return replace(mixture, dropout={**mixture.dropout, SKIP: p}) if p else mixture

    return reshape


def select_with_few_skips(skips: int) -> Select:
    """Return a selection of at most ``skips`` skips in each cell that does not reduce.

    It selects as DARTS does. While a cell has too many skips, the weakest of them gets the weight 0
    and the selection is made again. Where the result exceeds a limit, the number of skips becomes a
    limit too, and the best selection within all limits is taken.
    """

    def select(mixture: Mixture, groups: Groups, limits: Limits = ()) -> Genotype:
        rows = {name: mixture.cell(name, None).weights.detach().cpu().clone() for name in groups}
        counted = {
            name: skips if name != "reduce" else len(group.edges) for name, group in groups.items()
        }
        found = Genotype(
            tuple(_select_cell(group, rows[name], counted[name]) for name, group in groups.items())
        )
        if is_within(found, limits):
            return found
        both = (
            *limits,
            *(Limit(_number_of_skips(name, groups), count) for name, count in counted.items()),
        )
        return strongest_genotype(mixture, groups, both if is_feasible(groups, both) else limits)

    return select


def _number_of_skips(cell: str, groups: Groups) -> Cost:
    """Return the number of skips in a cell, as a cost."""
    counts = {
        name: {
            (*edge[:2], primitive): float(name == cell and primitive == SKIP)
            for edge in group.edges
            for primitive in edge.primitives
        }
        for name, group in groups.items()
    }
    return Cost("skips", "", 0.0, counts)


def _select_cell(group: EdgeGroup, weights: Tensor, skips: int) -> CellGenotype:
    """Return the strongest cell with at most ``skips`` skips; set weights of other skips to 0."""
    place_of = {
        (edge.source, edge.target): (number, edge.primitives.index(SKIP))
        for number, edge in enumerate(group.edges)
        if SKIP in edge.primitives
    }
    while True:
        (cell,) = strongest_genotype(Mixture({group.name: weights}), {group.name: group}).cells
        taken = [
            place_of[link.source, link.target] for link in cell.links if link.primitive == SKIP
        ]
        left = [place for place in taken if weights[place] > 0]  # 0: the edge has only a skip
        if len(taken) <= skips or not left:
            return cell
        weights[min(left, key=lambda place: weights[place].item())] = 0.0
