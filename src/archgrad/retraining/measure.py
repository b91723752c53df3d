"""What a trained network makes of images: its confusions, and with them its accuracy. Training and `evaluate` measure by this one function."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgrad import seeds
from archgrad.data import Images, Preprocess
from archgrad.devices import device_named
from archgrad.seeds import forked

BATCH = 256
"""Images a step of an evaluation."""


@dataclass(frozen=True)
class Measured:
    """loss: mean cross-entropy; confusion (K, K) int64 on the CPU: row true class, column predicted class."""

    loss: float
    confusion: Tensor

    @property
    def count(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the images that were classified rightly."""
        return int(self.confusion.trace()) / self.count


def fabric(device: torch.device | str, precision: str) -> Any:
    """Lightning Fabric for one device. ValueError for a device this machine, or a precision the device, does not have."""
    from lightning_fabric import Fabric  # takes a second

    logging.getLogger("lightning_fabric").setLevel(
        logging.WARNING
    )  # it would announce the precision
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
def surroundings(threads: int, deterministic: bool) -> Iterator[None]:
    """torch's number of threads and its determinism inside, both restored afterwards: the last digits depend on them."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    if deterministic:
        seeds.deterministic()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def logits(net: nn.Module, batches: Iterator[Tensor], seed: int) -> Iterator[Tensor]:
    """Images (B, C, H, W) -> logits (B, K) float, batch by batch, in evaluation mode; ``net`` returns an `Output`.

    S4's `noise` draws at every pass, so a pass is seeded by its place like everything else.
    """
    net.eval()
    for k, images in enumerate(batches):
        with torch.no_grad(), forked(seed, "evaluation", k, device=images.device):
            yield net(images).logits.float()


def measure(
    net: nn.Module, images: Images, preprocess: Preprocess, *, batch: int, seed: int, device: torch.device | str,
    between: Callable[[], object] = lambda: None,
) -> Measured:  # fmt: skip
    """All images once, in order; ``between`` is called after each batch, and may raise. ValueError if there is none."""
    if not len(images):
        raise ValueError("there is no image to evaluate on")
    classes = len(preprocess.classes)
    chunks = torch.arange(len(images)).split(batch)
    pixels = (preprocess.images(images.pixels(chunk).to(device)) for chunk in chunks)
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
