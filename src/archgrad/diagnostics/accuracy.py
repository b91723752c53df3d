"""Accuracy and loss of a net on images it does not learn from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from archgrad.arch import Batch, Mixture
from archgrad.seeds import forked


@torch.no_grad()
def accuracy(net: nn.Module, mixture: Mixture | None, batches: Iterable[Batch], *place: object) -> tuple[float, float]:
    """(share right in [0, 1], mean cross-entropy) over all batches, in evaluation mode; the net's mode is restored.

    What the net draws even then (S4's noise) is a function of ``place``, which begins with the seed.
    """
    training = net.training
    net.eval()
    right = loss = count = 0.0
    try:
        for k, batch in enumerate(batches):
            with forked(*place, "accuracy", k, device=batch.images.device):
                logits = net(batch.images, mixture).logits.float()
            right += (logits.argmax(1) == batch.labels).sum().item()
            loss += F.cross_entropy(logits, batch.labels, reduction="sum").item()
            count += len(batch.labels)
    finally:
        net.train(training)
    if not count:
        raise ValueError("no images to measure accuracy on")
    return right / count, loss / count
