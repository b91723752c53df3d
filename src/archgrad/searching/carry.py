"""Tables of edges and ops carried from one space to the next, by the names of the primitives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from archgrad.arch.edges import EdgeGroup, Groups

Change = Callable[[Tensor], Tensor]


def along(old: Groups, new: Groups, table: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A memory's table through a stage, which `Memory.bind` hears of: the columns of the primitives that stay, in their new places.

    Args:
        old: The groups of the space that ended.
        new: The groups of the space that begins.
        table: Group -> (..., edges, ops) of the old groups; entries of other shapes, and ``group/name``, are carried likewise or stay.

    Returns:
        Group -> (..., edges, ops) of the new groups, padding 0. Nothing is shared with ``table``.

    Raises:
        ValueError: An edge of the new space has a primitive that the old one had not.
    """
    found = {}
    for name, value in table.items():
        group = name.split("/")[0]
        if group not in new:
            raise ValueError(f"the table has {name!r}, and the space that begins has no such group")
        try:
            found[name] = chosen(old[group], new[group])(value).clone()
        except ValueError:
            raise ValueError(
                f"{group}: the space that begins has edges or primitives of which the one before had none"
            ) from None
    return found


def chosen(old: EdgeGroup, new: EdgeGroup) -> Change:
    """Columns (..., edges, ops) of the old group -> those of the primitives the new one has; what has no such columns stays."""
    rows = [
        [before.primitives.index(p) for p in after.primitives]
        for before, after in zip(old.edges, new.edges, strict=True)
    ]
    index = torch.tensor([[*row, *[0] * (new.width - len(row))] for row in rows])

    def change(value: Tensor) -> Tensor:
        if value.shape[-2:] != (len(old.edges), old.width):
            return value
        return value.gather(
            -1, index.to(value.device).expand(*value.shape[:-1], new.width)
        ) * new.mask(value.device)

    return change
