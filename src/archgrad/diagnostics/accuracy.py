"""Accuracy and loss of a net on images it does not learn from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss
from archgrad.diagnostics.measuring import measuring
from archgrad.seeds import forked


@torch.no_grad()
def accuracy(
    net: nn.Module,
    mixture: Mixture | None,
    batches: Iterable[Batch],
    *place: object,
    batch_statistics: bool = False,
    loss: Loss | None = None,
) -> tuple[float, float]:
    """(share right in [0, 1], mean cross-entropy in nats, or what ``loss`` has in its place) over all batches, in evaluation mode, or, with
    ``batch_statistics``, in training mode: then every BatchNorm normalises by the batch at hand. Mode and buffers are restored.

    What the net draws even then (S4's noise) is a function of ``place``, which begins with the seed. ValueError if there are no images.
    """
    right = whole = count = 0.0
    with measuring(net, training=batch_statistics):
        for k, batch in enumerate(batches):
            with forked(*place, "accuracy", k, device=batch.images.device):
                output = net(batch.images, mixture)
            right += (output.exact.argmax(1) == batch.labels).sum().item()
            whole += (
                loss(output, batch) * len(batch.labels)
                if loss
                else F.cross_entropy(output.exact, batch.labels, reduction="sum")
            ).item()
            count += len(batch.labels)
    if not count:
        raise ValueError("no images to measure accuracy on")
    return right / count, whole / count
