"""OLES (Jiang et al., NeurIPS 2023, arXiv 2311.04591).

"Operation-Level Early Stopping for Robustifying Differentiable NAS". An op that overfits the
training images loses against a skip, which has no weights and cannot overfit. So such an op stops
learning, while the other ops and the alphas go on.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from archgrad.components.context import Forward
from archgrad.components.gradients import gradients, with_zeros
from archgrad.components.hypergradient import AlphaGradients, Problem
from archgrad.methods.oles_gradients import MEASURES, GradientMatches
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch


@with_origin()
def oles(
    *,
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.4,
    interval: PositiveInt = 20,
    measure: Literal["released", "paper"] = "released",
    stop: bool = False,
) -> Patch:
    """Stop for good the learning of an op whose training and validation gradients no longer match.

    The match of an op is cos(g_train, g_val), the cosine of the two gradients by its weights.

    Args:
        threshold: match below which an op stops learning.
        interval: number of steps over which a match is averaged.
        measure: match of the two gradients: their cosine (paper), or the cosine of the training
            gradient and the sum of both, column by column (released). The authors' code computes
            the second one, and the threshold was chosen for it.
        stop: end of the search once every op has stopped learning.

    Returns:
        The patch of the method.
    """
    return Patch(
        "oles",
        hypergradient=first_order,
        transforms=(without_stopped_ops,),
        needs_alphas=True,  # a match compares the gradients of both halves of a step
        memory={"oles": lambda: GradientMatches(threshold, interval, MEASURES[measure], stop)},
    )


# Checkpoints record the name of this function, so it stays.
def first_order(problem: Problem) -> AlphaGradients:
    """Return the first-order hypergradient, and show the gradients of the ops to the memory.

    It is `archgrad.components.hypergradient.first_order`, with the gradients by the weights of the
    ops on validation images too.
    """
    loss, forward = problem.upper(problem.alphas, None)
    memory: GradientMatches = forward.context.memory["oles"]
    found = gradients(
        loss,
        {
            **problem.alphas,
            **{name: problem.weights[name] for name in memory.learning_parameters()},
        },
    )
    memory.take_gradients("alpha", found, forward.context)
    return with_zeros(found, problem.alphas), forward


def without_stopped_ops(
    found: dict[str, Tensor | None], forward: Forward
) -> dict[str, Tensor | None]:
    """Return the weight gradients, with None for stopped ops, and show them to the memory."""
    memory: GradientMatches = forward.context.memory["oles"]
    memory.take_gradients("weight", found, forward.context)
    return {**found, **dict.fromkeys(memory.resting_parameters())}
