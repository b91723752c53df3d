"""Lambda-DARTS, "Mitigating Performance Collapse by Harmonizing Operation Selection among Cells" (Movahedi et al., ICLR 2023, arXiv
2210.07998).

DARTS whose weights are also trained to make the cells agree: what each cell of a type would have the mixture be, the gradient of the training
loss by its own copy of the mixture, should point the same way in all of them.
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
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch
from archgrad.searching.types import Reshape

PRESETS: dict[str, dict[str, Any]] = {"nasbench201": {"alpha_lr": 1e-4}}  # [author code]


@marked(PRESETS)
def lambdadarts(
    *,
    strength: NotNegativeFloat = 0.25,
    measure: Literal["cosine", "sign"] = "cosine",
    least: Annotated[int, Field(ge=2)] = 3,
    alpha_lr: PositiveFloat | None = None,
) -> Patch:
    """Weights that are also trained to make the cells of a type agree on the mixture.

    Args:
        strength: factor of that alignment in the last epoch; it grows from 0 in the first.
        measure: similarity of two cells' gradients: their cosine, or <g, h> / <|g|, |h|>, which
            heeds signs (sign).
        least: smallest number of cells of a type that are aligned; types with fewer cells are left
            alone.
        alpha_lr: learning rate of the alphas; the default is the space's.

    Returns:
        The patch of the method.
    """
    scale = linear(0, strength)
    alignment = weighted(scale, disagreement(measure, least))
    return Patch(
        "lambdadarts",
        reshape=(apart(scale, least),),
        weight_terms=(alignment,),
        drives={alignment: f"--lambdadarts.strength below {strength:g}"},
        scalars={"lambda": scale},
        alphas={} if alpha_lr is None else {"lr": alpha_lr},
    )


def apart(scale: Scalar, least: int) -> Reshape:
    """While weights learn: (edges, ops) -> (cells, edges, ops), a copy for each cell, with a gradient of its own."""

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
    """Minus how alike the gradients of the loss of the labels by the mixtures of two cells are, mean over all pairs of cells of a group, and
    over groups. Its own gradient, by the weights, goes through these gradients: exact, where the authors have finite differences."""

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
            [alike(g.flatten(1), measure) for g in found.values() if g is not None]
        ).mean()

    return term


def alike(g: Tensor, measure: str) -> Tensor:
    """g (cells, n) -> the mean over pairs of rows, in [-1, 1]; a row of zeros is like none."""
    norms = g.norm(dim=1)
    size = g.abs() @ g.abs().T if measure == "sign" else norms[:, None] * norms
    pairs = g @ g.T / size.where(size > 0, 1.0)
    return (pairs.sum() - pairs.diagonal().sum()) / (len(g) * (len(g) - 1))
