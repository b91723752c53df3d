"""Accuracy and loss of a network on images that it does not learn from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

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
    classes: bool = True,
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
        classes: Whether the labels are classes. If not, the accuracy is nan.

    Returns:
        Accuracy in [0, 1], and mean cross-entropy in nats (or mean ``loss``).

    Raises:
        ValueError: There are no images, or the labels are no classes.
    """
    right = total = count = 0.0
    with measuring(net, training=batch_statistics):
        for number, batch in enumerate(batches):
            with seeded(*place, "accuracy", number, device=batch.device):
                output = net(batch.images, mixture)
            if classes:
                check_classes(output.logits, batch.labels)
                found = output.exact.argmax(1)
                right += (found.flatten() == batch.labels.flatten()).sum().item()
            size = tree_leaves(batch.labels)[0].numel()
            total += (
                loss(output, batch) * size
                if loss
                else F.cross_entropy(output.exact, batch.labels, reduction="sum")
            ).item()
            count += size
    if not count:
        raise ValueError("no images to measure accuracy on")
    return right / count if classes else math.nan, total / count


def are_classes(logits: Any, labels: Any) -> bool:
    """Return whether labels are classes of logits: (B,) of (B, K), or (B, ...) of (B, K, ...)."""
    if not (torch.is_tensor(logits) and torch.is_tensor(labels)) or logits.dim() < 2:
        return False
    return not labels.is_floating_point() and logits[:, 0].numel() == labels.numel()


def check_classes(logits: Any, labels: Any) -> None:
    """Check that labels are classes of logits, as an accuracy needs them.

    Raises:
        ValueError: They are not; the message has both shapes.
    """
    if not are_classes(logits, labels):
        shown = [
            str(tuple(one.shape)) if torch.is_tensor(one) else type(one).__name__
            for one in (logits, labels)
        ]
        raise ValueError(
            f"an accuracy needs logits (B, K) and classes (B,), not {shown[0]} and {shown[1]}: "
            "give module_space(logits=function of the output), or take a method without accuracies"
        )
