"""Tables with the true accuracy of every architecture of a space; they are part of the package.

A benchmark is a module with these names:

- ``query(genotype) -> dict``: the row of an architecture;
- ``verdict(genotype, bounds) -> rows``: the comparison at the end of a search;
- ``standing(accuracies) -> dict``: regret and improvement within the whole space;
- ``JUDGED_BY``: the accuracy column that ranks architectures;
- ``MEASURED``: the title of the table that a command prints.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["benchmark_of", "latency_table", "other_images_note"]

BY_SPACE = {
    "nasbench201": "archgrad.tabular.nasbench201",
    "nasbenchmacro": "archgrad.tabular.nasbenchmacro",
}
LATENCIES = {"nasbench201": "archgrad.tabular.nasbench201_latency"}


def latency_table(space_name: str) -> ModuleType | None:
    """Return the module of a space's latency table.

    Args:
        space_name: Name of the space.

    Returns:
        A module with ``devices() -> names`` and ``cost(device) -> Cost``; None for a space without
        such a table.
    """
    return import_module(LATENCIES[space_name]) if space_name in LATENCIES else None


def benchmark_of(space_name: str) -> ModuleType | None:
    """Return the benchmark module of a space, None for a space without a benchmark."""
    return import_module(BY_SPACE[space_name]) if space_name in BY_SPACE else None


def other_images_note(name: str, size: int) -> str | None:
    """Return a note that the tables were measured on other images than those of a search.

    Args:
        name: Name of the images, such as ``cifar10`` or a name on the Hugging Face hub.
        size: Side of the images in pixels.

    Returns:
        The note; None where the search has the images of the tables (CIFAR-10, 32 pixels).
    """
    known = "".join(filter(str.isalnum, name.lower())).endswith(
        "cifar10"
    )  # its name on the hub is uoft-cs/cifar10
    if known and size == 32:
        return None
    means = (
        f"this search had images of {size}x{size}"
        if known
        else f"they say little about a search on {name}"
    )
    return f"True accuracies are those of CIFAR-10 with 32x32 images; {means}."
