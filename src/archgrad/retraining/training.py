"""State of the training of one network, and the training step that changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch.passes import Batch
from archgrad.retraining.card import Card
from archgrad.retraining.measure import fabric
from archgrad.searching.finite import all_finite
from archgrad.searching.start import initialise
from archgrad.seeds import seeded
from archgrad.spaces import noise
from archgrad.storage import checkpoint_schema

SUMS = ("images", "train_loss", "train_accuracy")


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Return the weights of the classes in the loss.

    Args:
        counts: Number of training images of each class.

    Returns:
        Weights (K,), float32: N / (K * count), as in scikit-learn's
        ``compute_class_weight("balanced")``; 0 for a class without an image.
    """
    images = torch.tensor(counts, dtype=torch.float64)
    return torch.where(images > 0, images.sum() / (len(counts) * images), 0.0).float()


class Training:
    """A network, its optimizer and its place in the training, which starts at epoch 0.

    The initial weights are a function of the seed. `pack` and `restore` write and read a
    checkpoint's content.

    Args:
        card: The network and its recipe.
        device: The device to train on. None selects the device of the card.
        counts: Number of training images of each class, for a recipe with balanced class weights.
    """

    def __init__(
        self, card: Card, device: torch.device | str | None = None, counts: Sequence[int] = ()
    ) -> None:
        settings = card.settings
        self.card, self.device = card, torch.device(device or card.device)
        self.fabric = fabric(self.device, settings.precision)
        self.derived = card.build(auxiliary=settings.auxiliary > 0, fixed=True)
        initialise(self.derived, card.seed).to(self.device)
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
            balanced_weights(counts).to(self.device)
            if settings.class_weights == "balanced"
            else None
        )
        self.epoch, self.step = 0, 0
        # Sums over the images of this epoch: their number, losses, correct predictions.
        self.sums: dict[str, Tensor] = {}

    def advance(self, batch: Batch) -> None:
        """Make one step of SGD.

        Drop-path is drawn from (seed, epoch, step). The learning rate changes once an epoch.
        """
        settings = self.card.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(self.epoch)
        self.net.train()
        with seeded(self.card.seed, "retrain", self.epoch, self.step, device=self.device):
            output = self.net(batch.images, drop_path=settings.drop_path_at(self.epoch))
        loss = self._loss(output.logits, batch.labels)
        if output.auxiliary is not None:
            loss = loss + settings.auxiliary * self._loss(output.auxiliary, batch.labels)
        self.fabric.backward(loss)
        if settings.clip:
            # Gradients may be infinite. Under 16-mixed the scaler then skips the step; with other
            # precisions `check_finite` finds the diverged loss at the end of the epoch.
            self.fabric.clip_gradients(
                self.net, self.stepper, max_norm=settings.clip, error_if_nonfinite=False
            )
        self.stepper.step()
        self.optimizer.zero_grad()
        self._count(batch, loss.detach(), output.logits.detach())
        self.step += 1

    def averages(self) -> dict[str, float]:
        """Return train_loss and train_accuracy of this epoch so far.

        The loss contains the auxiliary head's loss, as in the logs of published code.
        """
        images = self.sums["images"].item()
        return {name: self.sums[name].item() / images for name in ("train_loss", "train_accuracy")}

    def check_finite(self) -> None:
        """Check that the training has not diverged.

        Raises:
            ValueError: This epoch's loss, a weight, a statistic or a momentum is not finite.
        """
        if not (
            all(value.isfinite() for value in self.sums.values())
            and all_finite([self.derived], [self.optimizer])
        ):
            raise ValueError(
                f"the training diverged in epoch {self.epoch + 1}: "
                f"try a --retrain.lr below {self.card.settings.lr}"
            )

    def next_epoch(self) -> None:
        """Move to the first step of the next epoch."""
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}

    def pack(self) -> dict[str, Any]:
        """Return the content of a checkpoint: tensors and Python scalars."""
        return {
            "version": checkpoint_schema.VERSION,
            "kind": "retrain",
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "net": self.derived.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, content: dict[str, Any], steps: int) -> None:
        """Continue from the content of a checkpoint.

        Args:
            content: The result of `pack`.
            steps: Number of steps of an epoch.

        Raises:
            ValueError: The checkpoint belongs to a search or to another network; the message names
                the part that does not fit.
        """
        if content.get("kind") != "retrain":
            raise ValueError("the checkpoint is that of a search, not of a retraining")
        plain = checkpoint_schema.check_plain_part(checkpoint_schema.SavedTraining, content)
        checkpoint_schema.check_bound("epoch", plain.epoch, self.card.settings.epochs)
        checkpoint_schema.check_bound(
            "step", plain.step, steps if plain.epoch < self.card.settings.epochs else 0
        )
        # A network without noise, or a training that began before noise draws were fixed.
        if not noise.are_fixed(content["net"]):
            noise.release_noise(self.derived)
        precision = self.fabric.strategy.precision
        checkpoint_schema.check_tensors("net", plain.net, self.derived.state_dict())
        checkpoint_schema.check_optimizer("optimizer", plain.optimizer, self.optimizer)
        checkpoint_schema.check_keys("scaler", plain.scaler, precision.state_dict())
        number = torch.zeros((), dtype=torch.float64)
        checkpoint_schema.check_tensors(
            "sums", plain.sums, dict.fromkeys(SUMS if plain.step else (), number)
        )
        self.derived.load_state_dict(content["net"])
        with checkpoint_schema.naming_field("optimizer"):
            self.optimizer.load_state_dict(content["optimizer"])
        with checkpoint_schema.naming_field("scaler"):
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
