"""The batch that enters a network, the output that leaves it, and a loss of both.

In shapes, B is the number of images and K the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Batch(NamedTuple):
    """Images (B, C, H, W) float, labels (B,) int64, and the index in their split (B,) int64."""

    images: Tensor
    labels: Tensor
    # A tuple has a method of this name, which a batch does not need.
    index: Tensor  # type: ignore[assignment]


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
        """Return the logits in float32 or wider, for losses."""
        import torch

        return self.logits.to(torch.promote_types(self.logits.dtype, torch.float32))


Loss = Callable[[Output, Batch], "Tensor"]
"""(output, batch) -> scalar, a mean over the images."""
