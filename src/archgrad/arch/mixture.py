"""How much of each op runs: the argument of a supernet's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class CellMixture(NamedTuple):
    """What one cell reads of a mixture: weights (edges, ops); active, nested lists of bool or None; the others as there."""

    weights: Tensor
    active: list[list[bool]] | None
    idle: bool
    dropout: Mapping[str, float]
    recompute: bool = False


@dataclass(frozen=True)
class Mixture:
    """How much of each op runs. An argument of the supernet's forward, never stored on a module."""

    weights: dict[str, Tensor]  # group -> (edges, ops), or (cells, edges, ops) where cells differ
    active: dict[str, Tensor] | None = (
        None  # bool, same shapes, always on the host: only these ops are executed
    )
    idle: bool = (
        True  # what is not executed sends its weight the gradient of a scalar in its place (GDAS)
    )
    dropout: Mapping[str, float] = field(
        default_factory=dict
    )  # primitive -> probability, of its elements (P-DARTS)
    drop_path: float = 0.0  # probability of whole ops, identities apart (RobustDARTS)
    recompute: bool = False  # while training, activations of a cell are dropped and made again in its backward: less memory, more time
    extras: Mapping[str, Tensor] = field(
        default_factory=dict
    )  # group -> (edges, extras); else `EdgeGroup.extras` rest, and where nothing runs

    def __repr__(self) -> str:
        return f"<Mixture of {', '.join(f'{name} {tuple(own.shape)}' for name, own in self.weights.items())}>"

    def cell(self, group: str, k: int | None) -> CellMixture:
        """Cell ``k`` (counted within its group) reads this; ``None`` is the mean over cells, which selection reads: of searched columns."""
        weights = self.weights[group]
        if weights.dim() == 3:
            weights = weights.mean(0) if k is None else weights[k]
        active = None
        if self.active is not None:
            host = self.active[group]
            if host.dim() == 3:
                host = host.any(0) if k is None else host[k]
            active = host.tolist()
        if k is not None and group in self.extras:
            import torch

            extras = self.extras[group]
            weights = torch.cat([weights, extras.to(weights)], 1)
            active = active and [row + [any(row)] * extras.shape[1] for row in active]
        return CellMixture(weights, active, self.idle, self.dropout, self.recompute)

    def detach(self) -> Mixture:
        return self.map(lambda weights: weights.detach())

    def whole(self) -> Mixture:
        """Without dropout: what is looked at, not trained."""
        return replace(self, dropout={}, drop_path=0.0)

    def map(self, change: Callable[[Tensor], Tensor]) -> Mixture:
        """The same mixture with ``change`` applied to every group's weights."""
        return replace(
            self, weights={name: change(weights) for name, weights in self.weights.items()}
        )
