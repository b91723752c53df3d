"""The types that the pieces of a search share. They refer to each other, so they stand in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from archgrad.arch.edges import Alphas, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss
from archgrad.arch.space import AlphaSettings, Space, WeightSettings
from archgrad.components.context import Context, Forward, Progress
from archgrad.components.hypergradient import Hypergradient
from archgrad.components.losses import Term
from archgrad.components.schedules import When
from archgrad.cost.limits import Limits
from archgrad.searching.finite import Trace

if TYPE_CHECKING:
    from archgrad.searching.patch import Patch
    from archgrad.searching.rate import Published

Relaxation = Callable[[Alphas, Context], Mixture]
Reshape = Callable[[Mixture, Alphas, Context], Mixture]
LossAt = Callable[[Mixture], Tensor]
Perturb = Callable[[Mixture, LossAt, Context], list[tuple[float, Mixture]]]
"""Mixtures to train the weights at, each with its share of the loss (SmoothDARTS)."""
Select = Callable[[Mixture, Groups, Limits], Genotype]
"""What is read off a mixture; it keeps to the limits."""
Values = dict[str, Tensor]
"""Scalar tensors by the name of a metric."""


class Plan(NamedTuple):
    """How long the search is: every schedule depends on it, so another plan at resume is refused."""

    epochs: int
    steps: int  # batches of the training half: one pass over it
    images: tuple[int, int] = (
        0,
        0,
    )  # of the training and of the validation half; 0 where they are not known
    alpha_split: str = "val"  # of which of them alphas learn


class Data(Protocol):
    """What a search reads: the splits "train", "val" and "test"."""

    def count(self, split: str = "train") -> int:
        """Images of a split."""

    def steps(self, split: str = "train") -> int: ...

    def batches(
        self, split: str, epoch: int, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        """Shuffled and augmented; each batch is a function of (seed, split, epoch, step), so it may start anywhere."""

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        """As they are, in one fixed shuffled order, so that a batch has images of many classes: it may be normalised by its own statistics.

        No batch is promised to have images of all classes. Recorded gaps depend on the order, so it stays."""


class Decision(NamedTuple):
    """One step of a `Finalise`: the genotype as decided so far, and whatever it needs (JSON-able) to go on from here."""

    genotype: Genotype
    note: dict[str, Any]


Finalise = Callable[["Method", "State", "Data", list[Decision]], Iterator[Decision]]
"""What happens after the last epoch. Goes on from the decisions already taken: a generator's frame cannot be saved."""
Found = dict[str, Tensor | None]
Transform = Callable[[Found, Forward], Found]
"""The gradients of the supernet weights by name, and the pass they come from -> those the weights are moved by; None rests (OLES)."""
Carry = Callable[["State", "State"], None]
Ahead = Callable[["Method", "State"], float]
"""Forward passes of an image that are still to come beside the steps, to tell how long a search takes; a backward pass counts as two."""


class Stage(NamedTuple):
    """At ``begin`` the search goes on in another space. ``carry(old, new)`` hands over what should live on. Alphas move from ``alpha_from``
    on, an epoch of the whole search (None: at once). ``continues``: the supernet goes on living, and schedules of its life with it. ``set_by``:
    the option that decides how many stages there are, for messages."""

    begin: When
    change: Callable[[Method, State], Space]
    carry: Carry | None = None
    alpha_from: When | None = None
    continues: bool = False
    set_by: str = ""


class Method(Protocol):
    """The part of a method that the pieces of a search may read. `archgrad.searching.method.Method` is the whole.

    Every property is the patch's, or DARTS's where the patch leaves it open.
    """

    @property
    def name(self) -> str: ...

    @property
    def patch(self) -> Patch: ...

    @property
    def base(self) -> Space: ...

    @property
    def space(self) -> Space: ...

    @property
    def published(self) -> Published | None: ...

    @property
    def stepper(self) -> Stepper: ...

    @property
    def select(self) -> Select: ...

    @property
    def loss(self) -> Loss: ...

    @property
    def weight_terms(self) -> tuple[Term, ...]: ...

    @property
    def alpha_terms(self) -> tuple[Term, ...]: ...

    @property
    def train_alpha_terms(self) -> tuple[Term, ...]: ...

    @property
    def hypergradient(self) -> Hypergradient: ...

    @property
    def alpha_split(self) -> str: ...

    @property
    def stages(self) -> tuple[Stage, ...]: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def perturb(self) -> Perturb | None: ...

    @property
    def order(self) -> str: ...

    @property
    def weights(self) -> WeightSettings: ...

    @property
    def alphas(self) -> AlphaSettings: ...

    @property
    def alpha_settings(self) -> Callable[[Plan], AlphaSettings]: ...

    @property
    def identity(self) -> Callable[[Plan], dict[str, Any]]: ...

    def start(
        self, *, seed: int, epochs: int, steps: int, images: tuple[int, int] = ..., device: torch.device | str = ...,
        precision: str = ..., recompute: str = ...,
    ) -> State: ...  # fmt: skip

    def build(self, state: State, space: Space) -> None: ...

    def begin_epoch(self, state: State) -> None: ...

    def step(self, state: State, train: Batch, val: Batch) -> Values: ...

    def end_epoch(self, state: State, data: Data) -> dict[str, Any]: ...

    def finalise(self, state: State, data: Data) -> Iterator[Decision]: ...

    def steps(self, state: State) -> int: ...

    def done(self, state: State) -> int: ...

    def left(self, state: State) -> int: ...

    def phase(self, state: State) -> str: ...

    def progress(self, state: State) -> Progress: ...

    def context(self, state: State, phase: str) -> Context: ...

    def mixture(self, alphas: Alphas, context: Context) -> Mixture: ...

    def readout(self, state: State) -> Mixture: ...

    def genotype(self, state: State) -> Genotype: ...

    def selected(self, state: State, limits: Limits | None = None) -> Genotype: ...

    def changed(self, **fields: Any) -> Method: ...

    def check(self, epochs: int) -> None: ...

    def alpha_from(self, epochs: int) -> int: ...

    def moves_alphas(self, state: State) -> bool: ...

    def moves_alphas_in(self, epoch: int, epochs: int) -> bool: ...


class Memory(Protocol):
    """Lives in ``State.memory`` under its patch's name for it; pieces read it from ``Context.memory``."""

    def bind(self, state: State) -> None:
        """Called once the nets of ``state`` are built: at the start, by every stage, and before a resumed state is loaded. ValueError where
        this search cannot have such a memory."""

    def size(self) -> int:
        """Bytes it will hold at most, once bound; said before the search starts."""

    def after_step(self, forward: Forward) -> None:
        """Sees the pass of a half of the step (``forward.context.phase``) after that half's update."""

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        """What it returns stands in the epoch's row of the metrics; a "stop" in it (a reason) ends the epochs. ``context`` is the readout's,
        of the epoch that ends."""

    def state_dict(self) -> dict[str, Any]:
        """Dicts, lists, tensors and Python scalars only."""

    def load_state_dict(self, saved: dict[str, Any]) -> None: ...


class Stepper(Protocol):
    """How a step is made of the same pieces. ``reads`` names the fields of `Patch` it honours: setting another is refused."""

    reads: frozenset[str]

    def nets(self, space: Space) -> dict[str, nn.Module]:
        """Fresh networks by name; "search" is the one whose mixture the alphas give."""

    def optimizers(self, method: Method, state: State) -> dict[str, torch.optim.Optimizer]: ...

    def steps(self, method: Method, plan: Plan, epoch: int) -> int:
        """Steps of an epoch."""

    def alpha_steps(self, method: Method, plan: Plan, epoch: int) -> int:
        """Steps of an epoch that move alphas."""

    def begin_epoch(self, method: Method, state: State) -> None:
        """Before the first step of an epoch, again where a search goes on from there."""

    def phase(self, method: Method, state: State) -> str:
        """The name of what happens now, for the progress bar and the metrics."""

    def step(self, method: Method, state: State, train: Batch, val: Batch) -> Values:
        """One step; scalar tensors for the metrics."""


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
    sums: dict[str, Tensor] = field(
        default_factory=dict
    )  # running sums of this epoch's step metrics
    counts: dict[str, int] = field(default_factory=dict)
    genotype: Genotype | None = None  # what an evaluation network runs (CDARTS)
    decisions: list[Decision] = field(default_factory=list)
    stopped: str | None = None  # why the epochs ended early, and how many there were
    ended: int | None = None
    identity: dict[str, Any] = field(
        default_factory=dict
    )  # of the method that built it (`Method.identity`)
    recompute: str = "none"  # "none" | "cells": whose activations are made again in the backward; no result depends on it
    trace: Trace = field(
        default_factory=Trace
    )  # of this process alone: a state that is saved is fine

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
