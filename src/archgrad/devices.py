"""The device that a user names, and whether this machine has it."""

from __future__ import annotations

import torch

from archgrad.bounds import check_device


def device_named(name: str) -> str:
    """The device to compute on.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.

    Returns:
        ``cpu``, ``cuda`` or ``cuda:1``; for ``auto`` a GPU where there is one.

    Raises:
        ValueError: This machine has no such device.
    """
    check_device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    if name.startswith("cuda") and not count:
        raise ValueError(f"device {name}: there is no CUDA GPU here; use --device cpu")
    if name.startswith("cuda:") and int(name[5:]) >= count:
        raise ValueError(f"device {name}: there {'is one GPU' if count == 1 else f'are {count} GPUs'} here; the first is cuda:0")
    return name
