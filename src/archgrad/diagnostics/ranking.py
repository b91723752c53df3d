"""Whether two judges rank architectures alike: rank correlation of their verdicts on the same sample."""

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
    """Kendall's tau-b and Spearman's rho of paired values, both in [-1, 1]; ties are corrected for in tau and share their mean rank in rho.

    (None, None) where a list is constant, a single value among them: it ranks nothing. ValueError if they differ in length.
    """
    if len(first) != len(second):
        raise ValueError(f"values in pairs are expected, not {len(first)} and {len(second)}")
    if min(len(set(first)), len(set(second))) < 2:
        return None, None
    from scipy.stats import kendalltau, spearmanr  # take half a second to import

    return float(kendalltau(first, second).statistic), float(spearmanr(first, second).statistic)


def accuracies(
    net: nn.Module,
    genotypes: Iterable[Genotype],
    groups: Groups,
    batches: Iterable[Batch],
    *place: object,
) -> list[float]:
    """Share of images right, in [0, 1], of each genotype alone in a supernet (`Genotype.one_hot`), with the weights as they are: an op that
    never ran is judged by its initial ones.

    BatchNorm takes the statistics of each batch under the genotype at hand. All genotypes see the same draws, by ``place``, which begins
    with the seed, and all images, which are gone through once for each. The net is left as it was. ValueError for a genotype that does not
    fit ``groups``, and if there are no images.
    """
    return [
        accuracy(net, genotype.one_hot(groups), batches, *place, batch_statistics=True)[0]
        for genotype in genotypes
    ]
