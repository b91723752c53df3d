"""How undecided a mixture is: the entropy of each edge, and how far its first op is ahead of its second.

Both read ``p``, an edge's searched weights made to sum to 1 (mean over cells where cells differ), `none` included.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from archgrad.arch.edges import Groups
from archgrad.arch.mixture import Mixture

Edges = dict[str, list[float]]
"""Group name -> one number per edge, in order; edges that have no such number are left out."""


@torch.no_grad()
def edge_entropies(mixture: Mixture, groups: Groups) -> Edges:
    """``-sum p ln p`` (nats) of every edge that has ops: uniform over n ops is ln n, decided 0."""
    shares = _shares(mixture, groups)
    return {
        name: torch.special.entr(p).sum(-1)[p.sum(-1) > 0].tolist() for name, p in shares.items()
    }


@torch.no_grad()
def margins(mixture: Mixture, groups: Groups) -> Edges:
    """Largest minus second largest ``p`` of every edge that has at least two ops: uniform is 0, decided 1."""
    return {
        name: [_margin(p[e, :n]) for e, n in enumerate(_sizes(groups, name)) if n > 1]
        for name, p in _shares(mixture, groups).items()
    }


def mean(edges: Mapping[str, list[float]]) -> float:
    """Over the edges of all groups; 0 if there are none."""
    flat = torch.tensor(
        [value for values in edges.values() for value in values], dtype=torch.float64
    )
    return flat.mean().item() if len(flat) else 0.0


def mean_entropy(mixture: Mixture, groups: Groups) -> float:
    """`edge_entropies`, averaged over all edges."""
    return mean(edge_entropies(mixture, groups))


def _shares(mixture: Mixture, groups: Groups) -> dict[str, Tensor]:
    """Group -> (edges, width) float64 on the host; rows sum to 1, or to 0 where an edge has no ops."""
    rows = {
        name: mixture.cell(name, None).weights[:, : group.width].double().cpu()
        for name, group in groups.items()
    }
    return {name: row / row.sum(-1, keepdim=True).clamp_min(1e-30) for name, row in rows.items()}


def _sizes(groups: Groups, name: str) -> list[int]:
    return [len(edge.primitives) for edge in groups[name].edges]


def _margin(p: Tensor) -> float:
    first, second = p.topk(2).values.tolist()
    return first - second
