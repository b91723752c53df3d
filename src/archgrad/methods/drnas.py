"""DrNAS, "DrNAS: Dirichlet Neural Architecture Search" (Chen et al. 2021, arXiv 2006.10355).

DARTS whose mixture is drawn, in both halves of a step, from a Dirichlet distribution: its concentrations are learned, held to 1 by an anchor.
With `progressive` it is the search published in the space of DARTS.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from archgrad.components.context import Forward
from archgrad.components.losses import weighted
from archgrad.components.relax import choices, concentration, dirichlet, dirichlet_mean, softmax
from archgrad.components.schedules import constant
from archgrad.option_types import NotNegativeFloat
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch

PRESETS: dict[
    str, dict[str, Any]
] = {  # [author code]; a space without a line has that of the DARTS space
    "nasbench201": {"weights_lr": (0.025, 0.001), "alphas_lr": 3e-4},
}


@marked(PRESETS)
def drnas(
    *,
    anchor: Literal["l2", "kl"] = "l2",
    strength: NotNegativeFloat = 1e-3,
    readout: Literal["softmax", "mean"] = "softmax",
    weights_lr: tuple[NotNegativeFloat, NotNegativeFloat] = (0.1, 0.0),
    alphas_lr: NotNegativeFloat = 6e-4,
) -> Patch:
    """A mixture that is drawn from a Dirichlet distribution, whose concentrations are learned.

    Args:
        anchor: penalty that holds the concentrations near 1: Adam's decay of the alphas (l2), as
            concentration 1 is alpha 0, or the divergence from Dirichlet(1) (kl).
        strength: factor of the penalty.
        readout: mixture that the selection reads: softmax(a), as the authors' code has it (softmax),
            or the mean of the distribution (mean).
        weights_lr: learning rates of the weights, the first and the last one.
        alphas_lr: learning rate of the alphas.

    Returns:
        The patch of the method.
    """
    divergence = weighted(constant(strength), kl_to_uniform)
    return Patch(
        "drnas",
        relax=dirichlet,
        readout=dirichlet_mean if readout == "mean" else softmax,
        alpha_terms=(divergence,) if anchor == "kl" else (),
        drives={divergence: f"--drnas.strength below {strength:g}"},
        weights={"lr": weights_lr[0], "lr_end": weights_lr[1]},
        alphas={"lr": alphas_lr, "decay": strength if anchor == "l2" else 0.0},
    )


def kl_to_uniform(forward: Forward) -> Tensor:
    """The sum over edges of ``KL(Dirichlet(elu(a) + 1) || Dirichlet(1))``; an edge without a choice adds nothing."""
    total = torch.zeros((), device=forward.output.logits.device)
    for name, group in forward.context.groups.items():
        for rows, size in choices(group, forward.alphas[name].device):
            c = concentration(forward.alphas[name][rows, :size])
            q, p = (Dirichlet(masses, validate_args=False) for masses in (c, torch.ones_like(c)))
            total = total + kl_divergence(q, p).sum()
    return total
