"""How many threads a search takes where nobody said: from the processors that it may use and the size of its feature maps.

The rule asks no clock: gradients of convolutions differ in their last bits between numbers of threads, so the same settings on the same
machine must always take the same number, whatever else runs there. A run records it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

EACH = 524_288
"""Values of the first feature map that each thread must have. Measured (docs/performance.md): with half of that, two threads that sleep while
they wait are slower than one; with all of it they are as fast or faster."""


def threads(images: int, channels: int, side: int) -> int:
    """For steps of so many images, in a network whose first cell has (images, channels, side, side): each thread has at least `EACH` values
    of the first feature map, and no processor has two threads. A number in the environment is the user's own, and stays."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return (
        int(told)
        if told.isdigit() and int(told)
        else by_size(images * channels * side**2, available())
    )


def by_size(values: int, processors: int) -> int:
    """For feature maps of so many values."""
    return max(1, min(processors, values // EACH))


def available(root: Path = Path("/")) -> int:
    """Processors that this process may use: those of its affinity, fewer where a control group has a quota."""
    try:
        affine = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        affine = os.cpu_count() or 1
    return max(1, min([affine, *map(math.floor, quotas(root))]))


def quotas(root: Path) -> list[float]:
    """Processors' worth of time that the control groups of this process have, one number for each limit; ``root`` is that of the file system."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[float | None] = []
    for folder in folders(lines):
        here = root / "sys/fs/cgroup" / folder
        found += [
            quota(_text(here / "cpu.max")),
            quota(f"{_text(here / 'cpu.cfs_quota_us')} {_text(here / 'cpu.cfs_period_us')}"),
        ]
    return [one for one in found if one is not None]


def folders(lines: Iterable[str]) -> list[str]:
    """Folders below /sys/fs/cgroup whose limits hold for a process: its own group and all above it, by the lines of ``/proc/self/cgroup``."""
    found = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath(path.lstrip("/"))
        found += [str(PurePosixPath(controllers) / one) for one in (group, *group.parents)]
    return list(dict.fromkeys(found))


def quota(text: str) -> float | None:
    """``200000 100000``, time and period in microseconds, is 2.0 processors; ``max 100000``, ``-1 100000`` or nothing is no limit."""
    parts = text.split()
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        return None
    return int(parts[0]) / int(parts[1])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
