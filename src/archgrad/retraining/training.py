"""The training of one network at one moment: all that changes, and the step that changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch.passes import Batch
from archgrad.retraining.card import Card
from archgrad.retraining.measure import fabric
from archgrad.searching.finite import whole
from archgrad.searching.start import seeded
from archgrad.seeds import forked
from archgrad.spaces import noise
from archgrad.storage import saved

SUMS = ("images", "train_loss", "train_accuracy")


def balanced(counts: Sequence[int]) -> Tensor:
    """Weights of the classes in the loss.

    Args:
        counts: Training images of each class.

    Returns:
        (K,) float: N / (K * count), as scikit-learn's ``compute_class_weight("balanced")``; 0 for a class without an image.
    """
    images = torch.tensor(counts, dtype=torch.float64)
    return torch.where(images > 0, images.sum() / (len(counts) * images), 0.0).float()


class Training:
    """Built from a card at epoch 0; `pack` and `restore` are what a checkpoint holds. Initial weights are a function of the seed.

    Args:
        card: The network and its recipe.
        device: Where it is trained; by default where the card says.
        counts: Training images of each class, which weigh the classes where the recipe asks for it.
    """

    def __init__(
        self, card: Card, device: torch.device | str | None = None, counts: Sequence[int] = ()
    ) -> None:
        settings = card.settings
        self.card, self.device = card, torch.device(device or card.device)
        self.fabric = fabric(self.device, settings.precision)
        self.derived = card.build(auxiliary=settings.auxiliary > 0, fixed=True)
        seeded(self.derived, card.seed).to(self.device)
        self.net = self.fabric.setup_module(self.derived.network)
        sgd: dict[str, Any] = {
            "momentum": settings.momentum,
            "nesterov": settings.nesterov,
            "weight_decay": settings.decay,
        }
        self.optimizer = torch.optim.SGD(
            self.derived.parameters(), settings.lr, **sgd, foreach=True
        )
        self.stepper = self.fabric.setup_optimizers(self.optimizer)
        self.class_weights = (
            balanced(counts).to(self.device) if settings.class_weights == "balanced" else None
        )
        self.epoch, self.step = 0, 0
        self.sums: dict[
            str, Tensor
        ] = {}  # of this epoch: loss and accuracy over images, and how many there were

    def advance(self, batch: Batch) -> None:
        """One step of SGD. Drop-path is drawn from (seed, epoch, step); the learning rate moves once an epoch."""
        settings = self.card.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.epoch)
        self.net.train()
        with forked(self.card.seed, "retrain", self.epoch, self.step, device=self.device):
            output = self.net(batch.images, drop_path=settings.dropping(self.epoch))
        loss = self._loss(output.logits, batch.labels)
        if output.auxiliary is not None:
            loss = loss + settings.auxiliary * self._loss(output.auxiliary, batch.labels)
        self.fabric.backward(loss)
        if settings.clip:  # not finite: under 16-mixed the scaler then skips the step; otherwise the epoch's loss says so
            self.fabric.clip_gradients(
                self.net, self.stepper, max_norm=settings.clip, error_if_nonfinite=False
            )
        self.stepper.step()
        self.optimizer.zero_grad()
        self._count(batch, loss.detach(), output.logits.detach())
        self.step += 1

    def averages(self) -> dict[str, float]:
        """train_loss (with the auxiliary head's share, as the field logs it) and train_accuracy of this epoch so far."""
        images = self.sums["images"].item()
        return {name: self.sums[name].item() / images for name in ("train_loss", "train_accuracy")}

    def check(self) -> None:
        """ValueError if this epoch's loss, or a weight, statistic or momentum, is not finite."""
        if not (
            all(value.isfinite() for value in self.sums.values())
            and whole([self.derived], [self.optimizer])
        ):
            raise ValueError(
                f"the training diverged in epoch {self.epoch + 1}: try a --retrain.lr below {self.card.settings.lr}"
            )

    def next_epoch(self) -> None:
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}

    def pack(self) -> dict[str, Any]:
        """Tensors and Python scalars only."""
        return {
            "version": saved.VERSION,
            "kind": "retrain",
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "net": self.derived.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, content: dict[str, Any], steps: int) -> None:
        """Inverse of `pack`, in a training of ``steps`` steps an epoch. ValueError if it is no retraining's, or of another network: names the
        part that says so."""
        if content.get("kind") != "retrain":
            raise ValueError("the checkpoint is that of a search, not of a retraining")
        plain = saved.plain(saved.SavedTraining, content)
        saved.check_bound("epoch", plain.epoch, self.card.settings.epochs)
        saved.check_bound(
            "step", plain.step, steps if plain.epoch < self.card.settings.epochs else 0
        )
        if not noise.are_fixed(
            content["net"]
        ):  # of a network without noise, or one that began before its draws were fixed
            noise.free(self.derived)
        precision = self.fabric.strategy.precision
        saved.check_tensors("net", plain.net, self.derived.state_dict())
        saved.check_optimizer("optimizer", plain.optimizer, self.optimizer)
        saved.check_keys("scaler", plain.scaler, precision.state_dict())
        number = torch.zeros((), dtype=torch.float64)
        saved.check_tensors("sums", plain.sums, dict.fromkeys(SUMS if plain.step else (), number))
        self.derived.load_state_dict(content["net"])
        with saved.naming("optimizer"):
            self.optimizer.load_state_dict(content["optimizer"])
        with saved.naming("scaler"):
            precision.load_state_dict(content["scaler"])
        self.epoch, self.step, self.sums = plain.epoch, plain.step, dict(content["sums"])

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, labels, self.class_weights, label_smoothing=self.card.settings.label_smoothing
        )

    def _count(self, batch: Batch, loss: Tensor, logits: Tensor) -> None:
        images = torch.tensor(float(len(batch.labels)), dtype=torch.float64, device=self.device)
        right = (logits.argmax(1) == batch.labels).sum().double()
        for name, value in zip(SUMS, (images, loss.double() * images, right), strict=True):
            self.sums[name] = self.sums[name] + value if name in self.sums else value
