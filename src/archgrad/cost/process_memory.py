"""Memory: how much this process may use, and how much it used at its peak."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.filesize import decimal

from archgrad.arch.space import Space

SYSTEM = Path("/")
USUAL = {"channels": 64, "cells": 32, "in_channels": 64, "classes": 25_000}
"""Up to these numbers the weights of a network take some gigabytes at most, and are not counted."""
# Files of a limit, of the use and of statistics, and the statistic of memory that can be reclaimed.
CGROUPS = (
    (
        "sys/fs/cgroup/memory.max",
        "sys/fs/cgroup/memory.current",
        "sys/fs/cgroup/memory.stat",
        "inactive_file",
    ),
    (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/memory.usage_in_bytes",
        "sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)


def available_bytes(root: Path = SYSTEM) -> int | None:
    """Return how many bytes this process may use in all, including those it uses now.

    Args:
        root: Root of the file system.

    Returns:
        The smaller of the machine's available memory and the limit of the control group; None if
        the system reports neither.
    """
    own = used_bytes(root)
    found = [own + 1024 * kib for kib in _numbers(root / "proc/meminfo", "MemAvailable")]
    for limit, use, statistics, cache in CGROUPS:
        with suppress(OSError, ValueError):  # the limit may be "max", and files may be missing
            most, used = (int((root / file).read_text()) for file in (limit, use))
            found.append(most - used + sum(_numbers(root / statistics, cache)) + own)
    return min(found, default=None)


def used_bytes(root: Path = SYSTEM) -> int:
    """Return how many bytes this process uses now; 0 if the system does not report it."""
    return 1024 * sum(_numbers(root / "proc/self/status", "VmRSS"))


def check_memory(space: Space) -> None:
    """Check that the weights of a network fit into memory.

    No memory is allocated, and a network of usual size is not built at all.

    Args:
        space: The space of the network.

    Raises:
        ValueError: The weights alone need more memory than this process may use.
    """
    spec = space.spec()
    if (
        all(int(spec.get(name) or 1) <= most for name, most in USUAL.items())
        or torch.empty(0).is_meta
    ):
        return
    with torch.device("meta"):
        need = sum(
            value.numel() * value.element_size() for value in space.supernet().state_dict().values()
        )
    free = available_bytes()
    if free is not None and need > free:
        wide = ", ".join(
            f"{spec[name]:,} {name.replace('_', ' ')}" for name in USUAL if name in spec
        )
        raise ValueError(
            f"the weights of a network of {wide} take {decimal(need)}, "
            f"and there is room for {decimal(free)}: choose a smaller one"
        )


@dataclass
class Peak:
    """Peak memory in bytes: of the process, and of torch on its GPU (0 on the CPU)."""

    process: int = 0
    gpu: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory inside the block.

    Systems other than Linux cannot reset the peak, so there it is the peak since the process began.

    Args:
        device: The device of torch.

    Yields:
        The peak, which is set at the end of the block.
    """
    found = Peak()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    usual = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found.process = 1024 * sum(_numbers(Path("/proc/self/status"), "VmHWM")) or usual
    if device.type == "cuda":
        found.gpu = torch.cuda.max_memory_reserved(device)


def _numbers(file: Path, name: str) -> list[int]:
    with suppress(OSError):
        return [
            int(number)
            for number in re.findall(rf"^{name}:?\s+(\d+)", file.read_text(), re.MULTILINE)
        ]
    return []
