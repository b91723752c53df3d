"""The early stop of DARTS-ES (arXiv 1909.09656, section 4.3).

A memory measures the curvature over the alphas, stops the search when it rises, and keeps the
genotype from before the rise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from archgrad.arch.genotype import Genotype
from archgrad.components.context import Context
from archgrad.components.schedules import When
from archgrad.diagnostics.curvature import describe_rise, supernet_curvature
from archgrad.searching.types import Decision, Memory, Method, SearchData, State


class EigenvalueHistory(Memory):
    """The largest eigenvalue and the genotype after each epoch with alpha steps, over two windows.

    An eigenvalue that is not finite is None. The history is that of one supernet. Once the
    eigenvalue has risen, the memory also has the genotype from before the rise.

    Args:
        window: Epochs of a window, as a function of the epochs of the search.
        ratio: Quotient of the earlier mean and the present one, below which it is a rise.
        start: Earliest epoch whose genotype may be taken.
        images: Number of validation images of a measurement.
    """

    def __init__(self, window: When, ratio: float, start: When, images: int) -> None:
        self.window, self.ratio, self.start, self.images = window, ratio, start, images
        self.values: list[float | None] = []
        self.genotypes: list[dict[str, Any]] = []
        self.before_rise: dict[str, Any] | None = None

    def bind(self, state: State) -> None:
        # Another supernet, or this one with fewer alphas, has another Hessian of another size.
        self.values, self.genotypes = [], []

    def after_epoch(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> dict[str, Any]:
        if not method.moves_alphas(state):
            return {}
        progress = context.progress
        window = self.window(progress.epochs)
        back = window + window // 2  # epochs since the middle of the earlier window
        value = self.measure(method, state, data, context)
        self.values = [*self.values, value][-2 * window :]
        self.genotypes = [*self.genotypes, method.genotype(state).to_json()][-2 * window :]
        reason = describe_rise(self.values, window, self.ratio)
        if (
            not reason
            or progress.epoch - back < self.start(progress.epochs)
            or progress.epoch + 1 == progress.epochs
        ):
            return {"eigenvalue": value}
        self.before_rise = {
            "after_epochs": progress.epoch - back + 1,
            "genotype": self.genotypes[-1 - back],
        }
        return {"eigenvalue": value, "stop": reason}

    def measure(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> float | None:
        """Return the largest eigenvalue on some validation images; None if it is not finite."""
        value = supernet_curvature(
            state.nets["search"],
            state.alphas,
            lambda alphas: method.mixture(alphas, context),
            context.groups,
            [next(iter(data.evaluation("val", self.images, self.images)))],
            state.seed,
            "curvature",
            context.progress.epoch,
            of=method.loss,
            way_out="set robustdarts.stop to false",
        )
        return value if math.isfinite(value) else None

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "genotypes": self.genotypes, "found": self.before_rise}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.values, self.genotypes = list(saved["values"]), list(saved["genotypes"])
        self.before_rise = saved["found"]


def before_the_rise(
    method: Method, state: State, data: SearchData, decisions: list[Decision]
) -> Iterator[Decision]:
    """Yield one decision, the genotype from before the rise; yield nothing if there was no rise.

    Without a decision the search selects by its last alphas.
    """
    found = state.memory["curvature"].state_dict()["found"]
    if found and not decisions:
        yield Decision(
            Genotype.from_json(found["genotype"]), {"after_epochs": found["after_epochs"]}
        )
