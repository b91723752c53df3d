"""How undecided a mixture is."""

from __future__ import annotations

import torch

from archgrad.arch import Groups, Mixture


@torch.no_grad()
def mean_entropy(mixture: Mixture, groups: Groups) -> float:
    """Mean over all edges that have ops of ``-sum p ln p`` (nats), p an edge's weights made to sum to 1; uniform over n ops: ln n."""
    rows = [mixture.cell(name, None).weights[:, : group.width].double().cpu() for name, group in groups.items()]
    sums = [row.sum(-1, keepdim=True) for row in rows]
    each = [torch.special.entr(row / total.clamp_min(1e-30)).sum(-1)[total[:, 0] > 0] for row, total in zip(rows, sums, strict=True)]
    flat = torch.cat(each)
    return flat.mean().item() if len(flat) else 0.0
