"""PC-DARTS (Xu et al. 2020, arXiv 1907.05737).

"PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search". The ops see 1/K of
the channels of a node, so a larger batch fits into memory. A softmax over the inputs of each node
makes the choice of edges more stable.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from archgrad.arch.edges import Alphas, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.schedules import Span, epoch_of_span
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch


@with_origin()
def pcdarts(*, partial: PositiveInt = 4, edges: bool = True, frozen: Span = 0.3) -> Patch:
    """Send 1/K of the channels through the ops, and weigh the inputs of each node by a softmax.

    The edge weights are q = softmax(b) over the inputs of a node (eq. 3), and edge e has the
    mixture q_e p_e (eq. 4). The logits b are learned together with the alphas.

    Args:
        partial: divisor K of a node's channels: 1/K of them go through the ops (section 3.1).
        edges: learned softmax over the inputs of each node.
        frozen: time at the start in which the alphas do not move: epochs (15), or a fraction of the
            search (0.3).

    Returns:
        The patch of the method.
    """
    return Patch(
        "pcdarts",
        reshape=(weigh_edges,) if edges else (),
        extra_alphas={"edge": lambda group: (len(group.edges),)} if edges else {},
        alpha_from=epoch_of_span(frozen, "pcdarts.frozen"),
        space={"partial_channels": partial},
        weights={"lr": 0.1, "lr_end": 0.0},  # [author code]
        alphas={"lr": 6e-4},  # [author code]
    )


def weigh_edges(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """Multiply the weights of each edge by its weight among the inputs of its node (eq. 3 and 4).

    This holds in the readout too, so the selection reads the product.
    """
    shares = {
        name: edge_softmax(alphas[f"{name}/edge"], group) for name, group in context.groups.items()
    }
    return replace(
        mixture,
        weights={
            name: weights * shares[name][:, None] for name, weights in mixture.weights.items()
        },
    )


def edge_softmax(logits: Tensor, group: EdgeGroup) -> Tensor:
    """Return the softmax of the logits over the inputs of each node.

    Args:
        logits: Learned numbers, (edges,).
        group: The edges that they belong to.

    Returns:
        Weights, (edges,): they sum to 1 at each node. An edge without ops has 0, and the others are
        the same as in a group without that edge.
    """
    mask = _inputs(group, logits.device)
    return (logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask).sum(0)


@lru_cache(maxsize=64)
def _inputs(group: EdgeGroup, device: torch.device) -> Tensor:
    """Return bool (nodes, edges), true where an edge with ops leads to the node."""
    rows = [
        [edge.target == node and bool(edge.primitives) for edge in group.edges]
        for node in group.nodes()
    ]
    return torch.tensor(rows, dtype=torch.bool, device=device).reshape(len(rows), len(group.edges))
