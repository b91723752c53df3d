"""PC-DARTS, "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search" (Xu et al. 2020, arXiv 1907.05737).

DARTS whose ops see 1/K of a node's channels, so that a larger batch fits; and a softmax over the inputs of a node, whose logits are learned
beside the alphas, steadies the choice of edges. The first epochs train the weights alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from archgrad.arch.edges import Alphas, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.schedules import Span, span
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch


@marked()
def pcdarts(*, partial: PositiveInt = 4, edges: bool = True, frozen: Span = 0.3) -> Patch:
    """Only a part of a node's channels goes through the ops, and a softmax weighs the inputs of
    each node.

    Args:
        partial: divisor K of a node's channels: 1/K of them go through the ops.
        edges: learn a softmax over the inputs of each node.
        frozen: time at the start in which the alphas rest: epochs (15), or a share of the search
            (0.3).

    Returns:
        The patch of the method.
    """
    return Patch(
        "pcdarts",
        reshape=(weigh_edges,) if edges else (),
        extra_alphas={"edge": lambda group: (len(group.edges),)} if edges else {},
        alpha_from=span(frozen, "pcdarts.frozen"),
        space={"partial_channels": partial},
        weights={"lr": 0.1, "lr_end": 0.0},  # [author code], as the next
        alphas={"lr": 6e-4},
    )


def weigh_edges(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """Each edge's weights times its share of its node (eq. 3 and 4); in the readout too, so that selection sees the product."""
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
    """logits (edges,) -> each edge's share among the inputs of its node; a removed edge gets 0 and takes nothing from the others."""
    mask = _inputs(group, logits.device)
    return (logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask).sum(0)


@lru_cache(maxsize=64)
def _inputs(group: EdgeGroup, device: torch.device) -> Tensor:
    """Bool (nodes, edges): True where an edge that has ops leads to the node."""
    rows = [
        [edge.target == node and bool(edge.primitives) for edge in group.edges]
        for node in group.nodes()
    ]
    return torch.tensor(rows, dtype=torch.bool, device=device).reshape(len(rows), len(group.edges))
