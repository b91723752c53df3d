"""How sure a mean is, and whether two arms differ, from a handful of seeds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """Of n values: mean, standard deviation (n - 1), and the interval of the mean; None where n is too small to have one."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Difference(Spread):
    """Of values paired by seed, with the two-sided p-value of the paired t-test, and the same ``corrected`` for the arms it is one of.

    ``clear``: the corrected one is below 0.05. All three are None where nothing can be said (one pair, or no spread at all).
    """

    p: float | None
    corrected: float | None

    @property
    def clear(self) -> bool | None:
        return None if self.corrected is None else self.corrected < 1 - LEVEL

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"clear": self.clear}


def spread(values: Sequence[float]) -> Spread:
    """With a 95 % bootstrap interval of the mean (percentile, 9,999 resamples, one fixed seed).

    Of four normal values it holds the true mean in 80 of 100 cases, not in 95: it shows the sample, and decides nothing. (BCa would correct
    it by a skewness, which four values cannot tell.)
    """
    n, mean, sd = _moments(values)
    if not sd:  # one value, or all equal
        edge = None if sd is None else mean
        return Spread(n, mean, sd, edge, edge)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # scipy renames random_state
        from scipy import stats  # takes half a second to import

        found = stats.bootstrap(
            (np.asarray(values, float),), np.mean, confidence_level=LEVEL, method="percentile", n_resamples=9999,
            random_state=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
    return Spread(n, mean, sd, float(found.low), float(found.high))


def difference(values: Mapping[int, float], control: Mapping[int, float]) -> Difference | None:
    """``values`` - ``control`` over the seeds that both have, with Student's t interval and test; None if they share none.

    t, not a bootstrap: with four pairs it holds its 95 % where differences are about normal. Of one arm alone: see `holm`.
    """
    seeds = [seed for seed in values if seed in control]
    if not seeds:
        return None
    pairs = [values[seed] - control[seed] for seed in seeds]
    n, mean, sd = _moments(pairs)
    if not sd:
        edge = None if sd is None else mean
        return Difference(n, mean, sd, edge, edge, p=None, corrected=None)
    from scipy import stats

    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)
    p = float(stats.ttest_1samp(pairs, 0).pvalue)
    return Difference(n, mean, sd, mean - half, mean + half, p=p, corrected=p)


def holm(found: Mapping[str, Difference]) -> dict[str, Difference]:
    """The differences of all arms in one measure, corrected for their number (Holm 1979).

    The chance that any arm is called clear which is none stays below 5 %, however the arms hang together: they share their control, so that
    they do. (A false discovery rate would let one in twenty of the clear ones be wrong, and asks for a kind of dependence nobody checks.)
    """
    order = sorted((one.p, arm) for arm, one in found.items() if one.p is not None)
    steps = accumulate(((len(order) - k) * p for k, (p, _) in enumerate(order)), max)
    corrected = {arm: min(1.0, step) for (_, arm), step in zip(order, steps)}
    return {arm: replace(one, corrected=corrected.get(arm)) for arm, one in found.items()}


def _moments(values: Sequence[float]) -> tuple[int, float, float | None]:
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return n, mean, None
    if max(values) - min(values) <= 1e-9 * max(map(abs, values)):  # equal but for rounding
        return n, mean, 0.0
    return n, mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
