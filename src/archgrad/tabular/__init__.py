"""Tables that know the true accuracy of every architecture of a space, bundled with the package.

A benchmark is a module with ``query(genotype) -> dict``, ``verdict(genotype, bounds) -> rows``, ``standing(accuracies) -> dict``, ``JUDGED_BY``
and ``MEASURED``, a title for what it says.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

BY_SPACE = {
    "nasbench201": "archgrad.tabular.nasbench201",
    "nasbenchmacro": "archgrad.tabular.nasbenchmacro",
}
LATENCIES = {"nasbench201": "archgrad.tabular.nasbench201_latency"}


def latencies(space_name: str) -> ModuleType | None:
    """The table of a space's latencies, a module with ``devices() -> names`` and ``cost(device) -> Cost``; None where there is none."""
    return import_module(LATENCIES[space_name]) if space_name in LATENCIES else None


def lookup(space_name: str) -> ModuleType | None:
    """The benchmark of a space, None where it has none."""
    return import_module(BY_SPACE[space_name]) if space_name in BY_SPACE else None


def elsewhere(name: str, size: int) -> str | None:
    """What the tables' accuracies mean for a search on images of this name and side in pixels; None where they are those of the tables."""
    known = "".join(filter(str.isalnum, name.lower())).endswith(
        "cifar10"
    )  # the hub has it as uoft-cs/cifar10
    if known and size == 32:
        return None
    means = (
        f"this search saw images of {size}x{size}"
        if known
        else f"they say little of a search on {name}"
    )
    return f"True accuracies are those of CIFAR-10 with 32x32 images; {means}."
