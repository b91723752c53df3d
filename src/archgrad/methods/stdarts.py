"""sTDARTS (arXiv 2306.06855, 2023).

"Small Temperature is All You Need for Differentiable Architecture Search". The rules come from the
[author code] of its predecessor of 2021, PCD-DARTS and EDD-DARTS. That the rules of the paper are
the same is [reconstructed] (docs/stdarts.md).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.relax import (
    gaussian,
    gumbel,
    sparse_noisy_softmax,
    sparse_softmax,
    tempered_softmax,
)
from archgrad.components.schedules import (
    Interval,
    Scalar,
    Span,
    When,
    constant,
    epoch_at_share,
    epoch_of_span,
    epochs_of_interval,
    geometric,
    remembered,
)
from archgrad.diagnostics.entropy import mean_entropy
from archgrad.option_types import PositiveFloat
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Memory, Method, SearchData, State

# [author code] A space without a line has the options of the DARTS space.
PRESETS: dict[str, dict[str, Any]] = {
    "darts": {"kappa": 0.06},
    "s1": {"kappa": 0.12},
    "s2": {"kappa": 0.24},
    "s3": {"kappa": 0.48},
    "s4": {"kappa": 0.96},
    "nasbench201": {"kappa": 0.04, "entropy": "sum", "warmup": 0.2},
}


@with_origin(PRESETS)
def stdarts(
    *,
    noise: Literal["gradient", "gaussian", "gumbel", "none"] = "gradient",
    sigma: PositiveFloat = 1e-3,
    temperature: Literal["adaptive", "exponential", "geometric", "cyclic", "constant"] = "adaptive",
    kappa: PositiveFloat = 0.06,
    entropy: Literal["mean", "sum"] = "mean",
    interval: Interval = 0.1,
    delta: PositiveFloat = 0.09,
    cyclic_delta: PositiveFloat = 0.11,
    hot: PositiveFloat = 1.0,
    cold: PositiveFloat = 2.5e-4,
    warmup: Span = 0.1,
    freeze: bool = True,
) -> Patch:
    """Search with a softmax so cold that the supernet is nearly the derived network.

    The mixture is p = softmax(a / T), and the temperature T falls. A cold softmax has almost no
    gradient, so the alpha step adds that of softmax(a).

    Args:
        noise: addition in the alpha step: the gradient of softmax(a) (gradient), normal noise on
            the alphas (gaussian), Gumbel noise on the alphas (gumbel), or nothing (none).
        sigma: standard deviation of the normal noise, in units of the alphas.
        temperature: rule by which T changes: by the entropy of the edges (adaptive), with the
            epochs (exponential, geometric), up and down (cyclic), or not at all (constant).
        kappa: factor of the entropy in the adaptive rule; with a larger one T falls faster.
        entropy: entropy that the adaptive rule reads, in nats: the mean over the edges, or their
            sum.
        interval: time between two updates of the adaptive rule: epochs (5), or a fraction of the
            search (0.1).
        delta: growth per epoch in the exponential rule, for a search of 50 epochs; with a larger
            one T falls faster.
        cyclic_delta: growth per epoch in the cyclic rule, for a search of 50 epochs; with a larger
            one T falls further in each cycle.
        hot: temperature at the start; the constant rule keeps it.
        cold: temperature that the geometric rule would reach one epoch after the last.
        warmup: time at the start in which the adaptive and the exponential rule keep the
            temperature hot: epochs (5), or a fraction of the search (0.1).
        freeze: alphas that do not move in the warm-up.

    Returns:
        The patch of the method.
    """
    begin, updates = (
        epoch_of_span(warmup, "stdarts.warmup"),
        epochs_of_interval(interval, "stdarts.interval"),
    )
    rules: dict[str, Scalar] = {
        "adaptive": remembered("temperature"),
        "exponential": exponential(begin, delta, hot),
        "geometric": geometric(hot, cold),
        "cyclic": cyclic(cyclic_delta, hot),
        "constant": constant(hot),
    }
    rule = rules[temperature]
    noises = {"gaussian": gaussian(sigma), "gumbel": gumbel, "none": None}
    patch = Patch(
        "stdarts",
        relax=sparse_noisy_softmax(rule)
        if noise == "gradient"
        else sparse_softmax(rule, noises[noise]),
        scalars={"temperature": rule},
        alpha_from=begin if freeze else None,
        lengths=(begin,),
        alphas={"decay": 0.0},  # [author code]: DARTS has 1e-3
        # The temperature follows from the initial alphas, so these grow with the size of a step.
        with_rate=("init",),
    )
    if temperature != "adaptive":
        return patch
    return replace(
        patch,
        memory={"temperature": lambda: EntropyAdaptive(kappa, entropy, begin, updates, hot)},
        lengths=(begin, updates),
    )


def cooled(context: Context, growth: float, hot: float) -> float:
    """Return the temperature ``T = c / ln(1 + growth)``, or ``hot`` where the growth is 0 or less.

    At this T, ``exp(E[max(0, a)] / T)`` is ``1 + growth`` for alphas that start as
    ``init * N(0, 1)``. So c = init / sqrt(2 pi), which is the authors' 0.000399 at an init of 1e-3.

    Args:
        context: The place in the search; it has the scale of the initial alphas.
        growth: The growth, such as ``delta * k``.
        hot: The temperature at the start.

    Raises:
        ValueError: The initial alphas are all 0.
    """
    if context.init <= 0:
        raise ValueError(
            "the temperature of stdarts follows from the scale of the initial alphas: "
            "set alphas.init above 0"
        )
    return context.init / math.sqrt(2 * math.pi) / math.log1p(growth) if growth > 0 else hot


def epochs_of_50(context: Context, epoch: int) -> float:
    """Return an epoch as an epoch of a search of 50.

    The rules count such epochs, so a search of any length reaches the same temperature.
    """
    return 50 * epoch / context.progress.epochs


def exponential(begin: When, delta: float, hot: float) -> Scalar:
    """Return the rule ``T_k = c / ln(1 + delta k)``, with k the epochs since ``begin``.

    T is ``hot`` before ``begin``.
    """

    def temperature(context: Context) -> float:
        k = epochs_of_50(context, context.progress.epoch + 1 - begin(context.progress.epochs))
        return cooled(context, delta * k, hot)

    return temperature


def cyclic(delta: float, hot: float) -> Scalar:
    """Return the rule of PCD-DARTS, ``T_k = c / ln(1 + delta k)`` with a k that goes up and down.

    Every 10 of 50 epochs k goes from 0 up to 5 and back. In the last fifth of the search k grows to
    10.
    """

    def temperature(context: Context) -> float:
        epoch, coming = (epochs_of_50(context, context.progress.epoch + ahead) for ahead in (0, 1))
        k = min(epoch % 10, 10 - epoch % 10) if epoch < 40 else coming - 40
        return cooled(context, delta * k, hot)

    return temperature


class EntropyAdaptive(Memory):
    """The entropy-adaptive rule of EDD-DARTS: the temperature of every epoch so far, a `Scalar`.

    An update sets ``delta = (s H + delta) / 2``, and at the k-th update ``T = c / ln(1 + delta
    k)``. H is the entropy of ``softmax(a / T)`` over the edges, in nats. In the last fifth of the
    search s is twice kappa, and every epoch has an update.

    Args:
        kappa: The factor s before the last fifth of the search.
        reduction: "mean" or "sum" of the entropies of the edges.
        begin: First epoch that may have an update.
        every: Epochs from one update to the next.
        hot: Temperature before the first update.
    """

    def __init__(self, kappa: float, reduction: str, begin: When, every: When, hot: float) -> None:
        self.kappa, self.reduction, self.begin, self.every, self.hot = (
            kappa,
            reduction,
            begin,
            every,
            hot,
        )
        self.delta = 0.0
        self.growths: list[tuple[int, float]] = []  # of each update: its first epoch, and delta * k

    def __call__(self, context: Context) -> float:
        growth = next(
            (growth for epoch, growth in reversed(self.growths) if epoch <= context.progress.epoch),
            0.0,
        )
        return cooled(context, growth, self.hot)

    def after_epoch(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> dict[str, Any]:
        coming, epochs = context.progress.epoch + 1, context.progress.epochs
        first, late = max(self.begin(epochs), 1), epoch_at_share(4, of=5)(epochs)
        if first <= coming < epochs and (
            (coming - first) % self.every(epochs) == 0 or coming >= late
        ):
            strength = self.kappa * (2 if coming >= late else 1)
            self.delta = (strength * self.entropy(state, context) + self.delta) / 2
            self.growths.append((coming, self.delta * (len(self.growths) + 1)))
        return {}

    def entropy(self, state: State, context: Context) -> float:
        """Return the entropy of the edges in nats, their mean or their sum."""
        groups, t = context.groups, self(context)
        mixture = Mixture(
            {
                name: tempered_softmax(state.alphas[name].detach(), group, t)
                for name, group in groups.items()
            }
        )
        edges = sum(bool(edge.primitives) for group in groups.values() for edge in group.edges)
        return mean_entropy(mixture, groups) * (edges if self.reduction == "sum" else 1)

    def state_dict(self) -> dict[str, Any]:
        return {"delta": self.delta, "growths": [list(entry) for entry in self.growths]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.delta = saved["delta"]
        self.growths = [(epoch, growth) for epoch, growth in saved["growths"]]
