"""Random search at the cost of a search by gradient: the control arm (Li & Talwalkar 2019, arXiv 1902.07638).

Draws k architectures, trains each from scratch for 1/k of the steps, keeps the one with the best validation accuracy. Each draw is a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.space import Space
from archgrad.components.context import Context, Forward
from archgrad.components.schedules import never, share
from archgrad.components.select import uniform
from archgrad.diagnostics.accuracy import accuracy
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch
from archgrad.searching.types import Ahead, Data, Decision, Method, Stage, State


@marked()
def random(*, draws: PositiveInt = 4) -> Patch:
    """Random search at the cost of a search by gradient: each of the drawn architectures is
    trained from scratch, and the best on the validation half is kept.

    Args:
        draws: number of architectures that are tried. Where it does not divide the epochs, their
            lives differ by at most one epoch.

    Returns:
        The patch of the method.
    """
    return Patch(
        "random",
        stages=tuple(
            Stage(share(k, of=draws), draw(k), set_by="random.draws") for k in range(draws)
        ),
        memory={"draws": Draws},
        finalise=best,
        ahead={"draws": judging(draws)},
        alpha_from=never,
    )


def judging(draws: int) -> Ahead:
    """A pass over the validation half at the end of each draw."""
    return lambda method, state: float(
        (draws - len(state.memory["draws"].state_dict()["tried"])) * state.plan.images[1]
    )


def draw(k: int) -> Callable[[Method, State], Space]:
    """The space of one uniformly drawn genotype."""

    def change(method: Method, state: State) -> Space:
        whole = method.space
        drawn = uniform(whole.groups, state.seed, "random/draw", k, limits=method.limits)
        return whole.resized(primitives=drawn.primitives(whole.groups))

    return change


class Draws:
    """Every draw with the validation accuracy it ended with."""

    def __init__(self) -> None:
        self.tried: list[dict[str, Any]] = []

    def bind(self, state: State) -> None:
        pass

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        pass

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        if state.epoch + 1 != state.dies:
            return {}
        reached, _ = accuracy(
            state.nets["search"],
            method.readout(state),
            data.evaluation("val"),
            state.seed,
            state.epoch,
        )
        self.tried.append({"genotype": only(state.space.groups).to_json(), "accuracy": reached})
        return {"draw_accuracy": reached}

    def state_dict(self) -> dict[str, Any]:
        return {"tried": self.tried}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.tried = list(saved["tried"])


def only(groups: Groups) -> Genotype:
    """The one genotype of a space whose edges have one op at most."""
    return Genotype(
        tuple(
            CellGenotype(
                name,
                tuple(Link(e.source, e.target, p) for e in group.edges for p in e.primitives),
                group.concat,
            )
            for name, group in groups.items()
        )
    )


def best(method: Method, state: State, data: Data, decisions: list[Decision]) -> Iterator[Decision]:
    """The draw with the best validation accuracy, the earliest of equals."""
    tried = state.memory["draws"].state_dict()["tried"]
    if tried and not decisions:
        winner = max(tried, key=lambda one: one["accuracy"])
        yield Decision(Genotype.from_json(winner["genotype"]), {"accuracy": winner["accuracy"]})
