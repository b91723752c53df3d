"""The types that the parts of a search share.

They stand in one file because they refer to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from archgrad.arch.edges import Alphas, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss, Metric
from archgrad.arch.space import AlphaSettings, Space, WeightSettings
from archgrad.components.context import Context, Forward, Progress
from archgrad.components.gradients import Gradients
from archgrad.components.hypergradient import Hypergradient
from archgrad.components.losses import Term
from archgrad.components.perturb import LossAt
from archgrad.components.schedules import When
from archgrad.cost.limits import Limits
from archgrad.searching.finite import Trace

if TYPE_CHECKING:
    from archgrad.searching.patch import Patch
    from archgrad.searching.rate import Published

Relaxation = Callable[[Alphas, Context], Mixture]
Reshape = Callable[[Mixture, Alphas, Context], Mixture]
Perturb = Callable[[Mixture, LossAt, Context], list[tuple[float, Mixture]]]
"""(mixture, loss at a mixture, context) -> the mixtures that the weights are trained at.

Each of them comes with its share of the loss (SmoothDARTS).
"""
Select = Callable[[Mixture, Groups, Limits], Genotype]
"""(mixture, groups, limits) -> the selected genotype, which is within the limits."""
Transform = Callable[[Gradients, Forward], Gradients]
"""(gradients of the supernet weights by name, the pass they come from) -> changed gradients.

The weights are moved by the changed gradients, and a weight whose gradient is None stays (OLES).
"""
Values = dict[str, Tensor]
"""Name of a metric -> scalar tensor."""


class Plan(NamedTuple):
    """Describe the length of a search.

    Every schedule depends on it, so a search cannot be resumed with another plan.

    Attributes:
        epochs: Number of epochs.
        steps: Number of batches in one pass over the training half.
        images: Number of images of the training half and of the validation half; 0 if unknown.
        alpha_split: Split that the alphas learn from: "val" or "train".
    """

    epochs: int
    steps: int
    images: tuple[int, int] = (0, 0)
    alpha_split: str = "val"


class SearchData(Protocol):
    """Give the images of a search, in the splits "train", "val" and "test"."""

    def count(self, split: str = "train") -> int:
        """Return the number of images of a split."""

    def steps(self, split: str = "train") -> int:
        """Return the number of batches of a split in one epoch."""

    def batches(
        self, split: str, epoch: int, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        """Yield shuffled and augmented batches to learn from.

        Each batch is a function of (seed, split, epoch, step), so that a search may resume at any
        step.

        Args:
            split: Name of the split.
            epoch: Index of the epoch, counted from 0.
            start: First step.
            steps: Number of batches; None: those of one epoch.
        """

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        """Yield batches of images that are not augmented, in one fixed shuffled order.

        Because of the order, a batch has images of many classes, so that its own statistics may
        normalise it. A batch need not have images of all classes. Recorded gaps depend on this
        order, so it does not change.

        Args:
            split: Name of the split.
            batch: Number of images in a batch.
            limit: Number of images in all, at most; None: all images of the split.
        """


class Decision(NamedTuple):
    """Record one step of a `Finalise`.

    Attributes:
        genotype: The genotype as it is decided so far.
        note: Values that the finalisation needs to go on from here, in JSON's types.
    """

    genotype: Genotype
    note: dict[str, Any]


Finalise = Callable[["Method", "State", "SearchData", list[Decision]], Iterator[Decision]]
"""(method, state, data, decisions already taken) -> the decisions that follow the last epoch.

It starts from the decisions already taken, because the frame of a generator cannot be saved.
"""
Carry = Callable[["State", "State"], None]
"""(state of the old space, state of the new space): copy the values that stay."""
Ahead = Callable[["Method", "State"], float]
"""(method, state) -> forward passes of an image that are still to come outside the steps.

A backward pass counts as two. The estimate of a search's duration reads this number.
"""


class Stage(NamedTuple):
    """Change the space of a search at an epoch.

    Attributes:
        begin: Epoch at which the stage begins.
        change: Function that gives the new space.
        carry: Function that copies values from the old state to the new one; None copies nothing.
        alpha_from: First epoch, of the whole search, in which the alphas of this stage move; None
            lets them move at once.
        continues: Whether the supernet and its schedules go on, instead of starting anew.
        set_by: Option that sets the number of stages, for error messages.
    """

    begin: When
    change: Callable[[Method, State], Space]
    carry: Carry | None = None
    alpha_from: When | None = None
    continues: bool = False
    set_by: str = ""


class Method(Protocol):
    """Show the part of `archgrad.searching.method.Method` that the parts of a search may read.

    A property has the value of the patch, or DARTS's value if the patch does not set it.
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
    def metrics(self) -> Mapping[str, Metric]: ...

    @property
    def weight_terms(self) -> tuple[Term, ...]: ...

    @property
    def alpha_terms(self) -> tuple[Term, ...]: ...

    @property
    def hypergradient(self) -> Hypergradient: ...

    @property
    def alpha_split(self) -> str: ...

    @property
    def stages(self) -> tuple[Stage, ...]: ...

    @property
    def limits(self) -> Limits: ...

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
        self,
        *,
        seed: int,
        epochs: int,
        steps: int,
        images: tuple[int, int] = ...,
        device: torch.device | str = ...,
        precision: str = ...,
        recompute: str = ...,
    ) -> State: ...

    def build(self, state: State, space: Space) -> None: ...

    def begin_epoch(self, state: State) -> None: ...

    def step(self, state: State, train: Batch, val: Batch) -> Values: ...

    def end_epoch(self, state: State, data: SearchData) -> dict[str, Any]: ...

    def finalise(self, state: State, data: SearchData) -> Iterator[Decision]: ...

    def steps(self, state: State) -> int: ...

    def steps_done(self, state: State) -> int: ...

    def steps_left(self, state: State) -> int: ...

    def phase(self, state: State) -> str: ...

    def progress(self, state: State) -> Progress: ...

    def context(self, state: State, phase: str) -> Context: ...

    def mixture(self, alphas: Alphas, context: Context) -> Mixture: ...

    def readout(self, state: State) -> Mixture: ...

    def genotype(self, state: State) -> Genotype: ...

    def selected_genotype(self, state: State, limits: Limits | None = None) -> Genotype: ...

    def with_patch_fields(self, **fields: Any) -> Method: ...

    def check(self, epochs: int) -> None: ...

    def alpha_from(self, epochs: int) -> int: ...

    def moves_alphas(self, state: State) -> bool: ...

    def moves_alphas_in(self, epoch: int, epochs: int) -> bool: ...


class Memory(Protocol):
    """Keep something from step to step in ``State.memory``, where ``Context.memory`` shows it.

    A class that inherits from `Memory` writes only the methods that it needs, because the methods
    here do nothing. The patch of a method names its memories (`Patch.memory`).
    """

    def bind(self, state: State) -> None:
        """Prepare for the networks of ``state``, which were just built.

        The search calls this at its start, at every stage, and before a checkpoint is loaded.

        Raises:
            ValueError: This search cannot have such a memory.
        """
        return None

    def size(self) -> int:
        """Return the largest number of bytes it will hold, once bound. The search prints it."""
        return 0

    def after_step(self, forward: Forward) -> None:
        """Read the pass of one half of a step, after that half's update.

        ``forward.context.phase`` names the half: "weight" or "alpha".
        """
        return None

    def after_epoch(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> dict[str, Any]:
        """Return columns for the epoch's row of the metrics.

        A column "stop", whose text is a reason, ends the epochs. ``context`` is that of the
        readout in the epoch that ends.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the values to save: dicts, lists, tensors and Python scalars only."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore the values that `state_dict` returned."""
        return None


class Stepper(Protocol):
    """Make a step from the same parts, possibly with other networks.

    Attributes:
        reads: Names of the fields of `Patch` that this stepper reads. A patch that sets another
            field is refused.
    """

    reads: frozenset[str]

    def nets(self, space: Space) -> dict[str, nn.Module]:
        """Return new networks by name. The alphas give the mixture of the network "search"."""

    def optimizers(self, method: Method, state: State) -> dict[str, torch.optim.Optimizer]:
        """Return new optimizers by name, for the networks and the alphas of ``state``."""

    def steps(self, method: Method, plan: Plan, epoch: int) -> int:
        """Return the number of steps of an epoch."""

    def alpha_steps(self, method: Method, plan: Plan, epoch: int) -> int:
        """Return the number of steps of an epoch that move alphas."""

    def begin_epoch(self, method: Method, state: State) -> None:
        """Prepare for the first step of an epoch. A resumed search calls this again there."""

    def phase(self, method: Method, state: State) -> str:
        """Return the name of the current phase, for the progress bar and the metrics."""

    def step(self, method: Method, state: State, train: Batch, val: Batch) -> Values:
        """Take one step, and return its metrics as scalar tensors."""


@dataclass
class State:
    """Hold everything that changes during a search.

    Only `Method.build` makes a state. Only the stepper, the stages, the memories and the loop
    change it.

    Attributes:
        seed: Seed of the search.
        plan: Length of the search.
        device: Device of the networks and the alphas.
        precision: Precision of the supernet's forward pass: "32" or "bf16".
        space: Space that is searched now.
        nets: Networks by name.
        alphas: Logits by name of the edge group.
        optimizers: Optimizers by name.
        memory: Memories by name.
        epoch: Current epoch, from 0 on.
        step: Current step of the epoch, from 0 on.
        born: Epoch at which this supernet began.
        dies: Epoch at which this supernet ends.
        sums: Sums of this epoch's step metrics.
        counts: Number of values in each sum.
        genotype: Genotype that an evaluation network runs (CDARTS).
        decisions: Decisions of the finalisation so far.
        stopped: Reason why the epochs ended early.
        ended: Number of epochs, if they ended early.
        identity: Identity of the method that built the state (`Method.identity`).
        recompute: Activations that the backward pass computes again: "none" or "cells". No result
            depends on it.
        parts: Number of parts in which a step computes each batch, which takes less memory. It is
            not saved.
        trace: Record of the first diverged part. It is not saved, because a state that has
            diverged is not saved.
    """

    seed: int
    plan: Plan
    device: torch.device
    precision: str
    space: Space
    nets: dict[str, nn.Module] = field(default_factory=dict)
    alphas: Alphas = field(default_factory=dict)
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    born: int = 0
    dies: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    genotype: Genotype | None = None
    decisions: list[Decision] = field(default_factory=list)
    stopped: str | None = None
    ended: int | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    recompute: str = "none"
    parts: int = 1
    trace: Trace = field(default_factory=Trace)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(rows.shape)}" for name, rows in self.alphas.items())
        place = f"epoch {self.epoch} of {self.plan.epochs}, step {self.step}"
        return f"<State at {place}, seed {self.seed}, {self.device}; alphas {shapes}>"

    def averages(self) -> dict[str, float]:
        """Return the averages of this epoch's step metrics so far."""
        return {name: self.sums[name].item() / self.counts[name] for name in self.sums}

    def add(self, values: Values) -> None:
        """Add the metrics of one step to the sums.

        The sums stay on the device, because reading a number in every step would stop a GPU.
        """
        for name, value in values.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1
