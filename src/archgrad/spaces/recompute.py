"""Activation checkpointing of a cell (Chen et al. 2016, arXiv 1604.06174).

The activations of a cell are dropped after its forward pass and computed again for its backward
pass. That takes the time of about one more forward pass, and only one cell's activations are in
memory at a time. Results do not change.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def recomputed(cell: nn.Module, run: Callable[[], Tensor]) -> Tensor:
    """Return ``run()``, and compute it again in the backward pass instead of saving activations.

    The second pass repeats the draws of dropout and noise. It has the weights of the first pass,
    also where other tensors replaced the cell's own or where weights were frozen. It has its own
    buffers, so BatchNorms count each batch once. Second-order gradients work too.

    Args:
        cell: The cell, in training mode.
        run: Returns the output of a forward pass of the cell.

    Returns:
        The output.
    """
    weights = {
        name: weight if weight.requires_grad else weight.detach()
        for name, weight in cell.named_parameters()
    }
    first = True

    def again() -> Tensor:
        nonlocal first
        if first:
            first = False
            return run()
        buffers = {name: buffer.clone() for name, buffer in cell.named_buffers()}
        found: Tensor = functional_call(
            _Pass(cell, run),
            {f"cell.{name}": value for name, value in {**weights, **buffers}.items()},
            (),
        )
        return found

    result: Tensor = checkpoint(again, use_reentrant=False, preserve_rng_state=True)
    return result


class _Pass(nn.Module):
    """A module with the cell and ``run`` as its forward, for `torch.func.functional_call`."""

    def __init__(self, cell: nn.Module, run: Callable[[], Tensor]) -> None:
        super().__init__()
        self.cell, self.run = cell, run

    def forward(self) -> Tensor:
        return self.run()
