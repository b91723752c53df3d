"""``alphas.lr auto``: the published learning rate of the alphas, fitted to the number of alpha steps that a search has.

A published rate belongs to a published length, for DARTS 3e-4 to 19,500 steps. In a few hundred steps at that rate the alphas stay where they
began, and the genotype is the noise of their initial values.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from archgrad.arch.space import AUTO, AlphaSettings
from archgrad.searching.types import Plan

if TYPE_CHECKING:
    from archgrad.searching.types import Method

STRETCH = 3.0
"""c of the rule, fixed by `benchmarks/alpha_rate.py` on the entropy of darts alone."""

LOW = 3.0
"""A rate of the user that is so many times below the one that fits is remarked on."""


class Length(NamedTuple):
    """Of a published search on CIFAR-10: ``images`` of the training half, ``batch`` of a step."""

    epochs: int = 50
    batch: int = 64
    images: int = 25_000

    @property
    def plan(self) -> Plan:
        return Plan(self.epochs, self.images // self.batch)


class Published(NamedTuple):
    """The published rate of a method in a space, and the published lengths, one of each method that is composed. ``auto``: whether a search
    fits the rate to its own length."""

    lr: float
    lengths: tuple[Plan, ...]
    auto: bool


def alpha_steps(method: Method, plan: Plan) -> int:
    """How many alpha steps a search of this length has."""
    return sum(method.stepper.alpha_steps(method, plan, epoch) for epoch in range(plan.epochs))


def published_steps(method: Method, plan: Plan) -> int:
    """How many alpha steps the published search has: of a composition the fewest, so that no method's own full length is stretched.

    An epoch that the user named and that the published length does not have is counted over as many epochs as this search has.
    """
    assert method.published is not None
    return min(
        alpha_steps(method, own if _fits(method, own) else own._replace(epochs=plan.epochs))
        for own in method.published.lengths
    )


def factor(method: Method, plan: Plan) -> float:
    """``max(1, 1 + c * (published alpha steps / alpha steps here - 1))``; 1 where no alphas move, and exactly 1 at the published length."""
    here = alpha_steps(method, plan)
    return max(1.0, 1.0 + STRETCH * (published_steps(method, plan) / here - 1.0)) if here else 1.0


def fitting(method: Method, plan: Plan) -> float | None:
    """The rate that ``auto`` gives to a search of this length; None where no published one is known."""
    return method.published and method.published.lr * factor(method, plan)


def settings(method: Method, plan: Plan) -> AlphaSettings:
    """The alphas' settings in a search of this length: where the rate is automatic, it and what grows with it (`Patch.with_rate`) are
    `factor` times the published ones."""
    if not (method.published and method.published.auto):
        return method.alphas
    by = factor(method, plan)
    return replace(
        method.alphas,
        **{name: getattr(method.alphas, name) * by for name in ("lr", *method.patch.with_rate)},
    )


def as_said(method: Method) -> dict[str, Any]:
    """The alphas' settings before the length of a search is known: an automatic rate is ``auto``, and what grows with it is left out."""
    if not (method.published and method.published.auto):
        return asdict(method.alphas)
    return {
        name: AUTO if name == "lr" else value
        for name, value in asdict(method.alphas).items()
        if name not in method.patch.with_rate
    }


def sentences(method: Method, plan: Plan) -> list[str]:
    """What a search says of it before its first step: nothing where no alphas move."""
    here, own, usual = alpha_steps(method, plan), method.alpha_settings(plan), method.alphas
    if not here:
        return []
    published = (
        f" (published: {published_steps(method, plan):,} at {method.published.lr:g})"
        if method.published
        else ""
    )
    wider = f", from {own.init:.3g} * N(0, 1)" if own.init != usual.init else ""
    found = [f"alphas: {here:,} steps at {own.lr:.3g}{wider}{published}"]
    fits = fitting(method, plan)
    if fits is not None and own.lr * LOW < fits:
        found.append(
            f"alphas.lr {own.lr:g} is less than a third of {fits:.3g}, the rate that fits {here:,} alpha steps, so the alphas may hardly move: "
            "set --alphas.lr auto"
        )
    return found


def _fits(method: Method, plan: Plan) -> bool:
    try:
        method.check(plan.epochs)
    except ValueError:
        return False
    return True
