"""Partial channels (PC-DARTS, arXiv 1907.05737, section 3.1): the first C/K channels of a node go through the ops of its outgoing edges,
the others go by. Shape letters: k is K; part (B, C/K, H, W), rest (B, C - C/K, H, W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def check(channels: int, k: int) -> None:
    """ValueError where k does not divide the channels; those of a cell are multiples of a space's."""
    if channels % k:
        raise ValueError(
            f"channels is {channels}, which is no multiple of partial_channels {k}: choose another of the two"
        )


def part(x: Tensor, k: int) -> Tensor:
    """The first C/k channels of x (B, C, H, W): what ops read."""
    return x[:, : x.shape[1] // k].contiguous(memory_format=torch.channels_last)


def rest(x: Tensor, k: int, stride: int) -> Tensor:
    """The other channels, max-pooled where the ops halve the image; an odd side is rounded up, as theirs is."""
    others = x[:, x.shape[1] // k :]
    return F.max_pool2d(others, 2, ceil_mode=True) if stride == 2 else others


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels of x (B, C, H, W) as (groups, C/groups) in the order (C/groups, groups): the next part takes some of every group."""
    pixels = x.permute(0, 2, 3, 1)  # channels_last stays so
    return pixels.unflatten(3, (groups, -1)).transpose(3, 4).flatten(3).permute(0, 3, 1, 2)


def joined(ops: Tensor, others: Tensor, k: int) -> Tensor:
    """What the ops made of the part, beside what went by, shuffled: (B, C, H, W)."""
    return shuffle(torch.cat([ops, others], 1), k)
