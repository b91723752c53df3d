"""The largest numbers that options and files may have: above all useful ones, and still safe.

Without these bounds a typing error could request a terabyte, or a list with a billion entries.
"""

from __future__ import annotations

import re

from archgrad.errors import short_repr, unknown_name

WHOLE = 2**63 - 1
"""Any whole number, the largest integer of torch."""
THREADS = 1024
"""Threads of the processor; torch crashes at some ten thousands."""
EPOCHS = 100_000
"""Epochs of a search or a training; the longest published ones have some thousands."""
SEEDS = 10_000
"""Seeds of a study."""
SIDE = 8192
"""Side of images in pixels."""
BATCH = 2**20
"""Images in a batch of a latency measurement."""

OPTIONS = {
    "channels": 4096,
    "cells": 512,
    "nodes": 32,
    "in_channels": 4096,
    "classes": 2**20,
    "partial_channels": 4096,
}
"""Options of a space.

`archgrad.cost.process_memory` checks the memory of a network before it is built.
"""

CHAIN = 64
"""Kernels and expansions of a chain, and the number of each."""

AUTO = "auto"
"""The value of a setting that archgrad is to choose."""

DEVICE = re.compile(rf"{AUTO}|cpu|cuda(:\d{{1,3}})?")


def check_device(name: str) -> str:
    """Check the name of a device.

    `archgrad.devices` checks that this machine has the device, which needs torch.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.

    Returns:
        The name.

    Raises:
        ValueError: It is another name.
    """
    if name == "mps":
        raise ValueError(
            "'mps' is not supported (use cpu): "
            "archgrad adds losses in float64, which torch does not have there"
        )
    if not DEVICE.fullmatch(name):
        raise unknown_name("device", name, (AUTO, "cpu", "cuda", "cuda:1"))
    return name


def check_option(name: str, value: int) -> None:
    """Raise ValueError for an option of a space above its bound."""
    if name in OPTIONS and value > OPTIONS[name]:
        raise ValueError(f"{name} must be at most {OPTIONS[name]:,}, not {short_repr(value)}")
