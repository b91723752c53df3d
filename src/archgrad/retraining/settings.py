"""How a derived network is trained: the field's recipes as presets, and the schedules they share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from archgrad import options
from archgrad.arch.space import Space
from archgrad.errors import unknown
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
    """SGD of all weights of a derived network. The defaults are those of DARTS on CIFAR-10."""

    preset: Annotated[
        str,
        Field(
            description="the recipe to start from: cifar, imagenet, a benchmark's own, or quick for a laptop"
        ),
    ] = "cifar"
    epochs: Annotated[Epochs, Field(description="passes over the training images")] = 600
    batch: Annotated[int, Field(ge=2, description="images a step")] = 96
    limit: Annotated[
        PositiveInt | None, Field(description="number of images to train on, a stratified choice")
    ] = None
    lr: Annotated[PositiveFloat, Field(description="learning rate at its highest")] = 0.025
    lr_end: Annotated[
        NotNegativeFloat, Field(description="learning rate the schedule falls to")
    ] = 0.0
    schedule: Annotated[
        Literal["cosine", "linear"],
        Field(description="curve by which the learning rate falls, once an epoch"),
    ] = "cosine"
    warmup: Annotated[
        NotNegativeInt,
        Field(description="epochs in which the learning rate rises; at most half of all"),
    ] = 0
    momentum: Annotated[Share, Field(description="momentum of SGD")] = 0.9
    nesterov: Annotated[bool, Field(description="take Nesterov's form of the momentum")] = False
    decay: Annotated[NotNegativeFloat, Field(description="weight decay, of all parameters")] = 3e-4
    clip: Annotated[
        NotNegativeFloat, Field(description="largest norm of all gradients; 0 is off")
    ] = 5.0
    drop_path: Annotated[
        Share, Field(description="probability of dropping a path, reached linearly at the end")
    ] = 0.2
    cutout: Annotated[
        NotNegativeInt,
        Field(description="side of the erased square in pixels; at most half the image's"),
    ] = 16
    jitter: Annotated[
        NotNegativeFloat, Field(description="strength of colour jitter, RGB images only")
    ] = 0.0
    auxiliary: Annotated[
        NotNegativeFloat,
        Field(description="weight of the auxiliary head's loss; 0 is no such head"),
    ] = 0.4
    auxiliary_bn: Annotated[
        bool,
        Field(
            description="second BatchNorm in the auxiliary head of the imagenet stem, as P-DARTS has"
        ),
    ] = False
    label_smoothing: Annotated[
        Share, Field(description="share of each label that is spread over all classes")
    ] = 0.0
    class_weights: Annotated[
        Literal["equal", "balanced"],
        Field(
            description="weights of the classes in the loss; balanced is inverse to their training images, for unbalanced classes"
        ),
    ] = "equal"
    channels: Annotated[
        PositiveInt | None, Field(description="channels of the first cell, or of a chain's stem")
    ] = 36
    cells: Annotated[
        PositiveInt | None,
        Field(description="depth in cells (NAS-Bench-201: a stage's; a chain has none)"),
    ] = 20
    precision: Annotated[
        Literal["32", "bf16-mixed", "16-mixed"],
        Field(description="precision of forward and backward; weights are always float32"),
    ] = "32"
    evaluate_every: Annotated[
        PositiveInt,
        Field(description="epochs between two looks at the test images; the last epoch always"),
    ] = 1

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch. Cosine: quark0/darts and AutoDL-Projects (whose cosine ignores the step it is handed).

        Linear: P-DARTS's ImageNet code, which flattens in the last 5 of its 250 epochs; here in the same share of any length.
        Warm-up multiplies by 1/w, 2/w, ..., as there.
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

    def dropping(self, epoch: int) -> float:
        """Drop-path probability of an epoch: ``drop_path * epoch / epochs``, as quark0/darts."""
        return self.drop_path * epoch / self.epochs

    def erased(self, size: int) -> int:
        """Cutout's side for images of ``size`` pixels: CIFAR's 16 is half of 32, and more than half is never erased."""
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
"""P-DARTS and PC-DARTS (quark0/darts trains at batch 128 and lr 0.1, times 0.97 an epoch, without warm-up)."""

PDARTS = replace(IMAGENET, preset="pdarts", auxiliary_bn=True)
"""P-DARTS, arXiv 1904.12760, whose own code has a second BatchNorm in the auxiliary head; those of DARTS and PC-DARTS have none."""

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
"""NAS-Bench-Macro, arXiv 2103.11922, xiusu/NAS-Bench-Macro train/train.py (whose result is the best epoch's accuracy, ours the last's)."""

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
"""REDUCED, for a laptop: a small network for a few epochs, without the regularisation that only long runs need. Ours, no paper's."""

PRESETS = {
    "cifar": CIFAR,
    "imagenet": IMAGENET,
    "pdarts": PDARTS,
    "nasbench201": NASBENCH201,
    "nasbenchmacro": NASBENCHMACRO,
    "quick": QUICK,
}

SMALLER: dict[str, dict[str, int]] = {
    "nasbench201": {"cells": 1},
    "nasbenchmacro": {"channels": 8},
    "mbconv": {"channels": 8},
}
"""Where a space counts differently what QUICK makes small: NAS-Bench-201's cells are those of one of three stages."""


def retrain_settings(space: Space, given: Mapping[str, Any] | None = None) -> RetrainSettings:
    """The preset named in ``given``, by default the one of the space and its stem, with what else is given. ValueError in one line."""
    given = dict(given or {})
    name = given.get("preset") or default_preset(space)
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    smaller = SMALLER.get(space.name, {}) if name == "quick" else {}
    return checked(asdict(PRESETS[name]) | _lacking(space) | smaller | given | {"preset": name})


def _lacking(space: Space) -> dict[str, Any]:
    """What no preset can say of the space: a chain has its own width and depth, and no auxiliary head."""
    spec = space.spec()
    return ({} if "cells" in spec else {"channels": None, "cells": None}) | (
        {} if "auxiliary" in spec else {"auxiliary": 0.0}
    )


def default_preset(space: Space) -> str:
    """A benchmark's own in its space; elsewhere the ImageNet recipe goes with the ImageNet stem."""
    if space.name in PRESETS:
        return space.name
    return "imagenet" if space.spec().get("stem") == "imagenet" else "cifar"


def checked(values: Mapping[str, Any]) -> RetrainSettings:
    """Settings of the right types within their ranges. ValueError: ``retrain.epochs: what is wrong, not -1``."""
    return options.call("retrain", RetrainSettings, values)
