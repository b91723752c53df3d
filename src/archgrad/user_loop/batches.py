"""Batches as a user has them, and loaders in the place of a search's images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from itertools import chain, islice, repeat
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from archgrad.arch.passes import Batch
from archgrad.errors import short_repr

UNKNOWN = torch.zeros(0, dtype=torch.int64)
"""The index of samples that have none."""


def batch_of(given: Any, split: str, device: torch.device, parts: int = 1) -> Batch:
    """Return a batch in any of its forms, on a device.

    Args:
        given: (inputs, targets), (inputs, targets, index), a `Batch`, or a function without
            arguments that returns a scalar loss. Inputs and targets are tensors or trees of them.
        split: Name of the split, for an error.
        device: Device of the tensors.
        parts: Number of parts in which a step computes the batch.

    Raises:
        ValueError: The value has another form, or it cannot be split into so many parts.
    """
    if type(parts) is not int or parts < 1:
        raise ValueError(
            f"accumulate must be a whole number of at least 1, not {short_repr(parts)}"
        )
    if callable(given):
        if parts > 1:
            raise ValueError("a function cannot be split: leave out accumulate, or give batches")
        return Batch(given, None, UNKNOWN)  # type: ignore[arg-type]
    if isinstance(given, Batch):
        given = given[:3]
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise ValueError(
            f"{split}: a batch (inputs, targets) or a function that returns the loss is expected, "
            f"not {short_repr(given)}"
        )
    inputs, targets, *index = tree_map_only(Tensor, lambda x: x.to(device), tuple(given))
    batch = Batch(inputs, targets, index[0] if index else UNKNOWN)
    if parts > 1:
        sizes = {len(x) if torch.is_tensor(x) and x.dim() else 0 for x in tree_leaves(batch[:2])}
        if len(sizes) > 1 or min(sizes) < parts:
            raise ValueError(
                f"{split}: a batch of {min(sizes)} samples cannot be computed in {parts} parts"
            )
    return batch


class Loaders:
    """Loaders in the place of a search's images (`archgrad.searching.types.SearchData`).

    Args:
        loaders: Split -> iterable of batches; each pass over it begins anew.
        device: Device of the batches.
        missing: Function (split) -> the error for a split without a loader.
    """

    def __init__(
        self,
        loaders: Mapping[str, Iterable[Any]],
        device: torch.device,
        missing: Callable[[str], ValueError],
    ) -> None:
        self.loaders, self.device, self.missing = dict(loaders), device, missing

    def _loader(self, split: str) -> Iterable[Any]:
        if split not in self.loaders:
            raise self.missing(split)
        return self.loaders[split]

    def count(self, split: str = "train") -> int:
        """Return the number of samples of a split; 0 if its loader does not tell it."""
        loader = self._loader(split)
        dataset = getattr(loader, "dataset", None)
        return len(dataset) if isinstance(dataset, Sized) else 0

    def steps(self, split: str = "train") -> int:
        """Return the number of batches of a split."""
        loader = self._loader(split)
        return len(loader) if isinstance(loader, Sized) else sum(1 for _ in loader)

    def batches(
        self, split: str, epoch: int, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        """Yield batches of a split; a loader that ends begins again."""
        loader = self._loader(split)
        again = chain.from_iterable(repeat(loader))
        last = start + (self.steps(split) - start if steps is None else steps)
        for given in islice(again, start, last):
            yield batch_of(given, split, self.device)

    def evaluation(self, split: str, batch: int = 256, limit: int | None = None) -> Iterator[Batch]:
        """Yield the batches of a split in the order of its loader, up to ``limit`` samples."""
        seen = 0
        for given in self._loader(split):
            found = batch_of(given, split, self.device)
            size = len(tree_leaves(found.labels)[0])
            if limit is not None and seen + size > limit:
                found = _first(found, limit - seen)
            yield found
            seen += size
            if limit is not None and seen >= limit:
                return


def _first(batch: Batch, count: int) -> Batch:
    return Batch(*tree_map_only(Tensor, lambda x: x[:count], tuple(batch[:3])))
