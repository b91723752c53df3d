"""What enters and leaves a network: a batch, its output, and a loss of both. B images, K classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Batch(NamedTuple):
    """images (B, C, H, W) float, labels (B,) int64, index (B,) int64: each sample's place in its split."""

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # tuple has a method of this name, which a batch does not need


class Output(NamedTuple):
    """logits (B, K); features, one (B, C, H, W) per stage; auxiliary logits (B, K) where the network has that head and is training."""

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    auxiliary: Tensor | None = None

    @property
    def exact(self) -> Tensor:
        """The logits in float32 at least, for losses."""
        import torch

        return self.logits.to(torch.promote_types(self.logits.dtype, torch.float32))


Loss = Callable[[Output, Batch], "Tensor"]
"""(output, batch) -> scalar, a mean over the images."""
