"""The duration of a call: warm-up calls, then timed calls up to a total time, and their median.

With one thread on the processor the clock is the process's CPU time. On an idle machine it equals
the wall clock, and on a busy machine other work disturbs it less. `keep_memory` sets the allocator
of glibc so that it keeps freed memory.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

LEAST = 5
"""The least number of calls for a median."""
WARM_UP = {"cpu": 3, "cuda": 20}
"""Calls that are not timed: in them a GPU chooses its kernels and raises its clock."""
KEEP = {-3: 32 << 20, -1: (2 << 30) - 1}
"""glibc's M_MMAP_THRESHOLD, at its maximum, and M_TRIM_THRESHOLD, in bytes."""


def milliseconds(call: Callable[[], Any], device: str, threads: int, seconds: float) -> float:
    """Return the median duration of a call in ms.

    Args:
        call: The call.
        device: "cpu" or "cuda".
        threads: torch's number of threads.
        seconds: Total time of the timed calls, in seconds.

    Returns:
        The median over at least `LEAST` calls.
    """
    for _ in range(WARM_UP[device]):
        call()
    spent: list[float] = []
    while len(spent) < LEAST or sum(spent) < 1000 * seconds:
        spent.append(
            _cuda(call)
            if device == "cuda"
            else _cpu(call, time.process_time if threads == 1 else time.perf_counter)
        )
    return median(spent)


def _cpu(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    began = clock()
    call()
    return 1000 * (clock() - began)


def _cuda(call: Callable[[], Any]) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    milliseconds: float = begin.elapsed_time(end)
    return milliseconds


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Set torch's number of threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_memory() -> None:
    """Let glibc's allocator keep freed memory in this process from now on.

    By default it returns large blocks to the kernel and requests them again. The number of pages
    that a call then has to map depends on the memory that was freed before it. It was 5,000 to
    9,000 in one pass of an MBConv network on 64x64 images, a third of its time, and it changed from
    one minute to the next. Other allocators and systems are not changed.
    """
    if (
        sys.platform == "linux"
        and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None
    ):
        for parameter, value in KEEP.items():
            mallopt(parameter, value)


def hardware(device: str) -> str:
    """Return the name of the processor or the GPU model.

    Args:
        device: "cpu" or "cuda".

    Returns:
        The name.

    Raises:
        ValueError: The device is "cuda", and this machine has no CUDA GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "this machine has no CUDA GPU, so no latency on cuda can be measured; "
            "use cpu, or a machine with a GPU"
        )
    if device == "cuda":
        return torch.cuda.get_device_name()
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
