"""Random search at the cost of a search by gradient (Li & Talwalkar 2019, arXiv 1902.07638).

It is the control arm of every comparison. Each drawn architecture is a stage of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.space import Space
from archgrad.components.context import Context
from archgrad.components.schedules import epoch_at_share, never
from archgrad.components.select import uniform_genotype
from archgrad.diagnostics.accuracy import accuracy
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Ahead, Decision, Memory, Method, SearchData, Stage, State


@with_origin()
def random(*, draws: PositiveInt = 4) -> Patch:
    """Draw k architectures, train each from scratch, and keep the best on the validation half.

    Each one is trained for 1/k of the epochs, so the number of weight steps is that of a search by
    gradient.

    Args:
        draws: number k of architectures that are drawn. If k does not divide the epochs, some
            architectures train for one epoch more than others.

    Returns:
        The patch of the method.
    """
    return Patch(
        "random",
        stages=tuple(
            Stage(epoch_at_share(k, of=draws), draw(k), set_by="random.draws") for k in range(draws)
        ),
        memory={"draws": Draws},
        finalise=best_draw,
        ahead={"draws": remaining_images(draws)},
        alpha_from=never,
        reads_accuracy=("random",),
    )


def remaining_images(draws: int) -> Ahead:
    """Return the number of images on which the remaining draws are judged."""
    return lambda method, state: float(
        (draws - len(state.memory["draws"].state_dict()["tried"])) * state.plan.images[1]
    )


def draw(k: int) -> Callable[[Method, State], Space]:
    """Return the change to a space that holds one genotype, the ``k``-th uniform draw."""

    def change(method: Method, state: State) -> Space:
        whole = method.space
        drawn = uniform_genotype(whole.groups, state.seed, "random/draw", k, limits=method.limits)
        return whole.resized(primitives=drawn.primitives(whole.groups))

    return change


class Draws(Memory):
    """The draws so far, each with its final validation accuracy."""

    def __init__(self) -> None:
        self.judged_draws: list[dict[str, Any]] = []

    def after_epoch(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> dict[str, Any]:
        if state.epoch + 1 != state.dies:
            return {}
        reached, _ = accuracy(
            state.nets["search"],
            method.readout(state),
            data.evaluation("val"),
            state.seed,
            state.epoch,
            loss=method.patch.loss,
        )
        self.judged_draws.append(
            {"genotype": single_genotype(state.space.groups).to_json(), "accuracy": reached}
        )
        return {"draw_accuracy": reached}

    def state_dict(self) -> dict[str, Any]:
        return {"tried": self.judged_draws}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.judged_draws = list(saved["tried"])


def single_genotype(groups: Groups) -> Genotype:
    """Return the only genotype of groups whose edges have one op at most."""
    return Genotype(
        tuple(
            CellGenotype(
                name,
                tuple(
                    Link(edge.source, edge.target, primitive)
                    for edge in group.edges
                    for primitive in edge.primitives
                ),
                group.concat,
            )
            for name, group in groups.items()
        )
    )


def best_draw(
    method: Method, state: State, data: SearchData, decisions: list[Decision]
) -> Iterator[Decision]:
    """Yield one decision: the draw with the best validation accuracy, the earliest of equals."""
    tried = state.memory["draws"].state_dict()["tried"]
    if tried and not decisions:
        winner = max(tried, key=lambda one: one["accuracy"])
        yield Decision(Genotype.from_json(winner["genotype"]), {"accuracy": winner["accuracy"]})
