"""How long a call takes: warm-up, then calls until a floor of time is reached, and their median.

On one thread of the processor the clock is the process's own: what the wall clock says on an idle machine, and less disturbed by other work on a
busy one. The allocator of glibc is told to keep its memory, see `keep_memory`.
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
"""Calls that a median is of, at least."""
WARM_UP = {"cpu": 3, "cuda": 20}
"""Calls before any is timed: a GPU chooses its kernels, and raises its clock."""
KEEP = {-3: 32 << 20, -1: (2 << 30) - 1}
"""glibc's M_MMAP_THRESHOLD, at its maximum, and M_TRIM_THRESHOLD, bytes."""


def milliseconds(call: Callable[[], Any], device: str, threads: int, seconds: float) -> float:
    """The median of calls that take ``seconds`` together, "cpu" or "cuda"."""
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
    return begin.elapsed_time(end)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """torch's threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_memory() -> None:
    """Freed memory stays with this process, from here on.

    By default glibc's allocator hands large blocks back to the kernel and asks for them again, and the pages that a call then pays for depend
    on what was freed before it: 5,000 to 9,000 in one pass of an MBConv network of 64x64 images, a third of its time, more or fewer from one
    minute to the next. Other allocators and systems are left alone.
    """
    if (
        sys.platform == "linux"
        and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None
    ):
        for parameter, value in KEEP.items():
            mallopt(parameter, value)


def hardware(device: str) -> str:
    """The processor's or the GPU's own name. ValueError where there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "latency on cuda: there is no CUDA GPU here; measure and search with cpu, or where the GPU is"
        )
    if device == "cuda":
        return torch.cuda.get_device_name()
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
