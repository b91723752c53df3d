"""Measure a network on labelled images: loss, confusion matrix, accuracy.

`retrain` and `evaluate` share the function `measure`, so that their numbers agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgrad import extras, seeds
from archgrad.data import Images, Preprocess
from archgrad.devices import device_named
from archgrad.seeds import seeded

BATCH = 256
"""Batch size of an evaluation."""


@dataclass(frozen=True)
class Measured:
    """Loss and confusions of a network on images.

    Attributes:
        loss: Mean cross-entropy.
        confusion: Counts of images (K, K), int64 on the CPU. The row is the true class, the column
            the predicted class.
    """

    loss: float
    confusion: Tensor

    @property
    def count(self) -> int:
        """Return the number of images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Return the share of correctly classified images."""
        return int(self.confusion.trace()) / self.count


def fabric(device: torch.device | str, precision: str) -> Any:
    """Return Lightning Fabric for one device.

    Args:
        device: The device.
        precision: ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``.

    Raises:
        ValueError: This machine lacks the device, or the device lacks the precision.
    """
    with extras.named():
        from lightning_fabric import Fabric  # takes a second

    # Fabric prints the precision at a lower level.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    device = torch.device(device)
    device_named(device)
    if device.type != "cuda" and precision == "16-mixed":
        raise ValueError(
            "retrain.precision 16-mixed needs a CUDA GPU; elsewhere use bf16-mixed or 32"
        )
    return Fabric(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        precision=precision,  # type: ignore[arg-type]
    )


@contextmanager
def torch_settings(threads: int, deterministic: bool) -> Iterator[None]:
    """Set torch's number of threads and its determinism, and restore both afterwards.

    The last digits of results depend on them.
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    if deterministic:
        seeds.use_deterministic_algorithms()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def logits(net: nn.Module, batches: Iterator[Tensor], seed: int) -> Iterator[Tensor]:
    """Yield the logits of batches of images, in evaluation mode.

    S4's `noise` draws in every pass, so each pass has its own seed.

    Args:
        net: The network, which returns an `archgrad.arch.Output`.
        batches: Normalised images (B, C, H, W).
        seed: Seed of the passes.

    Yields:
        Logits (B, K), float32.
    """
    net.eval()
    for place, images in enumerate(batches):
        with torch.no_grad(), seeded(seed, "evaluation", place, device=images.device):
            yield net(images).logits.float()


def measure(
    net: nn.Module,
    images: Images,
    preprocess: Preprocess,
    *,
    batch: int,
    seed: int,
    device: torch.device | str,
    between: Callable[[], object] = lambda: None,
) -> Measured:
    """Measure a network on all images, in their order.

    Args:
        net: The network, which returns an `archgrad.arch.Output`.
        images: The labelled images.
        preprocess: The way to crop and normalise them.
        batch: Batch size.
        seed: Seed of random ops.
        device: Device of ``net``.
        between: Function to call after each batch. It may raise an exception.

    Returns:
        Mean cross-entropy and confusions.

    Raises:
        ValueError: There is no image.
    """
    if not len(images):
        raise ValueError("there is no image to evaluate on")
    classes = len(preprocess.classes)
    chunks = torch.arange(len(images)).split(batch)
    pixels = (preprocess.crop_and_normalise(images.pixels(chunk).to(device)) for chunk in chunks)
    loss, pairs = (
        torch.zeros((), dtype=torch.float64, device=device),
        torch.zeros(classes * classes, dtype=torch.int64, device=device),
    )
    for chunk, found in zip(chunks, logits(net, pixels, seed)):
        labels = images.labels[chunk].to(device)
        loss += F.cross_entropy(found, labels, reduction="sum")
        pairs += torch.bincount(labels * classes + found.argmax(1), minlength=classes * classes)
        between()
    return Measured(loss.item() / len(images), pairs.view(classes, classes).cpu())
