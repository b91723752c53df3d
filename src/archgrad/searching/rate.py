"""``alphas.lr auto``: the published learning rate of the alphas, fitted to the length of a search.

A published rate belongs to a published length; for DARTS 3e-4 belongs to 19,500 steps. In a few
hundred steps at that rate the alphas stay close to their first values, and the genotype is noise.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from archgrad.arch.space import AUTO, AlphaSettings
from archgrad.searching.types import Plan

if TYPE_CHECKING:
    from archgrad.searching.types import Method

STRETCH = 3.0
"""The constant c of the rule. `benchmarks/alpha_rate.py` set it by the entropy of darts alone."""

FAR_BELOW = 3.0
"""The factor below the fitting rate at which a rate of the user leads to a remark."""


class Length(NamedTuple):
    """Give the length of a published search on CIFAR-10.

    Attributes:
        epochs: Number of epochs.
        batch: Batch size of a step.
        images: Number of images of the training half.
    """

    epochs: int = 50
    batch: int = 64
    images: int = 25_000

    @property
    def plan(self) -> Plan:
        """The length as a plan."""
        return Plan(self.epochs, self.images // self.batch)


class Published(NamedTuple):
    """Hold the published rate of a method in a space.

    Attributes:
        lr: Published learning rate of the alphas.
        lengths: Published lengths, one for each method that is composed.
        auto: Whether a search fits the rate to its own length.
    """

    lr: float
    lengths: tuple[Plan, ...]
    auto: bool


def alpha_steps(method: Method, plan: Plan) -> int:
    """Return the number of alpha steps in a search of this length."""
    return sum(method.stepper.alpha_steps(method, plan, epoch) for epoch in range(plan.epochs))


def published_steps(method: Method, plan: Plan) -> int:
    """Return the number of alpha steps in the published search.

    A composition has the smallest number of its methods, so that no method's full length is
    stretched. If the user named an epoch that the published length does not have, the number is
    that of as many epochs as this search has.
    """
    assert method.published is not None
    return min(
        alpha_steps(
            method, length if _fits(method, length) else length._replace(epochs=plan.epochs)
        )
        for length in method.published.lengths
    )


def rate_factor(method: Method, plan: Plan) -> float:
    """Return ``max(1, 1 + c * (published alpha steps / alpha steps here - 1))``.

    It is exactly 1 at the published length, and where no alphas move.
    """
    here = alpha_steps(method, plan)
    return max(1.0, 1.0 + STRETCH * (published_steps(method, plan) / here - 1.0)) if here else 1.0


def fitted_rate(method: Method, plan: Plan) -> float | None:
    """Return the rate that ``auto`` gives to a search of this length.

    It is None if no published rate is known.
    """
    return method.published and method.published.lr * rate_factor(method, plan)


def fitted_settings(method: Method, plan: Plan) -> AlphaSettings:
    """Return the alphas' settings in a search of this length.

    An automatic rate, and the settings that grow with it (`Patch.with_rate`), are `rate_factor`
    times the published ones.
    """
    if not (method.published and method.published.auto):
        return method.alphas
    by = rate_factor(method, plan)
    return replace(
        method.alphas,
        **{name: getattr(method.alphas, name) * by for name in ("lr", *method.patch.with_rate)},
    )


def settings_before_fit(method: Method) -> dict[str, Any]:
    """Return the alphas' settings before the length of a search is known.

    An automatic rate is "auto", and settings that grow with it are left out.
    """
    if not (method.published and method.published.auto):
        return asdict(method.alphas)
    return {
        name: AUTO if name == "lr" else value
        for name, value in asdict(method.alphas).items()
        if name not in method.patch.with_rate
    }


def rate_lines(method: Method, plan: Plan) -> list[str]:
    """Return the lines about the alphas' rate that a search prints before its first step.

    There are none if no alphas move.
    """
    here, fitted, usual = alpha_steps(method, plan), method.alpha_settings(plan), method.alphas
    if not here:
        return []
    published = (
        f" (published: {published_steps(method, plan):,} at {method.published.lr:g})"
        if method.published
        else ""
    )
    wider = f", from {fitted.init:.3g} * N(0, 1)" if fitted.init != usual.init else ""
    lines = [f"alphas: {here:,} steps at {fitted.lr:.3g}{wider}{published}"]
    fits = fitted_rate(method, plan)
    if fits is not None and fitted.lr * FAR_BELOW < fits:
        lines.append(
            f"alphas.lr {fitted.lr:g} is less than a third of {fits:.3g}, the rate that fits "
            f"{here:,} alpha steps, so the alphas may hardly move: set --alphas.lr auto"
        )
    return lines


def _fits(method: Method, plan: Plan) -> bool:
    try:
        method.check(plan.epochs)
    except ValueError:
        return False
    return True
