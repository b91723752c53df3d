"""Lambda-DARTS (Movahedi et al., ICLR 2023, arXiv 2210.07998).

"Lambda-DARTS: Mitigating Performance Collapse by Harmonizing Operation Selection among Cells". All
cells of a type share one mixture, but the training loss has another gradient by it in each cell.
The weights also learn to make these gradients point the same way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from archgrad.arch.edges import Alphas
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Forward
from archgrad.components.gradients import gradients
from archgrad.components.losses import Term, task, weighted
from archgrad.components.schedules import Scalar, linear
from archgrad.option_types import NotNegativeFloat, PositiveFloat
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Reshape

PRESETS: dict[str, dict[str, Any]] = {"nasbench201": {"alpha_lr": 1e-4}}  # [author code]


@with_origin(PRESETS)
def lambdadarts(
    *,
    strength: NotNegativeFloat = 0.25,
    measure: Literal["cosine", "sign"] = "cosine",
    least: Annotated[int, Field(ge=2)] = 3,
    alpha_lr: PositiveFloat | None = None,
) -> Patch:
    """Train the weights also to make all cells of a type agree on the mixture.

    The added loss of the weights is -lambda * mean over pairs of cells i, j of cos(g_i, g_j), where
    g_i is the gradient of the training loss by the copy of the mixture in cell i.

    Args:
        strength: factor lambda in the last epoch; it grows linearly from 0 in the first.
        measure: similarity of two gradients g and h: their cosine, or <g, h> / <abs(g), abs(h)>,
            which compares signs (sign).
        least: smallest number of cells of a type that are aligned; types with fewer cells add
            nothing to the loss.
        alpha_lr: learning rate of the alphas; the default is the space's.

    Returns:
        The patch of the method.
    """
    scale = linear(0, strength)
    alignment = weighted(scale, disagreement(measure, least))
    return Patch(
        "lambdadarts",
        reshape=(copied_per_cell(scale, least),),
        weight_terms=(alignment,),
        drives={alignment: f"--lambdadarts.strength below {strength:g}"},
        scalars={"lambda": scale},
        alphas={} if alpha_lr is None else {"lr": alpha_lr},
    )


def copied_per_cell(scale: Scalar, least: int) -> Reshape:
    """Return a reshape of (edges, ops) into (cells, edges, ops), one copy for each cell.

    Each copy has its own gradient. The reshape acts in the weight step only.
    """

    def reshape(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
        if context.phase != "weight" or not scale(context):
            return mixture
        copies = dict(mixture.weights)
        for name, w in mixture.weights.items():
            if (cells := context.groups[name].cells) >= least:
                w = w if w.dim() == 3 else w.expand(cells, *w.shape)
                copies[name] = w if w.requires_grad else w.clone().requires_grad_()
        return replace(mixture, weights=copies)

    return reshape


def disagreement(measure: str, least: int) -> Term:
    """Return the loss term: minus the mean similarity of the gradients of two cells.

    The mean is over all pairs of cells of a group, and over groups. Each gradient is that of the
    loss of the labels by the mixture of its cell. The gradient of the term by the weights goes
    through these gradients. It is exact, where the authors use finite differences.
    """

    def term(forward: Forward) -> Tensor:
        loss = task(forward)
        mixtures = {
            name: w
            for name, w in forward.mixture.weights.items()
            if w.requires_grad and w.dim() == 3 and len(w) >= least
        }
        if not mixtures or not loss.requires_grad:
            return loss.new_zeros(())
        found = gradients(loss, mixtures, create_graph=True)
        return -torch.stack(
            [mean_similarity(g.flatten(1), measure) for g in found.values() if g is not None]
        ).mean()

    return term


def mean_similarity(g: Tensor, measure: str) -> Tensor:
    """Return the mean similarity of two rows of ``g``.

    Args:
        g: One gradient a row, (cells, n).
        measure: "cosine" or "sign", as `lambdadarts` describes them.

    Returns:
        A scalar in [-1, 1]. A row of zeros has similarity 0 with every other row.
    """
    norms = g.norm(dim=1)
    size = g.abs() @ g.abs().T if measure == "sign" else norms[:, None] * norms
    pairs = g @ g.T / size.where(size > 0, 1.0)
    return (pairs.sum() - pairs.diagonal().sum()) / (len(g) * (len(g) - 1))
