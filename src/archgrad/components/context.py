"""Where in a run a step is, and all that a piece may know besides its tensors."""

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
    """Where in the run a step is. ``born`` and ``dies`` are the epochs between which this supernet lives (a stage starts a new one, as a rule).

    In a finalisation that steps on (DARTS-PT) schedules stay in the last epoch, and ``past`` counts the further ones."""

    epoch: int
    step: int
    epochs: int
    steps: int  # of this epoch
    born: int
    dies: int
    past: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and step, each pair once in a run, a finalisation included: what draws depend on."""
        return self.epoch + self.past, self.step

    @property
    def fraction(self) -> float:
        """Share of the whole run that is over, in [0, 1)."""
        return (self.epoch + self.step / self.steps) / self.epochs

    @property
    def age(self) -> float:
        """Epochs this supernet has lived, fractions of an epoch included."""
        return self.epoch - self.born + self.step / self.steps

    @property
    def life(self) -> int:
        """Epochs this supernet lives in all."""
        return self.dies - self.born


class Context(NamedTuple):
    """All a piece may know besides its tensors: the groups, the place in the run, the phase, what is remembered, the seed."""

    groups: Groups
    t: Progress
    phase: str  # "weight" | "alpha" | "readout"
    memory: dict[str, Any]
    seed: int
    init: float = 1e-3  # scale of the alphas' initialisation
    limits: Limits = ()  # what an architecture may cost

    def rng(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator for this phase, epoch and step; ``purpose`` names the place of the draw, as in ``"gumbel/normal"``."""
        return generator(self.seed, purpose, self.phase, *self.t.place, device=device)


class Forward(NamedTuple):
    """One pass and all that led to it: what a loss term reads."""

    alphas: Alphas
    mixture: Mixture
    output: Output
    batch: Batch
    supernet: torch.nn.Module
    context: Context
    again: Callable[[Alphas, Mapping[str, Tensor] | None], Output]
    """(alphas, weights or None for the net's own) -> the pass of these, same batch and same draws but no dropout of ops and no perturbation
    of the mixture, without gradient and without a trace in the buffers: how a teacher sees what its student saw."""
    loss: Loss | None = None
    """What stands in the place of the cross-entropy (`Patch.loss`); None where nothing does."""
