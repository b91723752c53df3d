"""Selection (discretisation): mixture -> genotype."""

from __future__ import annotations

import torch
from torch import Tensor

from archgrad.arch import CellGenotype, EdgeGroup, Genotype, Groups, Link, Mixture
from archgrad.seeds import generator


def strongest(mixture: Mixture, groups: Groups) -> Genotype:
    """Per node the ``keep`` edges with the strongest visible op, then that op (DARTS, section 2.3); per edge the argmax where all edges
    are kept (NAS-Bench-201). Ties go to the lower index. An edge that has hidden ops only is taken last, and keeps one of them."""
    return Genotype(tuple(_strongest(mixture.cell(name, None).weights, group) for name, group in groups.items()))


def _strongest(weights: Tensor, group: EdgeGroup) -> CellGenotype:
    rows = weights.detach().cpu().tolist()
    links: list[Link] = []
    for edges in group.nodes().values():
        ranked = []  # (strength, edge index, columns in order of preference)
        for e in edges:
            columns = range(len(group.edges[e].primitives))
            visible = [c for c in columns if group.edges[e].primitives[c] not in group.hidden]
            order = sorted(visible or columns, key=lambda c: -rows[e][c])
            if order:
                ranked.append((rows[e][order[0]] if visible else float("-inf"), e, order[: group.pick]))
        ranked.sort(key=lambda candidate: -candidate[0])
        for _, e, order in sorted(ranked[: group.keep], key=lambda candidate: candidate[1]):
            links += [Link(group.edges[e].source, group.edges[e].target, group.edges[e].primitives[c]) for c in order]
    return CellGenotype(group.name, tuple(links), group.concat)


def uniform(groups: Groups, *place: object) -> Genotype:
    """A genotype drawn uniformly: each node's inputs among its edges, each edge's op among the selectable ones (Li & Talwalkar 2019,
    arXiv 1902.07638). The draw is a function of ``place``."""
    rng = generator(*place)
    scores = {name: torch.rand(len(group.edges), group.width, generator=rng) for name, group in groups.items()}
    keys = {name: torch.rand(len(group.edges), generator=rng) for name, group in groups.items()}
    # An edge ranks by its strongest op: adding a key that exceeds every score makes the edges' order independent of how many ops they have.
    return strongest(Mixture({name: scores[name] + 2 * keys[name].argsort().argsort()[:, None] for name in groups}), groups)
