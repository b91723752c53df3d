"""The mixture, the weight of each op: an argument of a supernet's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from archgrad.errors import short_repr

if TYPE_CHECKING:
    from torch import Tensor


class CellMixture(NamedTuple):
    """The part of a `Mixture` that one cell reads.

    ``weights`` are (edges, ops), ``active`` is a nested list of bool (edges, ops) or None, and the
    other fields are those of `Mixture`.
    """

    weights: Tensor
    active: list[list[bool]] | None
    idle: bool
    dropout: Mapping[str, float]
    recompute: bool = False


@dataclass(frozen=True)
class Mixture:
    """The weight of each op. An argument of the supernet's forward, never stored on a module.

    Attributes:
        weights: Group -> (edges, ops), or (cells, edges, ops) where cells have different weights.
        active: Group -> bool of the same shape, always on the CPU; only these ops are executed.
            None executes all ops.
        idle: If true, each skipped op contributes ``w - w.detach()`` to its node: its value is 0,
            but its alpha receives a gradient (GDAS).
        dropout: Primitive -> probability of dropping each element of its output (P-DARTS).
        drop_path: Probability of dropping a whole op, identities excepted (RobustDARTS).
        recompute: If true, a training step drops the activations of each cell and computes them
            again in its backward pass, which takes less memory and more time.
        extras: Group -> (edges, extras), weights of the unsearched columns `EdgeGroup.extras`. They
            are not executed without a weight, nor on an edge without an active op.
    """

    weights: dict[str, Tensor]
    active: dict[str, Tensor] | None = None
    idle: bool = True
    dropout: Mapping[str, float] = field(default_factory=dict)
    drop_path: float = 0.0
    recompute: bool = False
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Mapping):
            raise ValueError(
                "the weights of a mixture are a mapping from group to tensor, "
                f"not {short_repr(self.weights)}"
            )

    def __repr__(self) -> str:
        shapes = (f"{name} {tuple(weights.shape)}" for name, weights in self.weights.items())
        return f"<Mixture of {', '.join(shapes)}>"

    def cell(self, group: str, k: int | None) -> CellMixture:
        """Return the part of one cell.

        Args:
            group: Name of the edge group.
            k: Number of the cell within its group. None returns the mean over all cells without
                extra columns, which selection reads.

        Returns:
            The part; its weights are (edges, ops), or (edges, ops + extras).
        """
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
            if active is not None:
                active = [row + [any(row)] * extras.shape[1] for row in active]
        return CellMixture(weights, active, self.idle, self.dropout, self.recompute)

    def detach(self) -> Mixture:
        """Return the same mixture with weights that carry no gradient."""
        return self.map(lambda weights: weights.detach())

    def without_dropout(self) -> Mixture:
        """Return the same mixture without dropout and drop-path, for evaluation."""
        return replace(self, dropout={}, drop_path=0.0)

    def map(self, change: Callable[[Tensor], Tensor]) -> Mixture:
        """Return the same mixture with ``change`` applied to the weights of every group."""
        return replace(
            self, weights={name: change(weights) for name, weights in self.weights.items()}
        )
