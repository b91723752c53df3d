"""Accuracy and loss of a network on images that it does not learn from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss
from archgrad.diagnostics.measuring import measuring
from archgrad.seeds import seeded


@torch.no_grad()
def accuracy(
    net: nn.Module,
    mixture: Mixture | None,
    batches: Iterable[Batch],
    *place: object,
    batch_statistics: bool = False,
    loss: Loss | None = None,
) -> tuple[float, float]:
    """Return the accuracy and the loss of a network. Its mode and its buffers are restored.

    Args:
        net: Network, which takes (images, mixture).
        mixture: Mixture of the pass.
        batches: Batches of images.
        *place: Seed and place of the random draws that the network makes (the noise of S4).
        batch_statistics: Whether the network is in training mode, in which every BatchNorm
            normalises by the current batch; otherwise it is in evaluation mode.
        loss: Loss in the place of the cross-entropy.

    Returns:
        Accuracy in [0, 1], and mean cross-entropy in nats (or mean ``loss``).

    Raises:
        ValueError: There are no images.
    """
    right = total = count = 0.0
    with measuring(net, training=batch_statistics):
        for number, batch in enumerate(batches):
            with seeded(*place, "accuracy", number, device=batch.images.device):
                output = net(batch.images, mixture)
            right += (output.exact.argmax(1) == batch.labels).sum().item()
            total += (
                loss(output, batch) * len(batch.labels)
                if loss
                else F.cross_entropy(output.exact, batch.labels, reduction="sum")
            ).item()
            count += len(batch.labels)
    if not count:
        raise ValueError("no images to measure accuracy on")
    return right / count, total / count
