"""Partial channels (PC-DARTS, arXiv 1907.05737, section 3.1).

The first C/K channels of a node go through the ops of its outgoing edges, and the others bypass
them. Shapes: part (B, C/K, H, W), rest (B, C - C/K, H, W); K is ``k`` in the code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def check(channels: int, k: int) -> None:
    """Raise ValueError if k does not divide the channels of a space, and so of all its cells."""
    if channels % k:
        raise ValueError(
            f"channels is {channels}, which is no multiple of partial_channels {k}: "
            "change one of them"
        )


def part(x: Tensor, k: int) -> Tensor:
    """Return the first C/k channels of x (B, C, H, W), which the ops read."""
    return x[:, : x.shape[1] // k].contiguous(memory_format=torch.channels_last)


def rest(x: Tensor, k: int, stride: int) -> Tensor:
    """Return the other channels of x (B, C, H, W), max-pooled for stride 2; odd sides round up."""
    others = x[:, x.shape[1] // k :]
    return F.max_pool2d(others, 2, ceil_mode=True) if stride == 2 else others


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Reorder the channels of x (B, C, H, W) from (groups, C/groups) to (C/groups, groups).

    The part that the next ops read then has channels of every group.
    """
    pixels = x.permute(0, 2, 3, 1)  # a view that keeps the channels_last format
    shuffled: Tensor = (
        pixels.unflatten(3, (groups, -1)).transpose(3, 4).flatten(3).permute(0, 3, 1, 2)
    )
    return shuffled


def joined(ops: Tensor, others: Tensor, k: int) -> Tensor:
    """Return the shuffled concatenation (B, C, H, W) of the ops' output and the bypassed rest."""
    return shuffle(torch.cat([ops, others], 1), k)
