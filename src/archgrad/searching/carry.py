"""Carry tables of edges and ops from one space to the next, by the names of the primitives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from archgrad.arch.edges import EdgeGroup, Groups

Change = Callable[[Tensor], Tensor]
"""A function of one tensor."""


def carried(old: Groups, new: Groups, table: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a memory's table for the space of a new stage.

    The columns of the primitives that stay move to their new places. A memory calls this function
    in its method `bind`.

    Args:
        old: Groups of the space that ended.
        new: Groups of the space that begins.
        table: Name of a group, or ``group/name`` -> (..., edges, ops) of the old groups. An entry
            of another shape stays as it is.

    Returns:
        The table in the shapes of the new groups, with padding 0. It shares no memory with
        ``table``.

    Raises:
        ValueError: The new space has a group, or an edge or a primitive, that the old one had not.
    """
    found = {}
    for name, value in table.items():
        group = name.split("/")[0]
        if group not in new:
            raise ValueError(f"the table has {name!r}, and the space that begins has no such group")
        try:
            found[name] = column_selector(old[group], new[group])(value).clone()
        except ValueError:
            raise ValueError(
                f"{group}: the space that begins has edges or primitives the one before had not"
            ) from None
    return found


def column_selector(old: EdgeGroup, new: EdgeGroup) -> Change:
    """Return the function that selects the columns of the new group's primitives.

    It takes (..., edges, ops) of the old group; a tensor of another shape stays as it is.

    Raises:
        ValueError: An edge of the new group has a primitive that the old one had not.
    """
    rows = [
        [before.primitives.index(primitive) for primitive in after.primitives]
        for before, after in zip(old.edges, new.edges, strict=True)
    ]
    index = torch.tensor([[*row, *[0] * (new.width - len(row))] for row in rows])

    def change(value: Tensor) -> Tensor:
        if value.shape[-2:] != (len(old.edges), old.width):
            return value
        columns = index.to(value.device).expand(*value.shape[:-1], new.width)
        return value.gather(-1, columns) * new.mask(value.device)

    return change
