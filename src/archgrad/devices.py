"""The devices of this machine by their names."""

from __future__ import annotations

import torch

from archgrad.bounds import AUTO, check_device
from archgrad.errors import counted


def device_named(name: torch.device | str) -> str:
    """Return the device to compute on.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU; or a device of torch.

    Returns:
        ``cpu``, ``cuda`` or ``cuda:1``; for ``auto`` a GPU if this machine has one.

    Raises:
        ValueError: The name is unknown, or this machine has no such device.
    """
    name = check_device(str(name))
    if name == AUTO:
        return "cuda" if gpu_count() else "cpu"
    if not device_exists(name):
        here = (
            f"this machine has {counted(gpu_count(), 'GPU')}, of which cuda:0 is the first"
            if gpu_count()
            else "this machine has no CUDA GPU"
        )
        raise ValueError(f"device {name}: {here}; use another one, such as cpu")
    return name


def device_exists(name: str) -> bool:
    """Return whether this machine has the device ``cpu``, ``cuda`` or ``cuda:1``."""
    return name == "cpu" or int(name.partition(":")[2] or 0) < gpu_count()


def gpu_count() -> int:
    """Return the number of GPUs that torch can use on this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
