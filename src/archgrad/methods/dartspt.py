"""DARTS-PT (Wang et al. 2021, arXiv 2108.04392).

"Rethinking Architecture Selection in Differentiable NAS". The largest alpha does not name the best
op of an edge. So DARTS-PT measures what the removal of an op costs the supernet.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, Literal

from archgrad.arch.mixture import Mixture
from archgrad.components.schedules import Span, never
from archgrad.components.select import strongest_genotype
from archgrad.cost.limits import is_feasible
from archgrad.diagnostics.accuracy import accuracy
from archgrad.methods.dartspt_projection import (
    Choice,
    Projection,
    choices,
    inputs,
    projected,
    selectable_columns,
    with_fixed,
    without_op,
)
from archgrad.option_types import PositiveFloat, PositiveInt, PositiveShare
from archgrad.searching.duration import STEP
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Ahead, Decision, Finalise, Method, SearchData, State

# [author code] Five epochs lie between two decisions, after a search of 100 epochs in NAS-Bench-201
# and of 50 elsewhere. In NAS-Bench-201 the script has 25 epochs and decides before epoch 0, 5, 10,
# 15, 20 and 24, so the last pause has four.
PRESETS: dict[str, dict[str, Any]] = {"nasbench201": {"tune": 0.05, "last": 0.8}}


@with_origin(PRESETS)
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
    """Select each op by the accuracy that its removal costs the supernet, after any search.

    Edge by edge, the op is argmin_k of the validation accuracy without op k. It is fixed, and the
    supernet is trained further with it. Then each node keeps, in the same way, the inputs whose
    removal costs most.

    Args:
        fixed: alphas that never move, as in the paper's DARTS-PT-fix.
        tune: training time of the supernet between two decisions: epochs (5), or a fraction of the
            search (0.1).
        last: training time before the last decision, as a fraction of tune.
        rate: learning rate of the training between decisions, in multiples of the first rate of the
            search.
        criterion: measure of a removal, on validation images: accuracy, or loss.
        order: order of the edges and of the nodes: drawn (random), or by their number (index).
        images: number of validation images of a measurement; the default is the whole validation
            half.

    Returns:
        The patch of the method.
    """
    return Patch(
        "dartspt",
        reshape=(projected,),
        memory={"projection": Projection},
        finalise=perturbation(tune, last, rate, criterion, order, images),
        ahead={"finalisation": remaining_work(tune, last, order, images)},
        alpha_from=never if fixed else None,
        reads_accuracy=("dartspt",) if criterion == "accuracy" else (),
    )


def perturbation(
    tune: float, last: float, rate: float, criterion: str, order: str, images: int | None
) -> Finalise:
    """Return a finalisation that decides every choice in turn.

    Only ops and inputs that leave an architecture within the limits are candidates. Between two
    rounds of choices the supernet learns on, without its old momentum and at a constant learning
    rate [author code]. Each of these epochs but the last yields a decision that chooses nothing, so
    that the weights learnt so far are saved.
    """

    def finalise(
        method: Method, state: State, data: SearchData, decisions: list[Decision]
    ) -> Iterator[Decision]:
        learner = method.with_patch_fields(
            weights={**method.patch.weights, "lr": rate * method.weights.lr, "per": "never"}
        )
        epoch_steps, steps = tuning(method, state, tune)
        groups = state.space.groups
        projection: Any = state.memory["projection"]

        def remains(mixture: Mixture, group: str, edge: int, column: int | None = None) -> float:
            """Return the accuracy of the supernet without this op or edge, or minus its loss."""
            right, loss = accuracy(
                state.nets["search"],
                without_op(mixture, groups, group, edge, column),
                data.evaluation("val", limit=images),
                state.seed,
                "dartspt",
                batch_statistics=True,
                loss=method.patch.loss,
                classes=criterion == "accuracy",
            )
            return right if criterion == "accuracy" else -loss

        def decide(choice: Choice) -> dict[str, Any]:
            """Fix the op of an edge or the inputs of a node, and return a note of the decision."""
            name, group, mixture = (
                choice.group,
                groups[choice.group],
                method.readout(state).without_dropout(),
            )

            def allowed(fixed: dict[int, int]) -> bool:
                return is_feasible(
                    with_fixed(
                        groups,
                        {**projection.fixed, name: {**projection.fixed.get(name, {}), **fixed}},
                    ),
                    method.limits,
                )

            if choice.kind == "op":
                source, target, primitives = group.edges[choice.place]
                open_columns = [
                    column
                    for column in selectable_columns(group, choice.place)
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
            # In the order of `combinations` the inputs whose removal costs most come first.
            subsets = combinations(ranked, group.keep or len(ranked))
            best_inputs = next(
                some
                for some in subsets
                if allowed({edge: -1 for edge in ranked if edge not in some})
            )
            for edge in ranked:
                if edge not in best_inputs:
                    projection.fix(name, edge, -1)
            kept = ", ".join(str(group.edges[edge].source) for edge in sorted(best_inputs))
            return {"group": name, "node": choice.place, "inputs": kept, "without": left[ranked[0]]}

        if not decisions:
            state.optimizers["weights"].state.clear()
        agenda = choices(groups, order, state.seed)
        begin, tuned = next_choice(decisions)
        wanted = pauses(agenda, steps, last)
        for turn in range(begin, len(agenda)):
            while tuned < wanted.get(turn, 0):
                taken = min(epoch_steps, wanted[turn] - tuned)
                learn_on(learner, state, data, taken)
                tuned += taken
                if tuned < wanted[turn]:
                    yield Decision(
                        strongest_genotype(method.readout(state), groups, method.limits),
                        {"tuned": tuned},
                    )
            tuned, note = 0, decide(agenda[turn])
            yield Decision(strongest_genotype(method.readout(state), groups, method.limits), note)

    return finalise


def tuning(method: Method, state: State, tune: float) -> tuple[int, int]:
    """Return the steps of an epoch, and the steps between two rounds of decisions."""
    epoch_steps = method.stepper.steps(method, state.plan, state.plan.epochs - 1)
    if isinstance(tune, int):
        return epoch_steps, tune * epoch_steps
    return epoch_steps, max(1, round(tune * state.plan.epochs * epoch_steps))


def pauses(agenda: list[Choice], steps: int, last: float) -> dict[int, int]:
    """Return the steps that the supernet learns before a choice, by its place in the agenda.

    The first choice of a round has ``steps``, that of the last round the fraction ``last`` of them.
    """
    begins = [place for place, choice in enumerate(agenda) if choice.begins_round][1:]
    return {
        place: steps if place < begins[-1] else min(steps, max(1, round(last * steps)))
        for place in begins
    }


def next_choice(decisions: list[Decision]) -> tuple[int, int]:
    """Return the place of the next choice in the agenda, and the steps since the last choice."""
    tuned = decisions[-1].note.get("tuned", 0) if decisions else 0
    return sum("tuned" not in decision.note for decision in decisions), tuned


def remaining_work(tune: float, last: float, order: str, images: int | None) -> Ahead:
    """Return the work that `perturbation` has still to do, in passes of an image.

    Every candidate of a choice takes the validation images once. The steps between rounds come on
    top.
    """

    def ahead(method: Method, state: State) -> float:
        groups, (turn, tuned) = state.space.groups, next_choice(state.decisions)
        agenda = choices(groups, order, state.seed)
        left = agenda[turn:]
        tried = sum(
            len((selectable_columns if one.kind == "op" else inputs)(groups[one.group], one.place))
            for one in left
        )
        lengths = pauses(agenda, tuning(method, state, tune)[1], last)
        train, val = state.plan.images
        steps = max(sum(length for place, length in lengths.items() if place >= turn) - tuned, 0)
        return tried * min(images or val, val) + steps * STEP * train / state.plan.steps

    return ahead


def learn_on(method: Method, state: State, data: SearchData, steps: int) -> None:
    """Take ``steps`` more steps of the method, in further epochs."""
    while steps:
        if state.step == 0:
            method.stepper.begin_epoch(method, state)
        taken = min(steps, method.steps(state) - state.step)
        for train, val in zip(
            *(data.batches(split, state.epoch, state.step, taken) for split in ("train", "val")),
            strict=True,
        ):
            method.step(state, train, val)
        steps -= taken
        if state.step == method.steps(state):
            state.epoch, state.step = state.epoch + 1, 0
