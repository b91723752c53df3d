"""FairDARTS (Chu et al. 2020, arXiv 1911.12126).

"Fair DARTS: Eliminating Unfair Advantages in Differentiable Architecture Search". The ops of an
edge do not compete. A node may keep fewer inputs than its space allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from archgrad.arch.edges import EdgeGroup, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Forward
from archgrad.components.losses import Term, weighted
from archgrad.components.relax import sigmoid
from archgrad.components.schedules import constant
from archgrad.components.select import strongest_genotype
from archgrad.cost.limits import Limits, is_within
from archgrad.option_types import NotNegativeFloat, Share
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Select


@with_origin()
def fairdarts(
    *,
    strength: NotNegativeFloat = 10.0,
    distance: Literal["l2", "l1"] = "l2",
    threshold: Share = 0.85,
) -> Patch:
    """Weigh each op by its own sigmoid, push the sigmoids to 0 or 1, and select by a threshold.

    The mixture is p = sigmoid(a). The added loss of the alphas, the zero-one loss, is
    -strength * mean (sigmoid(a) - 1/2)^2.

    Args:
        strength: factor of the zero-one loss.
        distance: distance of a sigmoid from 1/2 in the zero-one loss: squared (l2), or absolute
            (l1).
        threshold: smallest sigmoid of an op that can be selected.

    Returns:
        The patch of the method.
    """
    push = weighted(constant(strength), zero_one(2 if distance == "l2" else 1))
    return Patch(
        "fairdarts",
        relax=sigmoid,
        select=select_above(threshold),
        alpha_terms=(push,),
        drives={push: f"--fairdarts.strength below {strength:g}"},
        weights={"lr": 0.005},  # [author code] for a batch of 128
        alphas={"lr": 3e-3, "beta1": 0.9, "init": 0.0},  # [author code]
    )


def zero_one(power: int) -> Term:
    """Return the loss term ``-mean |sigmoid(a) - 1/2|^power``, a mean over the ops of all groups.

    The op `none`, hidden ops and padding do not count.
    """

    def term(forward: Forward) -> Tensor:
        alphas, total = forward.alphas, 0
        sums = []
        for name, group in forward.context.groups.items():
            mask, ops = _counted(group, alphas[name].device)
            sums.append(((alphas[name].sigmoid() - 0.5).abs().pow(power) * mask).sum())
            total += ops
        return -torch.stack(sums).sum() / max(total, 1)

    return term


@lru_cache(maxsize=256)
def _counted(group: EdgeGroup, device: torch.device) -> tuple[Tensor, int]:
    """Return bool (edges, ops), true for the ops that count, and their number."""
    mask = group.mask() & ~group.columns(("none", *group.hidden))
    return mask.to(device), int(mask.sum())


def select_above(threshold: float) -> Select:
    """Return a selection: DARTS's inputs and ops, without the ops below ``threshold``.

    Where every edge must stay (NAS-Bench-201), `none` replaces such an op, if the edge has `none`.
    The threshold does not apply to a cell that would otherwise have no path to its output.
    """

    def select(mixture: Mixture, groups: Groups, limits: Limits = ()) -> Genotype:
        # `none` is not selected by its sigmoid: it competes with no op, and its output is 0.
        rows = {name: mixture.cell(name, None).weights.detach().cpu() for name in groups}
        rows = {
            name: rows[name].masked_fill(group.columns(("none",)), -1.0)
            for name, group in groups.items()
        }
        dense = strongest_genotype(Mixture(rows), groups, limits)
        sparse = Genotype(
            tuple(
                _without_weak_ops(cell, groups[cell.group], rows[cell.group].tolist(), threshold)
                for cell in dense.cells
            )
        )
        # Without an op a measured cost can be higher, so the sparse genotype may exceed a limit.
        return sparse if is_within(sparse, limits) else dense

    return select


def _without_weak_ops(
    cell: CellGenotype, group: EdgeGroup, rows: list[list[float]], threshold: float
) -> CellGenotype:
    """Return the cell without its ops below ``threshold``, or the whole cell if no path is left."""
    index = {(edge.source, edge.target): number for number, edge in enumerate(group.edges)}
    links = []
    for link in cell.links:
        edge = index[link.source, link.target]
        names = group.edges[edge].primitives
        if rows[edge][names.index(link.primitive)] >= threshold:
            links.append(link)
        elif group.keep is None:
            links.append(link._replace(primitive="none") if "none" in names else link)
    sparse = cell._replace(links=tuple(dict.fromkeys(links)))
    return sparse if _output_is_reached(sparse.links, group) else cell


def _output_is_reached(links: Iterable[Link], group: EdgeGroup) -> bool:
    """Return whether a path of ops leads from an input of the cell to its output."""
    alive = {edge.source for edge in group.edges} - set(group.nodes())
    for link in sorted(links, key=lambda link: link.target):
        if link.source in alive and link.primitive != "none":
            alive.add(link.target)
    return bool(alive & set(group.concat or group.nodes()))
