"""DARTS-PT, "Rethinking Architecture Selection in Differentiable NAS" (Wang et al. 2021, arXiv 2108.04392).

Changes how an architecture is read off, after any search: not the op with the largest alpha is the best, but the one whose removal from the
supernet hurts most. Edge by edge it is fixed, and the supernet learns on with it; then each node keeps the inputs whose removal hurts most.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, Literal

from archgrad.arch.mixture import Mixture
from archgrad.components.schedules import Span, never
from archgrad.components.select import strongest
from archgrad.cost.limits import fit
from archgrad.diagnostics.accuracy import accuracy
from archgrad.methods.dartspt_projection import (
    Choice,
    Projection,
    choices,
    columns,
    inputs,
    pinned,
    projected,
    without,
)
from archgrad.option_types import PositiveFloat, PositiveInt, PositiveShare
from archgrad.searching.duration import STEP
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch
from archgrad.searching.types import Ahead, Data, Decision, Finalise, Method, State

PRESETS: dict[str, dict[str, Any]] = {
    # [author code]: 5 epochs after a search of 100, elsewhere after one of 50. Of 25 epochs the script decides before 0, 5, 10, 15, 20 and 24.
    "nasbench201": {"tune": 0.05, "last": 0.8},
}


@marked(PRESETS)
def dartspt(
    *,
    fixed: bool = False,
    tune: Span = 0.1,
    last: PositiveShare = 1.0,
    rate: PositiveFloat = 0.1,
    criterion: Literal["accuracy", "loss"] = "accuracy",
    order: Literal["random", "index"] = "random",
    images: PositiveInt | None = None,
) -> Patch:
    """A selection by what the removal of each op costs the supernet, after a search by any
    method. The supernet learns on between the decisions.

    Args:
        fixed: never move the alphas, as the paper's DARTS-PT-fix.
        tune: time for which the supernet learns on between decisions: epochs (5), or a share of the
            search (0.1).
        last: share of that time for which the supernet learns on before the last decision.
        rate: learning rate of that time, in multiples of the search's.
        criterion: measure of what a removal costs, on validation images: accuracy, or loss.
        order: order in which edges and nodes are decided: drawn (random), or by their number
            (index).
        images: number of validation images for the measure; the default is the whole validation
            half.

    Returns:
        The patch of the method.
    """
    return Patch(
        "dartspt",
        reshape=(projected,),
        memory={"projection": Projection},
        finalise=perturbation(tune, last, rate, criterion, order, images),
        ahead={"finalisation": judging(tune, last, order, images)},
        alpha_from=never if fixed else None,
    )


def perturbation(
    tune: float, last: float, rate: float, criterion: str, order: str, images: int | None
) -> Finalise:
    """A decision for every choice, among what leaves something within the limits; between rounds the supernet learns on, without its old
    momentum and at one learning rate [author code]. After every epoch of that but the last a decision that chooses nothing: what was learnt
    so far is kept."""

    def finalise(
        method: Method, state: State, data: Data, decisions: list[Decision]
    ) -> Iterator[Decision]:
        learner = method.changed(
            weights={**method.patch.weights, "lr": rate * method.weights.lr, "per": "never"}
        )
        each, steps = tuning(method, state, tune)
        groups = state.space.groups
        projection: Any = state.memory["projection"]

        def remains(mixture: Mixture, group: str, edge: int, column: int | None = None) -> float:
            """What the supernet still reaches when this is removed: its accuracy, or minus its loss."""
            less, batches = (
                without(mixture, groups, group, edge, column),
                data.evaluation("val", limit=images),
            )
            place, own = (state.seed, "dartspt"), method.patch.loss
            right, loss = accuracy(
                state.nets["search"], less, batches, *place, batch_statistics=True, loss=own
            )
            return right if criterion == "accuracy" else -loss

        def decide(choice: Choice) -> dict[str, Any]:
            name, group, mixture = choice.group, groups[choice.group], method.readout(state).whole()

            def allowed(fixed: dict[int, int]) -> bool:
                return fit(
                    pinned(
                        groups,
                        {**projection.fixed, name: {**projection.fixed.get(name, {}), **fixed}},
                    ),
                    method.limits,
                )

            if choice.what == "op":
                source, target, primitives = group.edges[choice.place]
                open_columns = [
                    column
                    for column in columns(group, choice.place)
                    if allowed({choice.place: column})
                ]
                left = {
                    column: remains(mixture, name, choice.place, column) for column in open_columns
                }
                best = min(left, key=left.__getitem__)
                projection.fix(name, choice.place, best)
                return {
                    "group": name,
                    "edge": f"{source} -> {target}",
                    "op": primitives[best],
                    "without": left[best],
                }
            left = {edge: remains(mixture, name, edge) for edge in inputs(group, choice.place)}
            ranked = sorted(left, key=left.__getitem__)
            pairs = combinations(
                ranked, group.keep or len(ranked)
            )  # the first of them are what hurts most
            best_inputs = next(
                some for some in pairs if allowed({edge: -1 for edge in ranked if edge not in some})
            )
            for edge in ranked:
                if edge not in best_inputs:
                    projection.fix(name, edge, -1)
            kept = ", ".join(str(group.edges[edge].source) for edge in sorted(best_inputs))
            return {"group": name, "node": choice.place, "inputs": kept, "without": left[ranked[0]]}

        if not decisions:
            state.optimizers["weights"].state.clear()
        agenda = choices(groups, order, state.seed)
        begin, tuned = at(decisions)
        wanted = pauses(agenda, steps, last)
        for turn in range(begin, len(agenda)):
            while tuned < wanted.get(turn, 0):
                some = min(each, wanted[turn] - tuned)
                learn_on(learner, state, data, some)
                tuned += some
                if tuned < wanted[turn]:
                    yield Decision(
                        strongest(method.readout(state), groups, method.limits), {"tuned": tuned}
                    )
            tuned, note = 0, decide(agenda[turn])
            yield Decision(strongest(method.readout(state), groups, method.limits), note)

    return finalise


def tuning(method: Method, state: State, tune: float) -> tuple[int, int]:
    """Steps of an epoch, and those between two rounds of decisions."""
    each = method.stepper.steps(method, state.plan, state.plan.epochs - 1)
    return each, tune * each if isinstance(tune, int) else max(
        1, round(tune * state.plan.epochs * each)
    )


def pauses(agenda: list[Choice], steps: int, last: float) -> dict[int, int]:
    """Place of a choice in the agenda -> how many steps the supernet learns before it: between two rounds so many ``steps``, before the last
    round the share ``last`` of them."""
    begins = [place for place, choice in enumerate(agenda) if choice.first][1:]
    return {
        place: steps if place < begins[-1] else min(steps, max(1, round(last * steps)))
        for place in begins
    }


def at(decisions: list[Decision]) -> tuple[int, int]:
    """The choice that comes next, and the steps since the last one."""
    tuned = decisions[-1].note.get("tuned", 0) if decisions else 0
    return sum("tuned" not in decision.note for decision in decisions), tuned


def judging(tune: float, last: float, order: str, images: int | None) -> Ahead:
    """What `perturbation` has still to do: of each choice a pass for all that may be removed, and the steps between rounds."""

    def ahead(method: Method, state: State) -> float:
        groups, (turn, tuned) = state.space.groups, at(state.decisions)
        agenda = choices(groups, order, state.seed)
        left = agenda[turn:]
        tried = sum(
            len((columns if one.what == "op" else inputs)(groups[one.group], one.place))
            for one in left
        )
        lengths = pauses(agenda, tuning(method, state, tune)[1], last)
        train, val = state.plan.images
        steps = max(sum(length for place, length in lengths.items() if place >= turn) - tuned, 0)
        return tried * min(images or val, val) + steps * STEP * train / state.plan.steps

    return ahead


def learn_on(method: Method, state: State, data: Data, steps: int) -> None:
    """So many steps more, in further epochs."""
    while steps:
        if state.step == 0:
            method.stepper.begin_epoch(method, state)
        some = min(steps, method.steps(state) - state.step)
        for train, val in zip(
            *(data.batches(split, state.epoch, state.step, some) for split in ("train", "val")),
            strict=True,
        ):
            method.step(state, train, val)
        steps -= some
        if state.step == method.steps(state):
            state.epoch, state.step = state.epoch + 1, 0
