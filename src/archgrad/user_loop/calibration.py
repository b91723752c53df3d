"""The statistics of BatchNorms, computed again for the network that a search has derived."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm,)


def has_statistics(net: nn.Module) -> bool:
    """Return whether a BatchNorm of the network has running statistics."""
    return bool(_norms(net))


def recalibrate(net: nn.Module, inputs: Iterable[Any]) -> nn.Module:
    """Replace the running statistics of a network by the means over batches.

    In a search a BatchNorm sees mixtures of ops. In the derived network its inputs have another
    scale, so the statistics of the search do not fit.

    Args:
        net: Network, which is changed. Its weights stay.
        inputs: Inputs of a forward pass, batch by batch; a tuple has several arguments.

    Returns:
        The network.

    Raises:
        ValueError: There is no batch.
    """
    norms, modes = _norms(net), {module: module.training for module in net.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # the plain mean over all batches
    count = 0
    try:
        with torch.no_grad():
            for one in inputs:
                net(*one) if isinstance(one, tuple) else net(one)
                count += 1
    finally:
        for module, training in modes.items():
            module.training = training
        for norm, momentum in momenta.items():
            norm.momentum = momentum
    if not count and norms:
        raise ValueError("no batch to compute the statistics of BatchNorms on")
    return net


def _norms(net: nn.Module) -> list[Any]:
    return [
        module
        for module in net.modules()
        if isinstance(module, NORMS) and module.track_running_stats
    ]
