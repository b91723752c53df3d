"""A data set of noise that keeps the protocol `SearchData`: every batch is a function of its place. Class k is brighter in channel k % C."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from archgrad.arch.passes import Batch
from archgrad.seeds import generator


@dataclass(frozen=True)
class Noise:
    classes: int = 4
    in_channels: int = 3
    size: int = 8
    batch: int = 8
    per_epoch: int = 3
    seed: int = 0
    dtype: torch.dtype = torch.float32

    def count(self, split: str = "train") -> int:
        return self.batch * self.per_epoch

    def steps(self, split: str = "train") -> int:
        return self.per_epoch

    def batches(
        self, split: str, epoch: int, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        for step in range(start, start + (self.per_epoch - start if steps is None else steps)):
            yield self._at(split, epoch, step)

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        yield self._at(split, "evaluation", 0)

    def _at(self, split: str, *place: object) -> Batch:
        rng = generator(self.seed, split, *place)
        labels = torch.randint(self.classes, (self.batch,), generator=rng)
        images = torch.randn(
            self.batch, self.in_channels, self.size, self.size, generator=rng, dtype=self.dtype
        )
        images[torch.arange(self.batch), labels % self.in_channels] += labels[:, None, None].to(
            self.dtype
        )
        return Batch(
            images, labels, (place[-1] * self.batch + torch.arange(self.batch)) % self.count()
        )  # type: ignore[operator]
