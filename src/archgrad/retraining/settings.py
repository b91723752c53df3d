"""Settings for the training of a derived network: published recipes as presets, schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from archgrad import options
from archgrad.arch.space import Space
from archgrad.errors import unknown_name
from archgrad.option_types import (
    Epochs,
    NotNegativeFloat,
    NotNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
)


@dataclass(frozen=True)
class RetrainSettings:
    """SGD of all weights of a derived network. The defaults are those of DARTS on CIFAR-10.

    Attributes:
        preset: name of the recipe that sets the defaults: cifar, imagenet, pdarts, nasbench201,
            nasbenchmacro, or quick (for a laptop).
        epochs: number of passes over the training images.
        batch: batch size of each training step.
        limit: number of training images to use, drawn at random so that each class keeps its share.
        lr: highest learning rate.
        lr_end: learning rate at the end of the schedule.
        schedule: curve of the learning rate, which changes once an epoch.
        warmup: number of epochs in which the learning rate rises at the start; at most half of all
            are used.
        momentum: momentum of SGD.
        nesterov: Nesterov momentum instead of plain momentum.
        decay: weight decay of all parameters.
        clip: largest norm of all gradients together; 0 is off.
        drop_path: probability of dropping a path at the end of the training; it rises linearly from
            0.
        cutout: side of the erased square in pixels; at most half of the image's side is used.
        jitter: strength of colour jitter, for RGB images only.
        auxiliary: weight of the auxiliary head's loss; 0 removes the head.
        auxiliary_bn: second BatchNorm in the auxiliary head of the imagenet stem, as in P-DARTS.
        label_smoothing: fraction of each label that is spread over all classes.
        class_weights: weights of the classes in the loss; balanced divides by the number of
            training images of each class.
        channels: number of channels of the first cell, or of a chain's stem.
        cells: number of cells (in NAS-Bench-201, of each stage; a chain has none).
        precision: precision of the forward and backward passes; weights are always float32.
        evaluate_every: number of epochs between two tests; the last epoch always ends with one.
    """

    preset: str = "cifar"
    epochs: Epochs = 600
    batch: Annotated[int, Field(ge=2)] = 96
    limit: PositiveInt | None = None
    lr: PositiveFloat = 0.025
    lr_end: NotNegativeFloat = 0.0
    schedule: Literal["cosine", "linear"] = "cosine"
    warmup: NotNegativeInt = 0
    momentum: Share = 0.9
    nesterov: bool = False
    decay: NotNegativeFloat = 3e-4
    clip: NotNegativeFloat = 5.0
    drop_path: Share = 0.2
    cutout: NotNegativeInt = 16
    jitter: NotNegativeFloat = 0.0
    auxiliary: NotNegativeFloat = 0.4
    auxiliary_bn: bool = False
    label_smoothing: Share = 0.0
    class_weights: Literal["equal", "balanced"] = "equal"
    channels: PositiveInt | None = 36
    cells: PositiveInt | None = 20
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    evaluate_every: PositiveInt = 1

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0.

        The cosine schedule is that of quark0/darts and AutoDL-Projects (whose code ignores the step
        within the epoch). The linear schedule is that of P-DARTS's ImageNet code: its last 5 of 250
        epochs fall more slowly, and here the same share of the epochs does. Warm-up over w epochs
        multiplies by 1/w, 2/w, ..., as in P-DARTS.
        """
        if self.schedule == "cosine":
            left = 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        else:
            tail = round(self.epochs / 50)
            steep, remaining = self.epochs - tail, self.epochs - epoch
            left = (remaining - tail) / steep if remaining > tail else remaining / (steep * tail)
        rising = min(self.warmup, self.epochs // 2)
        return (self.lr_end + (self.lr - self.lr_end) * left) * min(
            1.0, (epoch + 1) / max(rising, 1)
        )

    def drop_path_at(self, epoch: int) -> float:
        """Return the drop-path probability ``drop_path * epoch / epochs`` of quark0/darts."""
        return self.drop_path * epoch / self.epochs

    def cutout_side(self, size: int) -> int:
        """Return the side in pixels of cutout's square for images of side ``size``.

        The side is at most half of ``size``: CIFAR's 16 is half of 32.
        """
        return min(self.cutout, size // 2)


CIFAR = RetrainSettings()
"""DARTS, arXiv 1806.09055, quark0/darts train.py."""

IMAGENET = RetrainSettings(
    preset="imagenet",
    epochs=250,
    batch=1024,
    lr=0.5,
    schedule="linear",
    warmup=5,
    decay=3e-5,
    drop_path=0.0,
    cutout=0,
    jitter=0.4,
    label_smoothing=0.1,
    channels=48,
    cells=14,
)
"""P-DARTS and PC-DARTS. (quark0/darts uses batch 128, lr 0.1 times 0.97 an epoch, and no
warm-up.)"""

PDARTS = replace(IMAGENET, preset="pdarts", auxiliary_bn=True)
"""P-DARTS, arXiv 1904.12760. Its code has a second BatchNorm in the auxiliary head; the code of
DARTS and of PC-DARTS has none."""

NASBENCH201 = RetrainSettings(
    preset="nasbench201",
    epochs=200,
    batch=256,
    lr=0.1,
    nesterov=True,
    decay=5e-4,
    clip=0.0,
    drop_path=0.0,
    cutout=0,
    auxiliary=0.0,
    channels=16,
    cells=5,
)
"""NAS-Bench-201, arXiv 2001.00326, AutoDL-Projects configs/nas-benchmark/CIFAR.config."""

NASBENCHMACRO = replace(
    NASBENCH201, preset="nasbenchmacro", epochs=50, nesterov=False, channels=None, cells=None
)
"""NAS-Bench-Macro, arXiv 2103.11922, xiusu/NAS-Bench-Macro train/train.py. Its result is the
accuracy of the best epoch; ours is the accuracy of the last epoch."""

QUICK = RetrainSettings(
    preset="quick",
    epochs=10,
    lr=0.1,
    nesterov=True,
    drop_path=0.0,
    cutout=0,
    auxiliary=0.0,
    channels=16,
    cells=5,
)
"""A REDUCED recipe of our own for a laptop, from no paper: a small network, few epochs, and none
of the regularisation that only long trainings need."""

PRESETS = {
    "cifar": CIFAR,
    "imagenet": IMAGENET,
    "pdarts": PDARTS,
    "nasbench201": NASBENCH201,
    "nasbenchmacro": NASBENCHMACRO,
    "quick": QUICK,
}

BENCHMARKS = ("nasbench201", "nasbenchmacro")
"""The presets that are the recipe of one library space."""
OWN = ("channels", "cells", "drop_path")
"""Settings that a module of the user's decides by itself."""

SMALLER: dict[str, dict[str, int]] = {
    "nasbench201": {"cells": 1},
    "nasbenchmacro": {"channels": 8},
    "mbconv": {"channels": 8},
}
"""Values of QUICK for spaces that count size differently: the cells of NAS-Bench-201 are those of
one of its three stages."""


def retrain_settings(space: Space, given: Mapping[str, Any] | None = None) -> RetrainSettings:
    """Return the settings of a preset with some of them replaced.

    Args:
        space: The space of the network. Its name and its stem decide the default preset.
        given: Settings by name, ``preset`` among them.

    Returns:
        The settings of the preset, with the values of ``given``.

    Raises:
        ValueError: The preset is unknown, or a value has the wrong type or is out of range.
    """
    given = dict(given or {})
    name = given.get("preset") or default_preset(space)
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    _check_own(space, given, name)
    smaller = SMALLER.get(space.name, {}) if name == "quick" else {}
    return settings_from(
        asdict(PRESETS[name]) | _chain_settings(space) | smaller | given | {"preset": name}
    )


def _check_own(space: Space, given: Mapping[str, Any], preset: str) -> None:
    """Raise ValueError for settings that a module of the user's does not take."""
    if "channels" in space.spec():
        return
    if preset in BENCHMARKS:
        raise ValueError(
            f"retrain.preset: {preset} is the recipe of a library space, with its width and depth: "
            f"for {space.name} choose cifar, imagenet or quick"
        )
    for name in OWN:
        if given.get(name):
            raise ValueError(
                f"retrain.{name}: {space.name} is a module of your own, which decides this by "
                "itself: leave it out"
            )


def _chain_settings(space: Space) -> dict[str, Any]:
    """Return settings without meaning in a chain: its size is fixed, and it has no such head."""
    spec = space.spec()
    if "channels" not in spec:
        return {"channels": None, "cells": None, "drop_path": 0.0, "auxiliary": 0.0}
    return ({} if "cells" in spec else {"channels": None, "cells": None}) | (
        {} if "auxiliary" in spec else {"auxiliary": 0.0}
    )


def default_preset(space: Space) -> str:
    """Return the preset of a benchmark in its space, else the recipe for the stem."""
    if space.name in PRESETS:
        return space.name
    return "imagenet" if space.spec().get("stem") == "imagenet" else "cifar"


def settings_from(values: Mapping[str, Any]) -> RetrainSettings:
    """Return settings after a check of their types and ranges.

    Raises:
        ValueError: A value is wrong. The message reads ``retrain.epochs: REASON, not -1``.
    """
    return options.call("retrain", RetrainSettings, values)
