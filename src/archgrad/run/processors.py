"""The default number of threads, from the available processors and the size of the feature maps.

The rule measures no time. Gradients of convolutions differ in their last bits between numbers of
threads, so the same settings on the same machine must always get the same number, whatever else
runs there. A run records the number.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

EACH = 524_288
"""The least number of values of the first feature map for each thread.

Measured (docs/performance.md): with half as many values, two threads that sleep while they wait are
slower than one thread. With this many they are as fast or faster.
"""

USUAL = 16
"""The channels that are assumed for the first feature map of a module of the user's."""


def threads(images: int, channels: int, side: int) -> int:
    """Return the number of threads for a network.

    ``OMP_NUM_THREADS`` in the environment decides, if it is set. Otherwise each thread has at least
    `EACH` values of the first feature map, and each processor at most one thread.

    Args:
        images: The batch size.
        channels: The channels of the first feature map.
        side: The side of the images, in pixels.
    """
    chosen = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if chosen.isdigit() and int(chosen):
        return int(chosen)
    return by_size(images * channels * side**2, available())


def by_size(values: int, processors: int) -> int:
    """Return the number of threads for a first feature map of so many values."""
    return max(1, min(processors, values // EACH))


def available(root: Path = Path("/")) -> int:
    """Return the number of processors that this process may use.

    It is that of its affinity, or less if a control group has a quota.
    """
    try:
        affine = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        affine = os.cpu_count() or 1
    return max(1, min([affine, *map(math.floor, quotas(root))]))


def quotas(root: Path) -> list[float]:
    """Return the quotas of the control groups of this process, each in processors.

    Args:
        root: The root of the file system.
    """
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
    """Return the folders below /sys/fs/cgroup whose limits hold for a process.

    These are the folders of its own group and of all groups above it.

    Args:
        lines: The lines of ``/proc/self/cgroup``.
    """
    found = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath(path.lstrip("/"))
        found += [str(PurePosixPath(controllers) / one) for one in (group, *group.parents)]
    return list(dict.fromkeys(found))


def quota(text: str) -> float | None:
    """Read a quota from its text.

    >>> quota("200000 100000")
    2.0

    Args:
        text: The time and the period in microseconds. ``max`` or ``-1`` as the time, or an empty
            text, means no limit.

    Returns:
        The quota in processors, or None if there is no limit.
    """
    parts = text.split()
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        return None
    return int(parts[0]) / int(parts[1])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
