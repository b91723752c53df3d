"""Helpers for the tests of observers: data that may fail, kept rows, and the state that a measurement could change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from archgrad.arch.passes import Batch
from fakes import Noise


@dataclass(frozen=True)
class Several(Noise):
    """Three batches to evaluate on; breaks after ``breaks`` of them."""

    breaks: int = 9

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        for k in range(3):
            if k == self.breaks:
                raise OSError("the disk is gone")
            yield self._at(split, "evaluation", k)


class Rows:
    """Keep the rows of the metrics."""

    def __init__(self) -> None:
        self.kept: list[dict] = []

    def on_step(self, *_) -> None: ...
    def on_decision(self, *_) -> None: ...

    def on_epoch(self, method, state, data, row) -> None:
        self.kept.append(
            {name: value for name, value in row.items() if name not in ("seconds", "cpu_seconds")}
        )


def trace(state, net):
    """Return the state that a measurement could change."""
    return {
        "alphas": {name: a.detach().clone() for name, a in state.alphas.items()},
        "net": {name: value.clone() for name, value in net.state_dict().items()},
        "mode": [module.training for module in net.modules()],
        "asks": [t.requires_grad for t in (*net.parameters(), *state.alphas.values())],
        "gradients": [t.grad for t in (*net.parameters(), *state.alphas.values())],
        "random": torch.get_rng_state(),
        "place": (
            state.epoch,
            state.step,
            state.born,
            state.dies,
            state.stopped,
            len(state.decisions),
        ),
    }


def assert_equal(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
