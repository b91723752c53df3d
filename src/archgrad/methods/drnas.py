"""DrNAS (Chen et al. 2021, arXiv 2006.10355).

"DrNAS: Dirichlet Neural Architecture Search". Together with `progressive` it is the search that was
published in the space of DARTS.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from archgrad.components.context import Forward
from archgrad.components.losses import weighted
from archgrad.components.relax import (
    concentration,
    dirichlet,
    dirichlet_mean,
    edges_by_size,
    softmax,
)
from archgrad.components.schedules import constant
from archgrad.option_types import NotNegativeFloat
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch

# [author code] A space without a line has the options of the DARTS space.
PRESETS: dict[str, dict[str, Any]] = {
    "nasbench201": {"weights_lr": (0.025, 0.001), "alphas_lr": 3e-4},
}


@with_origin(PRESETS)
def drnas(
    *,
    anchor: Literal["l2", "kl"] = "l2",
    strength: NotNegativeFloat = 1e-3,
    readout: Literal["softmax", "mean"] = "softmax",
    weights_lr: tuple[NotNegativeFloat, NotNegativeFloat] = (0.1, 0.0),
    alphas_lr: NotNegativeFloat = 6e-4,
) -> Patch:
    """Draw the mixture from a Dirichlet distribution whose concentrations are learned.

    The mixture is p ~ Dirichlet(elu(a) + 1), drawn anew in both halves of a step. A penalty, the
    anchor, holds the concentrations near 1.

    Args:
        anchor: penalty on the concentrations. With l2 it is Adam's weight decay of the alphas, and
            with kl it is the divergence KL(Dirichlet(elu(a) + 1) || Dirichlet(1)).
        strength: factor of the penalty.
        readout: mixture that the selection reads: softmax(a), as in the authors' code (softmax), or
            the mean of the distribution (mean).
        weights_lr: first and last learning rate of the weights.
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
    """Return the sum over edges of ``KL(Dirichlet(elu(a) + 1) || Dirichlet(1))``, a scalar.

    An edge with one op adds nothing.
    """
    total = torch.zeros((), device=forward.output.logits.device)
    for name, group in forward.context.groups.items():
        for rows, size in edges_by_size(group, forward.alphas[name].device):
            learned = concentration(forward.alphas[name][rows, :size])
            masses = (learned, torch.ones_like(learned))
            q, p = (Dirichlet(each, validate_args=False) for each in masses)
            total = total + kl_divergence(q, p).sum()
    return total
