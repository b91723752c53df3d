"""The fixed sections of a search's settings: the types, bounds, defaults and help of each option.

The sections of methods and spaces are not here, because `archgrad.run.catalogue` makes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer

from archgrad.bounds import SIDE, THREADS
from archgrad.cost.target import Target, check_one_of_each, parse_target
from archgrad.option_types import (
    Epochs,
    NotNegativeFloat,
    NotNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveOrInfinite,
    Threads,
)

Budget = Annotated[Target, BeforeValidator(parse_target), PlainSerializer(str)]
"""A budget: text in files and on the command line, a `Target` in the settings."""


class SearchSettings(BaseModel, frozen=True, extra="forbid"):
    """The length, batch size, precision and memory use of a search."""

    epochs: Annotated[
        Epochs | None,
        Field(description="number of epochs; by default the published number for the space (50)"),
    ] = None
    batch: Annotated[
        int | None,
        Field(
            ge=2,
            description="batch size of each weight step and each alpha step; by default that of "
            "the space (64)",
        ),
    ] = None
    precision: Annotated[
        Literal["32", "bf16"],
        Field(description="precision of the supernet's forward pass; alphas are always float32"),
    ] = "32"
    recompute: Annotated[
        Literal["none", "cells"],
        Field(
            description="parts whose activations the backward pass computes again, which saves "
            "memory and costs time"
        ),
    ] = "none"
    limit: Annotated[
        PositiveInt | None,
        Field(
            description="number of images in each of the splits train and val, as a stratified "
            "sample for short runs"
        ),
    ] = None
    checkpoint_seconds: Annotated[
        PositiveOrInfinite, Field(description="seconds between two checkpoints within an epoch")
    ] = 60.0


class DataSettings(BaseModel, frozen=True, extra="forbid"):
    """The images of a search, and how they are read."""

    path: Annotated[
        str | None,
        Field(
            description="path of a folder (train/CLASS/* or CLASS/*), a parquet file or a CSV "
            "file, or a data set name on the hub (cifar10), or digits"
        ),
    ] = None
    size: Annotated[
        int | None,
        Field(
            ge=1,
            le=SIDE,
            description="side of the images in pixels; by default 32 if the median side is at most "
            "48, else 64",
        ),
    ] = None
    test: Annotated[
        str | None,
        Field(
            description="split or data set of the test images; without one, 20 % of the images are "
            "held out"
        ),
    ] = None
    val: Annotated[
        str | None,
        Field(
            description="split or data set that trains the alphas and validates a retraining, or "
            "none; by default val, if there is a test split too"
        ),
    ] = None
    image_column: Annotated[
        str | None, Field(description="name of the table column with the images")
    ] = None
    label_column: Annotated[
        str | None, Field(description="name of the table column with the classes")
    ] = None
    skip_unreadable: Annotated[
        bool | None,
        Field(
            description="exclusion of unreadable images, which the run lists in data.json; by "
            "default off"
        ),
    ] = None
    drop_duplicates: Annotated[
        bool | None,
        Field(
            description="exclusion of training images that are also test or validation images; by "
            "default off"
        ),
    ] = None
    cache: Annotated[
        Path | None,
        Field(description="folder that keeps decoded images; by default ~/.cache/archgrad"),
    ] = None
    share: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="fraction of training images used for weights; the rest train alphas",
        ),
    ] = 0.5
    augment: Annotated[bool, Field(description="random crops and flips of the training images")] = (
        True
    )
    flip: Annotated[
        bool | None,
        Field(
            description="random mirroring of the training images; by default on, unless they are "
            "characters"
        ),
    ] = None
    cutout: Annotated[NotNegativeInt, Field(description="side of the erased square in pixels")] = 0
    jitter: Annotated[NotNegativeFloat, Field(description="strength of colour jitter")] = 0.0
    workers: Annotated[
        int,
        Field(
            ge=0,
            le=THREADS,
            description="number of threads that read images ahead, for sets that do not fit on the "
            "device",
        ),
    ] = 0


LOADING = (
    "path",
    "size",
    "test",
    "val",
    "image_column",
    "label_column",
    "skip_unreadable",
    "drop_duplicates",
    "cache",
)
"""The settings of the images that are arguments of `archgrad.data.loading`.

The other settings decide how images become batches.
"""


def _at_commas(given: Any) -> Any:
    """Split a text, or each text of a list, at its commas. Return any other value as it is."""
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, list | tuple):
        return given
    return [
        one for part in several for one in (part.split(",") if isinstance(part, str) else [part])
    ]


class BudgetSettings(BaseModel, frozen=True, extra="forbid"):
    """The largest costs of the found network.

    Every selected network keeps to them. A multiplier for each cost steers the search there.
    """

    targets: Annotated[
        tuple[Budget, ...],
        AfterValidator(check_one_of_each),
        BeforeValidator(_at_commas),
        Field(
            description="upper limits of the costs, such as macs=300M, params=60% (of the largest "
            "network), latency=15ms, DEVICE=15ms or ram=256k (peak memory in bytes); the network "
            "keeps all of them"
        ),
    ] = ()
    rate: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="growth of a cost multiplier per epoch at twice the budget; it is "
            "proportional to cost / budget - 1",
        ),
    ] = 0.1
    size: Annotated[
        int | None,
        Field(
            ge=8,
            le=SIDE,
            description="side in pixels of the images for which costs are counted; by default the "
            "side in the search",
        ),
    ] = None
    latency: Annotated[
        Path | None,
        Field(
            description="file of `archgrad latency`; by default the file for this device and space"
        ),
    ] = None
    latency_batch: Annotated[
        PositiveInt, Field(description="batch size at which the latency was measured")
    ] = 1
    latency_device: Annotated[
        Literal["cpu", "cuda"], Field(description="device on which the latency was measured")
    ] = "cpu"
    latency_threads: Annotated[
        Threads, Field(description="number of threads with which the latency was measured")
    ] = 1


class DiagnosticSettings(BaseModel, frozen=True, extra="forbid"):
    """The measurements of a search, which go into its metrics. None of them changes the search."""

    gap: Annotated[
        bool,
        Field(
            description="measurement of the discretisation gap: the accuracy that the supernet "
            "loses if its genotype replaces its mixture"
        ),
    ] = True
    gap_every: Annotated[
        PositiveInt | None,
        Field(
            description="number of epochs between two measurements of the gap; by default a search "
            "has five, the last one after its last epoch"
        ),
    ] = None
    gap_images: Annotated[
        PositiveInt, Field(description="number of validation images for the gap")
    ] = 1024
    front: Annotated[
        bool,
        Field(
            description="Pareto front of cost and validation accuracy over the networks that the "
            "search selected"
        ),
    ] = True
    front_points: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="number of budgets under which the last alphas select a network for the "
            "front",
        ),
    ] = 8
    entropy: Annotated[
        bool, Field(description="measurement of the entropy and the margin of each edge")
    ] = True
    entropy_every: Annotated[
        PositiveInt, Field(description="number of epochs between two measurements of the entropy")
    ] = 1
    sharpness: Annotated[
        bool, Field(description="measurement of the SAM sharpness of the training loss")
    ] = False
    sharpness_every: Annotated[
        PositiveInt | None,
        Field(
            description="number of epochs between two measurements of the sharpness; by default "
            "the last epoch alone has one"
        ),
    ] = None
    sharpness_over: Annotated[
        Literal["weights", "alphas", "both", "all"],
        Field(
            description="parameters that the sharpness perturbs; all measures weights, alphas "
            "and both, each by itself"
        ),
    ] = "all"
    sharpness_rho: Annotated[
        PositiveFloat,
        Field(description="radius of the ball in which the sharpness perturbs the parameters"),
    ] = 0.05
    sharpness_steps: Annotated[
        PositiveInt,
        Field(
            description="number of gradient ascent steps in the sharpness ball; 1 is the "
            "approximation of SAM"
        ),
    ] = 1
    sharpness_batches: Annotated[
        PositiveInt,
        Field(
            description="number of training batches for the sharpness and its confidence interval"
        ),
    ] = 8
    curvature: Annotated[
        bool,
        Field(
            description="measurement of the largest eigenvalue of the Hessian of the validation "
            "loss by the alphas"
        ),
    ] = False
    curvature_every: Annotated[
        PositiveInt,
        Field(
            description="number of epochs between two measurements of the curvature; the last "
            "epoch always has one"
        ),
    ] = 1
    curvature_batches: Annotated[
        PositiveInt, Field(description="number of validation batches for the curvature")
    ] = 1
    ranking: Annotated[
        bool,
        Field(
            description="measurement of the rank correlations of supernet, evaluation network and "
            "the benchmark of the space"
        ),
    ] = False
    ranking_every: Annotated[
        PositiveInt | None,
        Field(
            description="number of epochs between two measurements of the ranking; by default a "
            "search has five, the last one after its last epoch"
        ),
    ] = None
    ranking_architectures: Annotated[
        int,
        Field(
            ge=2,
            le=100_000,
            description="number of ranked architectures: one uniform sample of the space for all "
            "epochs",
        ),
    ] = 32
    ranking_images: Annotated[
        PositiveInt,
        Field(
            description="number of validation images on which each ranked architecture is evaluated"
        ),
    ] = 256
    ranking_table: Annotated[
        bool,
        Field(
            description="comparison of the ranking with the accuracies in the benchmark table of "
            "the space"
        ),
    ] = True
