"""The memory that sees the curvature of the alphas rise, and keeps what was derived before (DARTS-ES, arXiv 1909.09656, section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from archgrad.arch.genotype import Genotype
from archgrad.components.context import Context, Forward
from archgrad.components.schedules import When
from archgrad.diagnostics.curvature import rise, supernet_curvature
from archgrad.searching.types import Data, Decision, Method, State


class Curvature:
    """The eigenvalue (None: not finite) and the genotype after each epoch with alpha steps of this supernet, as far back as two windows; once
    the eigenvalue rose, the genotype from before."""

    def __init__(self, window: When, ratio: float, start: When, images: int) -> None:
        self.window, self.ratio, self.start, self.images = window, ratio, start, images
        self.values: list[float | None] = []
        self.genotypes: list[dict[str, Any]] = []
        self.found: dict[str, Any] | None = None

    def bind(self, state: State) -> None:
        self.values, self.genotypes = (
            [],
            [],
        )  # of another supernet, or of this one with fewer alphas: another Hessian, of another size

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        pass

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        if not method.moves_alphas(state):
            return {}
        t, window = context.t, self.window(context.t.epochs)
        back = window + window // 2  # epochs since the middle of the window before
        value = self.measure(method, state, data, context)
        self.values = [*self.values, value][-2 * window :]
        self.genotypes = [*self.genotypes, method.genotype(state).to_json()][-2 * window :]
        reason = rise(self.values, window, self.ratio)
        if not reason or t.epoch - back < self.start(t.epochs) or t.epoch + 1 == t.epochs:
            return {"eigenvalue": value}
        self.found = {"after_epochs": t.epoch - back + 1, "genotype": self.genotypes[-1 - back]}
        return {"eigenvalue": value, "stop": reason}

    def measure(self, method: Method, state: State, data: Data, context: Context) -> float | None:
        batch, place = (
            next(iter(data.evaluation("val", self.images, self.images))),
            (state.seed, "curvature", context.t.epoch),
        )
        net, groups = state.nets["search"], context.groups
        value = supernet_curvature(
            net,
            state.alphas,
            lambda alphas: method.mixture(alphas, context),
            groups,
            [batch],
            *place,
            of=method.loss,
        )
        return value if math.isfinite(value) else None

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "genotypes": self.genotypes, "found": self.found}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.values, self.genotypes, self.found = (
            list(saved["values"]),
            list(saved["genotypes"]),
            saved["found"],
        )


def before_the_rise(
    method: Method, state: State, data: Data, decisions: list[Decision]
) -> Iterator[Decision]:
    """The genotype that was derived last before the eigenvalue rose; without a rise that of the end."""
    found = state.memory["curvature"].state_dict()["found"]
    if found and not decisions:
        yield Decision(
            Genotype.from_json(found["genotype"]), {"after_epochs": found["after_epochs"]}
        )
