"""Rank correlation of two scores of the same architectures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.passes import Batch
from archgrad.diagnostics.accuracy import accuracy


def correlation(
    first: Sequence[float], second: Sequence[float]
) -> tuple[float | None, float | None]:
    """Return Kendall's tau-b and Spearman's rho of paired values, both in [-1, 1].

    Tau-b corrects for ties, and in rho ties share their mean rank.

    Returns:
        (tau, rho), or (None, None) if all values of a list are equal, because it ranks nothing.

    Raises:
        ValueError: The lists differ in length.
    """
    if len(first) != len(second):
        raise ValueError(f"values in pairs are expected, not {len(first)} and {len(second)}")
    if min(len(set(first)), len(set(second))) < 2:
        return None, None
    from scipy.stats import kendalltau, spearmanr  # the import takes half a second

    return float(kendalltau(first, second).statistic), float(spearmanr(first, second).statistic)


def accuracies(
    net: nn.Module,
    genotypes: Iterable[Genotype],
    groups: Groups,
    batches: Iterable[Batch],
    *place: object,
) -> list[float]:
    """Return the accuracy of each genotype alone in a supernet (`Genotype.one_hot`).

    The weights stay as they are, so an op that never ran has its initial weights. BatchNorm takes
    the statistics of each batch under the current genotype. The network stays as it was.

    Args:
        net: Supernet.
        genotypes: Genotypes.
        groups: Edge groups by name.
        batches: Batches of images, which are read once for each genotype.
        *place: Seed and place of the random draws, which are the same for all genotypes.

    Returns:
        Accuracies in [0, 1].

    Raises:
        ValueError: A genotype does not fit ``groups``, or there are no images.
    """
    return [
        accuracy(net, genotype.one_hot(groups), batches, *place, batch_statistics=True)[0]
        for genotype in genotypes
    ]
