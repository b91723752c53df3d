"""The batch that enters a network, the output that leaves it, and a loss of both.

In shapes, B is the number of images and K the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Batch(NamedTuple):
    """Images (B, C, H, W) float, labels (B,) int64, and the index in their split (B,) int64.

    A module of the user's may take any tree of tensors in the place of the images, and its loss any
    in the place of the labels.
    """

    images: Tensor
    labels: Tensor
    # A tuple has a method of this name, which a batch does not need.
    index: Tensor  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:
        """Return the device of the images."""
        import torch
        from torch.utils._pytree import tree_leaves

        tensors = (leaf for leaf in tree_leaves(self.images) if torch.is_tensor(leaf))
        return next((leaf.device for leaf in tensors), torch.device("cpu"))

    def split(self, parts: int) -> list[tuple[float, Batch]]:
        """Return the batch in parts, each behind its share of the samples."""
        if parts == 1:
            return [(1.0, self)]
        from torch.utils._pytree import tree_flatten, tree_unflatten

        leaves, form = tree_flatten(tuple(self))
        size = len(leaves[0])
        columns = [leaf.tensor_split(parts) for leaf in leaves]
        found = [Batch(*tree_unflatten(list(row), form)) for row in zip(*columns)]
        return [
            (len(row[0]) / size, batch) for row, batch in zip(zip(*columns), found) if len(row[0])
        ]


class Output(NamedTuple):
    """Logits (B, K), features (B, C, H, W) of each stage, and logits (B, K) of the auxiliary head.

    ``auxiliary`` is None in evaluation mode and for a network without that head. ``raw`` is the
    output of a module of the user's, which need not be a tensor.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    auxiliary: Tensor | None = None
    raw: Any = None

    @property
    def exact(self) -> Tensor:
        """Return the logits in float32 or wider, for losses.

        Raises:
            ValueError: The output of a module of the user's is no tensor.
        """
        import torch

        if not torch.is_tensor(self.logits):
            raise ValueError(
                f"logits (B, K) are needed, but the module returned {type(self.logits).__name__}: "
                "give module_space(logits=function of the output)"
            )
        return self.logits.to(torch.promote_types(self.logits.dtype, torch.float32))


Loss = Callable[[Output, Batch], "Tensor"]
"""(output, batch) -> scalar, a mean over the images."""
Metric = Callable[[Output, Batch], "Tensor | None"]
"""(output, batch) -> scalar, or None where it is not known."""
