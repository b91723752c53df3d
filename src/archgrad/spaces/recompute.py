"""Activation checkpointing of a cell: its activations are dropped after its forward, and made again for its backward (Chen et al. 2016, arXiv
1604.06174). It trades about a forward pass of time for the memory of all cells but one, and changes no result.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def recomputed(cell: nn.Module, run: Callable[[], Tensor]) -> Tensor:
    """``run()``, a pass of ``cell`` in training mode, made anew in the backward, second order included. Dropout and noise draw the same again.

    The second pass has the weights of the first, whatever stood in for the cell's own and whatever was frozen then; and buffers of its own, so
    that BatchNorms count each batch once.
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
    """``run`` as the forward of a module that holds the cell: what `torch.func.functional_call` takes."""

    def __init__(self, cell: nn.Module, run: Callable[[], Tensor]) -> None:
        super().__init__()
        self.cell, self.run = cell, run

    def forward(self) -> Tensor:
        return self.run()
