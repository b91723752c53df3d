"""Selection (discretisation): mixture -> genotype."""

from __future__ import annotations

import torch
from torch import Tensor

from archgrad.arch.edges import EdgeGroup, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.cost.limits import Limits, best, keeps
from archgrad.seeds import generator

TRIES = 100
"""Draws before a genotype within limits is composed instead."""


def strongest(mixture: Mixture, groups: Groups, limits: Limits = ()) -> Genotype:
    """Per node the ``keep`` edges with the strongest visible op, then that op (DARTS, section 2.3); per edge the argmax where all edges
    are kept (NAS-Bench-201). Ties go to the lower index. An edge that has hidden ops only is taken last, and keeps one of them.

    Where that exceeds a limit: of all genotypes within the limits the one with the highest `score`, exactly. ValueError if there is none.
    """
    found = Genotype(
        tuple(_strongest(mixture.cell(name, None).weights, group) for name, group in groups.items())
    )
    if keeps(found, limits):
        return found
    within = best(log_weights(mixture, groups), groups, limits)
    if within is None:
        raise ValueError(
            f"no network that is left to select from keeps to {' and '.join(map(str, limits))}"
        )
    return within


def log_weights(mixture: Mixture, groups: Groups) -> dict[str, Tensor]:
    """Group -> (edges, ops), float64; a weight that is 0 or below counts as the least positive one."""
    least = torch.finfo(torch.float64).tiny
    return {
        name: mixture.cell(name, None).weights.detach().double().cpu().clamp(min=least).log()
        for name in groups
    }


def score(genotype: Genotype, mixture: Mixture, groups: Groups) -> float:
    """The sum of the log-weights of its links: the logarithm of its probability where each edge chooses by itself."""
    return float(
        sum(
            (rows * genotype.one_hot(groups).weights[name]).sum()
            for name, rows in log_weights(mixture, groups).items()
        )
    )


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
                ranked.append(
                    (rows[e][order[0]] if visible else float("-inf"), e, order[: group.pick])
                )
        ranked.sort(key=lambda candidate: -candidate[0])
        for _, e, order in sorted(ranked[: group.keep], key=lambda candidate: candidate[1]):
            links += [
                Link(group.edges[e].source, group.edges[e].target, group.edges[e].primitives[c])
                for c in order
            ]
    return CellGenotype(group.name, tuple(links), group.concat)


def uniform(groups: Groups, *place: object, limits: Limits = ()) -> Genotype:
    """A genotype drawn uniformly: each node's inputs among its edges, each edge's op among the selectable ones (Li & Talwalkar 2019,
    arXiv 1902.07638). The draw is a function of ``place``.

    Within ``limits`` it is drawn again until it keeps to them; where a hundred draws do not, uniform scores decide among all that do.
    ValueError if none does.
    """
    for again in range(TRIES):
        found = strongest(_ranked(groups, *place, *(("again", again) if again else ())), groups)
        if keeps(found, limits):
            return found
    return strongest(_ranked(groups, *place), groups, limits)


def _ranked(groups: Groups, *place: object) -> Mixture:
    rng = generator(*place)
    scores = {
        name: torch.rand(len(group.edges), group.width, generator=rng)
        for name, group in groups.items()
    }
    keys = {name: torch.rand(len(group.edges), generator=rng) for name, group in groups.items()}
    # An edge ranks by its strongest op: adding a key that exceeds every score makes the edges' order independent of how many ops they have.
    return Mixture(
        {name: scores[name] + 2 * keys[name].argsort().argsort()[:, None] for name in groups}
    )
