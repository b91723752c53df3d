"""Random numbers from places: the seed of each draw follows from the place where it happens.

So there is no state of a generator to save, and a resumed search draws the same numbers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def place_seed(*place: object) -> int:
    """Return a seed for a place.

    Args:
        place: The parts of a place, such as ``(seed, "augment/train", epoch, step)``.

    Returns:
        A seed of 63 bits. It is the same in every process, because it comes from SHA-256 and not
        from Python's ``hash``.
    """
    text = "\x1f".join(str(part) for part in place)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*place: object, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator on a device, seeded for one place.

    >>> import torch
    >>> bool(torch.equal(*(torch.rand(2, generator=generator(0, "example")) for _ in range(2))))
    True
    """
    import torch

    return torch.Generator(device=device).manual_seed(place_seed(*place))


@contextmanager
def seeded(*place: object, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global generators for a place inside the block, and restore them after it.

    It is for code that takes no generator (dropout, kornia).

    Args:
        place: The parts of the place.
        device: The device whose generator is seeded, besides that of the CPU.
    """
    import torch

    device = torch.device(device)
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(place_seed(*place))
        yield


def seed_cpu(*place: object) -> None:
    """Seed the global generator of the CPU alone for a place.

    ``torch.manual_seed`` gives it the same numbers. But as long as CUDA is not initialised, each
    call of that also formats and keeps the stack of its callers, at a cost of a millisecond.
    """
    import torch

    torch.default_generator.manual_seed(place_seed(*place))


def use_deterministic_algorithms() -> None:
    """Switch torch to deterministic algorithms, so that a GPU repeats results bit for bit."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it
    torch.use_deterministic_algorithms(True)
