"""The place of a step in a run, and the context that the parts of a method read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from archgrad.arch.edges import Alphas, Groups
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss, Output
from archgrad.seeds import generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from archgrad.cost.limits import Limits


class Progress(NamedTuple):
    """Give the place of a step in a run.

    Attributes:
        epoch: Epoch, from 0 on. In a finalisation that takes further steps (DARTS-PT) it stays at
            the last epoch, and so do all schedules.
        step: Step of the epoch, from 0 on.
        epochs: Number of epochs of the run.
        steps: Number of steps of this epoch.
        born: Epoch at which this supernet began. A stage usually starts a new supernet.
        dies: Epoch at which this supernet ends.
        past: Number of epochs after the last one, in a finalisation that takes further steps.
    """

    epoch: int
    step: int
    epochs: int
    steps: int
    born: int
    dies: int
    past: int = 0

    @property
    def step_key(self) -> tuple[int, int]:
        """The epoch and the step. Each pair occurs once in a run, so random draws depend on it."""
        return self.epoch + self.past, self.step

    @property
    def fraction(self) -> float:
        """The part of the whole run that is over, in [0, 1)."""
        return (self.epoch + self.step / self.steps) / self.epochs

    @property
    def age(self) -> float:
        """The age of this supernet in epochs, with the fraction of the current one."""
        return self.epoch - self.born + self.step / self.steps

    @property
    def life(self) -> int:
        """The number of epochs of this supernet."""
        return self.dies - self.born


class Context(NamedTuple):
    """Hold the values that a part of a method may read besides its tensors.

    Attributes:
        groups: Edge groups of the space by name.
        progress: Place in the run.
        phase: Half of the step, "weight" or "alpha", or "readout" (discretisation).
        memory: Memories of the method by name.
        seed: Seed of the search.
        init: Scale of the first alphas.
        limits: Limits of an architecture's cost.
    """

    groups: Groups
    progress: Progress
    phase: str
    memory: dict[str, Any]
    seed: int
    init: float = 1e-3
    limits: Limits = ()

    def rng(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a random generator seeded by this phase, epoch and step.

        Args:
            purpose: Name of the draw, as in "gumbel/normal".
            device: Device of the generator.
        """
        return generator(self.seed, purpose, self.phase, *self.progress.step_key, device=device)


class Forward(NamedTuple):
    """Hold one forward pass and everything that led to it. A loss term reads it.

    Attributes:
        alphas: Logits by name of the edge group.
        mixture: Mixture of the pass.
        output: Output of the network.
        batch: Batch of the pass.
        supernet: Network.
        context: Context of the pass.
        again: Function (alphas, weights) -> output that repeats the pass; None as weights stands
            for the network's own. The batch and the random draws are the same, but no op is
            dropped out and the mixture is not perturbed. It computes no gradient and leaves the
            buffers as they are. A teacher sees by it what its student saw.
        loss: Loss in the place of the cross-entropy (`Patch.loss`); None is the cross-entropy.
    """

    alphas: Alphas
    mixture: Mixture
    output: Output
    batch: Batch
    supernet: torch.nn.Module
    context: Context
    again: Callable[[Alphas, Mapping[str, Tensor] | None], Output]
    loss: Loss | None = None
