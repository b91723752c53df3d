"""sTDARTS, "Small Temperature is All You Need for Differentiable Architecture Search" (arXiv 2306.06855, 2023).

DARTS under a softmax so cold that the supernet is nearly the network that will be derived from it. A cold softmax has no gradient left, so
the alpha step adds that of a warm one; and the temperature falls by itself, the faster the less decided the alphas are.
[author code] of the 2021 predecessor, PCD-DARTS and EDD-DARTS; that the paper's own is the same is [reconstructed]: see docs/stdarts.md.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Forward
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
    geometric,
    lasting,
    remembered,
    share,
    span,
)
from archgrad.diagnostics.entropy import mean_entropy
from archgrad.option_types import PositiveFloat
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch
from archgrad.searching.types import Data, Method, State

PRESETS: dict[
    str, dict[str, Any]
] = {  # [author code]; a space without a line has the one of the DARTS space
    "darts": {"kappa": 0.06},
    "s1": {"kappa": 0.12},
    "s2": {"kappa": 0.24},
    "s3": {"kappa": 0.48},
    "s4": {"kappa": 0.96},
    "nasbench201": {"kappa": 0.04, "entropy": "sum", "warmup": 0.2},
}


@marked(PRESETS)
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
    """A softmax whose temperature T falls until the supernet is nearly the derived network. The
    alpha step adds a gradient that a cold softmax no longer has.

    Args:
        noise: addition to the alpha step: the gradient of softmax(a) (gradient), normal noise on
            the alphas (gaussian), Gumbel noise on the alphas (gumbel), or nothing (none).
        sigma: standard deviation of the normal noise, in units of the alphas.
        temperature: rule by which T changes: by the entropy of the edges (adaptive), with the
            epochs (exponential, geometric), up and down (cyclic), or not at all (constant).
        kappa: factor of the entropy in the adaptive rule; a larger one cools faster.
        entropy: entropy that the adaptive rule reads, in nats: the mean over the edges, or their
            sum.
        interval: time between two updates of the adaptive rule: epochs (5), or a share of the
            search (0.1).
        delta: growth of the exponential rule per epoch of a search of 50; a larger one cools
            faster.
        cyclic_delta: growth of the cyclic rule per epoch of a search of 50; a larger one cools more
            in each cycle.
        hot: temperature at the start; the constant rule stays there.
        cold: temperature that the geometric rule would reach an epoch after the last.
        warmup: time at the start in which the alphas rest and the adaptive and the exponential rule
            stay at hot: epochs (5), or a share of the search (0.1).
        freeze: let the alphas rest in the warm-up.

    Returns:
        The patch of the method.
    """
    begin, updates = span(warmup, "stdarts.warmup"), lasting(interval, "stdarts.interval")
    rules: dict[str, Scalar] = {
        "adaptive": remembered("temperature"),
        "exponential": exponential(begin, delta, hot),
        "geometric": geometric(hot, cold),
        "cyclic": cyclic(cyclic_delta, hot),
        "constant": constant(hot),
    }
    rule = rules[temperature]
    noises = {"gaussian": gaussian(sigma), "gumbel": gumbel, "none": None}
    return Patch(
        "stdarts",
        relax=sparse_noisy_softmax(rule)
        if noise == "gradient"
        else sparse_softmax(rule, noises[noise]),
        scalars={"temperature": rule},
        memory={"temperature": lambda: EntropyAdaptive(kappa, entropy, begin, updates, hot)}
        if temperature == "adaptive"
        else {},
        alpha_from=begin if freeze else None,
        lengths=(begin, updates) if temperature == "adaptive" else (begin,),
        alphas={"decay": 0.0},  # the authors' own choice: DARTS has 1e-3
        with_rate=(
            "init",
        ),  # the temperature follows from it, and must keep its proportion to a step
    )


def cooled(context: Context, growth: float, hot: float) -> float:
    """The temperature at which ``exp(E[max(0, a)] / T)`` has grown to ``1 + growth``, for alphas that start as ``init * N(0, 1)``:
    ``T = c / ln(1 + growth)`` with c = init / sqrt(2 pi), the authors' 0.000399 at 1e-3. ``hot`` where nothing has grown."""
    if context.init <= 0:
        raise ValueError(
            "the temperature of stdarts follows from the scale the alphas start with: set alphas.init above 0"
        )
    return context.init / math.sqrt(2 * math.pi) / math.log1p(growth) if growth > 0 else hot


def epochs_of_50(context: Context, epoch: int) -> float:
    """The rules count epochs of a search of 50, so that they reach the same temperature in a search of any length."""
    return 50 * epoch / context.t.epochs


def exponential(begin: When, delta: float, hot: float) -> Scalar:
    """``T_k = c / ln(1 + delta k)``, k the epochs from ``begin`` on; ``hot`` before."""

    def at(context: Context) -> float:
        return cooled(
            context,
            delta * epochs_of_50(context, context.t.epoch + 1 - begin(context.t.epochs)),
            hot,
        )

    return at


def cyclic(delta: float, hot: float) -> Scalar:
    """PCD-DARTS: the same with k = 0, 1, ..., 5, ..., 1 over and over, every 10 epochs of 50; in the last fifth k grows to 10."""

    def at(context: Context) -> float:
        epoch, coming = (epochs_of_50(context, context.t.epoch + ahead) for ahead in (0, 1))
        k = min(epoch % 10, 10 - epoch % 10) if epoch < 40 else coming - 40
        return cooled(context, delta * k, hot)

    return at


class EntropyAdaptive:
    """EDD-DARTS: every ``every`` epochs from ``begin`` on, and in the last fifth each epoch, with H the entropy (nats) of ``softmax(a / T)``
    over all edges: ``delta = (s H + delta) / 2`` with s = kappa, in the last fifth twice that, then ``T = c / ln(1 + delta k)`` at
    the k-th time. A `Scalar`: the temperature of any epoch so far."""

    def __init__(self, kappa: float, over: str, begin: When, every: When, hot: float) -> None:
        self.kappa, self.over, self.begin, self.every, self.hot = kappa, over, begin, every, hot
        self.delta = 0.0
        self.growths: list[tuple[int, float]] = []  # first epoch, delta * k

    def __call__(self, context: Context) -> float:
        growth = next(
            (growth for epoch, growth in reversed(self.growths) if epoch <= context.t.epoch), 0.0
        )
        return cooled(context, growth, self.hot)

    def bind(self, state: State) -> None:
        pass

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        pass

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        coming, epochs = context.t.epoch + 1, context.t.epochs
        first, late = max(self.begin(epochs), 1), share(4, of=5)(epochs)
        if first <= coming < epochs and (
            (coming - first) % self.every(epochs) == 0 or coming >= late
        ):
            strength = self.kappa * (2 if coming >= late else 1)
            self.delta = (strength * self.entropy(state, context) + self.delta) / 2
            self.growths.append((coming, self.delta * (len(self.growths) + 1)))
        return {}

    def entropy(self, state: State, context: Context) -> float:
        """Nats; the mean over the edges, or their sum."""
        groups, t = context.groups, self(context)
        mixture = Mixture(
            {
                name: tempered_softmax(state.alphas[name].detach(), group, t)
                for name, group in groups.items()
            }
        )
        edges = sum(bool(edge.primitives) for group in groups.values() for edge in group.edges)
        return mean_entropy(mixture, groups) * (edges if self.over == "sum" else 1)

    def state_dict(self) -> dict[str, Any]:
        return {"delta": self.delta, "growths": [list(entry) for entry in self.growths]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.delta, self.growths = (
            saved["delta"],
            [(epoch, growth) for epoch, growth in saved["growths"]],
        )
