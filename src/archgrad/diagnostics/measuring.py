"""A pass that leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from archgrad.components.gradients import probing


@contextmanager
def measuring(net: nn.Module, *, training: bool) -> Iterator[None]:
    """``net`` in training or evaluation mode inside; afterwards its buffers and the mode of each of its modules are what they were, also
    if it raises."""
    modes = [(module, module.training) for module in net.modules()]
    with probing(net):
        net.train(training)
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
