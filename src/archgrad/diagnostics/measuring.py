"""A context in which a measurement leaves the network unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from archgrad.components.gradients import probing


@contextmanager
def measuring(net: nn.Module, *, training: bool) -> Iterator[None]:
    """Put ``net`` in training or evaluation mode inside.

    At the end, also after an exception, its buffers and the mode of each module are restored.
    """
    modes = [(module, module.training) for module in net.modules()]
    with probing(net):
        net.train(training)
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
