"""OLES, "Operation-Level Early Stopping for Robustifying Differentiable NAS" (Jiang et al., NeurIPS 2023, arXiv 2311.04591).

DARTS in which an op whose training gradient no longer points where its validation gradient does stops learning, for itself and for good: it
would only overfit, and lose against the skip whose merit no overfitting spoils. The supernet and the alphas go on.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from archgrad.components.context import Forward
from archgrad.components.gradients import gradients, present
from archgrad.components.hypergradient import Found, Problem
from archgrad.methods.oles_gradients import MEASURES, Matches
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch


@marked()
def oles(
    *,
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.4,
    interval: PositiveInt = 20,
    measure: Literal["released", "paper"] = "released",
    stop: bool = False,
) -> Patch:
    """An op whose training gradient no longer matches its validation gradient stops learning,
    for good.

    Args:
        threshold: match below which an op stops learning.
        interval: number of steps over which a match is averaged.
        measure: match of the two gradients of an op: their cosine (paper), or the cosine of the
            training gradient and the sum of both, column by column (released), which the authors'
            code computes and the threshold is for.
        stop: end the search when every op has stopped learning.

    Returns:
        The patch of the method.
    """
    return Patch(
        "oles",
        hypergradient=first_order,
        transforms=(resting,),
        needs_alphas=True,  # a match is of both halves of a step
        memory={"oles": lambda: Matches(threshold, interval, MEASURES[measure], stop)},
    )


def first_order(problem: Problem) -> Found:
    """`archgrad.components.hypergradient.first_order`, which also shows the gradients of the ops on validation images to the memory."""
    loss, forward = problem.upper(problem.alphas, None)
    memory: Matches = forward.context.memory["oles"]
    found = gradients(
        loss, {**problem.alphas, **{name: problem.weights[name] for name in memory.learning()}}
    )
    memory.see("alpha", found, forward.context)
    return present(found, problem.alphas), forward


def resting(found: dict[str, Tensor | None], forward: Forward) -> dict[str, Tensor | None]:
    """Shows the gradients of the ops on training images to the memory; None for those that rest."""
    memory: Matches = forward.context.memory["oles"]
    memory.see("weight", found, forward.context)
    return {**found, **dict.fromkeys(memory.resting())}
