"""Measures of an undecided mixture: the entropy of each edge, and the margin of its first op.

Both read ``p``, the searched weights of an edge scaled to the sum 1, with the weight of `none`.
Where cells differ, ``p`` is the mean over cells.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from archgrad.arch.edges import Groups
from archgrad.arch.mixture import Mixture

Edges = dict[str, list[float]]
"""Name of a group -> one number per edge, in order, without the edges that have no such number."""


@torch.no_grad()
def edge_entropies(mixture: Mixture, groups: Groups) -> Edges:
    """Return ``-sum p ln p`` (nats) of every edge that has ops.

    It is ln n for uniform weights of n ops, and 0 for an edge that is decided.
    """
    shares = _shares(mixture, groups)
    return {
        name: torch.special.entr(p).sum(-1)[p.sum(-1) > 0].tolist() for name, p in shares.items()
    }


@torch.no_grad()
def margins(mixture: Mixture, groups: Groups) -> Edges:
    """Return the largest minus the second largest ``p`` of every edge with two ops or more.

    It is 0 for uniform weights, and 1 for an edge that is decided.
    """
    return {
        name: [
            _margin(p[edge, :size]) for edge, size in enumerate(_sizes(groups, name)) if size > 1
        ]
        for name, p in _shares(mixture, groups).items()
    }


def mean_over_edges(edges: Mapping[str, list[float]]) -> float:
    """Return the mean over the edges of all groups; 0 if there are no edges."""
    flat = torch.tensor(
        [value for values in edges.values() for value in values], dtype=torch.float64
    )
    return flat.mean().item() if len(flat) else 0.0


def mean_entropy(mixture: Mixture, groups: Groups) -> float:
    """Return the mean of `edge_entropies` over all edges."""
    return mean_over_edges(edge_entropies(mixture, groups))


def _shares(mixture: Mixture, groups: Groups) -> dict[str, Tensor]:
    """Return ``p`` of each group, (edges, width) in float64 on the host.

    A row sums to 1, or to 0 if the edge has no ops.
    """
    rows = {
        name: mixture.cell(name, None).weights[:, : group.width].double().cpu()
        for name, group in groups.items()
    }
    return {name: row / row.sum(-1, keepdim=True).clamp_min(1e-30) for name, row in rows.items()}


def _sizes(groups: Groups, name: str) -> list[int]:
    return [len(edge.primitives) for edge in groups[name].edges]


def _margin(p: Tensor) -> float:
    largest: list[float] = p.topk(2).values.tolist()
    return largest[0] - largest[1]
