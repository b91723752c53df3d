"""Randomness as a function of place: every draw is seeded from where it happens, so there is no generator state to save."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def place_seed(*place: object) -> int:
    """A 63-bit seed of a place such as ``(seed, "augment/train", epoch, step)``; the same in every process (sha256, never ``hash``)."""
    text = "\x1f".join(str(part) for part in place)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*place: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on ``device`` for one place."""
    import torch

    return torch.Generator(device=device).manual_seed(place_seed(*place))


@contextmanager
def forked(*place: object, device: torch.device | str = "cpu") -> Iterator[None]:
    """The global generators seeded from a place inside the block and restored after it, for code that takes no generator (dropout, kornia)."""
    import torch

    device = torch.device(device)
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(place_seed(*place))
        yield


def deterministic() -> None:
    """torch's deterministic algorithms from here on; on a GPU the same place then gives the same bits."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
