"""Selection (discretisation): mixture -> genotype."""

from __future__ import annotations

import torch
from torch import Tensor

from archgrad.arch.edges import EdgeGroup, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.cost.limits import Limits, best, is_within
from archgrad.seeds import generator

TRIES = 100
"""The number of draws, after which the best genotype within the limits is computed instead."""


def strongest_genotype(mixture: Mixture, groups: Groups, limits: Limits = ()) -> Genotype:
    """Return the genotype of the strongest ops.

    Each node keeps its ``keep`` edges whose strongest visible op is strongest, each with that op
    (DARTS, section 2.3). Where all edges are kept, each edge takes its argmax (NAS-Bench-201).
    Ties go to the lower index. An edge with hidden ops only is taken last, and keeps one of them.

    If this genotype exceeds a limit, the result is the genotype within the limits that has the
    highest `score`; it is found exactly.

    Args:
        mixture: Mixture; of cells that differ, the mean is read.
        groups: Edge groups by name.
        limits: Limits of the cost.

    Raises:
        ValueError: No genotype is within the limits.
    """
    found = Genotype(
        tuple(_strongest(mixture.cell(name, None).weights, group) for name, group in groups.items())
    )
    if is_within(found, limits):
        return found
    within = best(log_weights(mixture, groups), groups, limits)
    if within is None:
        raise ValueError(
            f"no network that can still be selected keeps to {' and '.join(map(str, limits))}"
        )
    return within


def log_weights(mixture: Mixture, groups: Groups) -> dict[str, Tensor]:
    """Return the logarithms of the weights in float64, group -> (edges, ops).

    A weight of 0 or less counts as the smallest positive number.
    """
    least = torch.finfo(torch.float64).tiny
    return {
        name: mixture.cell(name, None).weights.detach().double().cpu().clamp(min=least).log()
        for name in groups
    }


def score(genotype: Genotype, mixture: Mixture, groups: Groups) -> float:
    """Return the sum of the log-weights of a genotype's links.

    It is the logarithm of its probability if each edge draws its op independently.
    """
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
        for index in edges:
            primitives = group.edges[index].primitives
            columns = range(len(primitives))
            visible = [column for column in columns if primitives[column] not in group.hidden]
            order = sorted(visible or columns, key=lambda column: -rows[index][column])
            if order:
                strength = rows[index][order[0]] if visible else float("-inf")
                ranked.append((strength, index, order[: group.pick]))
        ranked.sort(key=lambda candidate: -candidate[0])
        for _, index, order in sorted(ranked[: group.keep], key=lambda candidate: candidate[1]):
            edge = group.edges[index]
            links += [Link(edge.source, edge.target, edge.primitives[column]) for column in order]
    return CellGenotype(group.name, tuple(links), group.concat)


def uniform_genotype(groups: Groups, *place: object, limits: Limits = ()) -> Genotype:
    """Draw a genotype uniformly.

    Each node draws its inputs among its edges, and each edge its op among the ops that can be
    selected (Li & Talwalkar 2019, arXiv 1902.07638).

    Args:
        groups: Edge groups by name.
        *place: Seed and place of the draw, which is a function of them.
        limits: Limits of the cost. The draw is repeated until it is within them. After a hundred
            draws, uniform scores decide among all genotypes that are within them.

    Raises:
        ValueError: No genotype is within the limits.
    """
    for again in range(TRIES):
        found = strongest_genotype(
            _ranked(groups, *place, *(("again", again) if again else ())), groups
        )
        if is_within(found, limits):
            return found
    return strongest_genotype(_ranked(groups, *place), groups, limits)


def _ranked(groups: Groups, *place: object) -> Mixture:
    rng = generator(*place)
    scores = {
        name: torch.rand(len(group.edges), group.width, generator=rng)
        for name, group in groups.items()
    }
    keys = {name: torch.rand(len(group.edges), generator=rng) for name, group in groups.items()}
    # An edge ranks by its strongest op. A key larger than every score makes the order of the edges
    # independent of their numbers of ops.
    return Mixture(
        {name: scores[name] + 2 * keys[name].argsort().argsort()[:, None] for name in groups}
    )
