"""Memory: what this process may still take, and what a part of it takes at its highest."""

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
"""Up to here the weights of any network of a space take some gigabytes at most, and are not counted beforehand."""
CGROUPS = (  # limit, use, statistics, and what of the use the system takes back when memory is asked for
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat", "inactive_file"),
    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes", "sys/fs/cgroup/memory/memory.stat",
     "total_inactive_file"),
)  # fmt: skip


def room(root: Path = SYSTEM) -> int | None:
    """Bytes that this process may have in all, what it has among them: as the machine has available and its control group allows. None where
    nobody says."""
    own = resident(root)
    found = [own + 1024 * kib for kib in _numbers(root / "proc/meminfo", "MemAvailable")]
    for limit, use, statistics, cache in CGROUPS:
        with suppress(OSError, ValueError):  # "max", or no such group
            most, used = (int((root / file).read_text()) for file in (limit, use))
            found.append(most - used + sum(_numbers(root / statistics, cache)) + own)
    return min(found, default=None)


def resident(root: Path = SYSTEM) -> int:
    """Bytes that this process has now; 0 where nobody says."""
    return 1024 * sum(_numbers(root / "proc/self/status", "VmRSS"))


def check(space: Space) -> None:
    """ValueError where the weights of a network of a space alone are more than this process may have. Nothing is built of a usual one, and of
    none is memory asked for."""
    spec = space.spec()
    if (
        all(int(spec.get(name, 1)) <= most for name, most in USUAL.items())
        or torch.empty(0).is_meta
    ):
        return
    with torch.device("meta"):
        need = sum(
            value.numel() * value.element_size() for value in space.supernet().state_dict().values()
        )
    free = room()
    if free is not None and need > free:
        wide = ", ".join(
            f"{spec[name]:,} {name.replace('_', ' ')}" for name in USUAL if name in spec
        )
        raise ValueError(
            f"the weights of a network of {wide} take {decimal(need)}, and there is room for {decimal(free)}: choose a smaller one"
        )


@dataclass
class Peak:
    """Bytes at the highest: of the process, and of what torch took on its GPU (0 on the CPU)."""

    process: int = 0
    gpu: int = 0


@contextmanager
def peak(device: torch.device) -> Iterator[Peak]:
    """What is taken inside, known at its end. Where the system cannot forget an earlier peak (elsewhere than on Linux), it is of the process
    so far."""
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
