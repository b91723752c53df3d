"""Everything that changes during a search, in one place: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from archgrad.arch import Alphas, Batch, Genotype
from archgrad.finite import Trace
from archgrad.memory import Memory
from archgrad.patch import Decision
from archgrad.search_space import Space
from archgrad.seeds import forked, generator, place_seed


class Plan(NamedTuple):
    """How long the search is: every schedule depends on it, so another plan at resume is refused."""

    epochs: int
    steps: int  # batches of the training half: one pass over it
    images: tuple[int, int] = (0, 0)  # of the training and of the validation half; 0 where they are not known
    alpha_split: str = "val"  # of which of them alphas learn


class Data(Protocol):
    """What a search reads: the splits "train", "val" and "test"."""

    def count(self, split: str = "train") -> int:
        """Images of a split."""

    def steps(self, split: str = "train") -> int: ...

    def batches(self, split: str, epoch: int, start: int = 0, steps: int | None = None) -> Iterator[Batch]:
        """Shuffled and augmented; each batch is a function of (seed, split, epoch, step), so it may start anywhere."""

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        """As they are, in one fixed shuffled order, so that a batch has images of many classes: it may be normalised by its own statistics.

        No batch is promised to have images of all classes. Recorded gaps depend on the order, so it stays."""


@dataclass
class State:
    """A running search. Built by `Method.build` alone; changed by the stepper, the stages, the memories and the loop alone."""

    seed: int
    plan: Plan
    device: torch.device
    precision: str  # "32" | "bf16": of the supernet's forward
    space: Space
    nets: dict[str, nn.Module] = field(default_factory=dict)
    alphas: Alphas = field(default_factory=dict)
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    born: int = 0  # the epoch this supernet began, and the one it ends
    dies: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)  # running sums of this epoch's step metrics
    counts: dict[str, int] = field(default_factory=dict)
    genotype: Genotype | None = None  # what an evaluation network runs (CDARTS)
    decisions: list[Decision] = field(default_factory=list)
    stopped: str | None = None  # why the epochs ended early, and how many there were
    ended: int | None = None
    identity: dict[str, Any] = field(default_factory=dict)  # of the method that built it (`Method.identity`)
    recompute: str = "none"  # "none" | "cells": whose activations are made again in the backward; no result depends on it
    trace: Trace = field(default_factory=Trace)  # of this process alone: a state that is saved is fine

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(own.shape)}" for name, own in self.alphas.items())
        place = f"epoch {self.epoch} of {self.plan.epochs}, step {self.step}"
        return f"<State at {place}, seed {self.seed}, {self.device}; alphas {shapes}>"

    def averages(self) -> dict[str, float]:
        """This epoch's step metrics so far, averaged."""
        return {name: self.sums[name].item() / self.counts[name] for name in self.sums}

    def add(self, values: dict[str, Tensor]) -> None:
        """Adds one step's metrics to the running sums, on the device: reading them every step would stop a GPU."""
        for name, value in values.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1


def seeded(net: nn.Module, seed: int) -> nn.Module:
    """Every module re-initialised by its own ``reset_parameters`` under a seed made of its name: two nets of one seed agree wherever
    they have the same module, whatever else they have."""
    with forked(seed, "init"):
        for name, module in net.named_modules():
            if module._parameters and callable(reset := getattr(module, "reset_parameters", None)):
                torch.manual_seed(place_seed(seed, "init", name))
                reset()
    return net


def normal_alphas(space: Space, extra: dict[str, Any], scale: float, seed: int, device: torch.device) -> Alphas:
    """``scale * N(0, 1)`` per group and per extra kind of logits, each seeded by its name; padding is 0."""
    alphas: Alphas = {}
    for name, group in space.groups.items():
        rng = generator(seed, "alphas", name)
        alphas[name] = scale * torch.randn(len(group.edges), group.width, generator=rng) * group.mask()
        for kind, shape in extra.items():
            alphas[f"{name}/{kind}"] = scale * torch.randn(shape(group), generator=generator(seed, "alphas", name, kind))
    return {name: a.to(device).requires_grad_() for name, a in alphas.items()}
