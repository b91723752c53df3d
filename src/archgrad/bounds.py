"""How large a number of a user or of a file may be: far above all that is of use, and below what a machine chokes on.

Without such bounds a slip of the keyboard asks for a terabyte, or for a list with an entry for each of a billion epochs.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from archgrad.errors import shown, unknown

WHOLE = 2**63 - 1
"""Any whole number: what torch can count with."""
THREADS = 1024
"""Of a processor; torch itself breaks down at some ten thousands."""
EPOCHS = 100_000
"""Of a search or a training; the longest published ones have some thousands."""
SEEDS = 10_000
"""Of a study."""
SIDE = 8192
"""Of images, in pixels."""
BATCH = 2**20
"""Images that are measured at a time."""

OPTIONS = {
    "channels": 4096,
    "cells": 512,
    "nodes": 32,
    "in_channels": 4096,
    "classes": 2**20,
    "partial_channels": 4096,
}
"""Of a space. Whether a network of that width fits into memory is asked before it is built (`archgrad.cost.room`)."""

CHAIN = 64
"""Kernel, expansion, and how many there are of each, in a chain."""

AUTO = "auto"
"""The value of a setting that archgrad is to choose."""

DEVICE = re.compile(rf"{AUTO}|cpu|cuda(:\d{{1,3}})?")

Threads = Annotated[int, Field(ge=1, le=THREADS)]
Epochs = Annotated[int, Field(ge=1, le=EPOCHS)]


def check_device(name: str) -> str:
    """Checks the name of a device.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.

    Returns:
        The name.

    Raises:
        ValueError: It is another name. Whether this machine has such a device is asked where torch is imported.
    """
    if name == "mps":
        raise ValueError(
            "'mps' is not supported: archgrad adds losses in float64, which torch does not have there; use cpu"
        )
    if not DEVICE.fullmatch(name):
        raise unknown("device", name, (AUTO, "cpu", "cuda", "cuda:1"))
    return name


def check_option(name: str, value: int) -> None:
    """ValueError for an option of a space above its bound."""
    if name in OPTIONS and value > OPTIONS[name]:
        raise ValueError(f"{name} must be at most {OPTIONS[name]:,}, not {shown(value)}")
