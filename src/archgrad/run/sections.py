"""The sections of a search's settings that no method and no space adds to: types, bounds, defaults and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from archgrad.bounds import SIDE, THREADS
from archgrad.option_types import (
    Epochs,
    NotNegativeFloat,
    NotNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveOrInfinite,
    Threads,
)


class SearchSettings(BaseModel, frozen=True, extra="forbid"):
    """How long, on how much, how exactly."""

    epochs: Annotated[
        Epochs | None,
        Field(description="number of epochs; the default is that of the space's literature (50)"),
    ] = None
    batch: Annotated[
        int | None,
        Field(ge=2, description="images of each half in one step; the default is the space's, 64"),
    ] = None
    precision: Annotated[
        Literal["32", "bf16"],
        Field(description="precision of the supernet's forward; alphas are always float32"),
    ] = "32"
    recompute: Annotated[
        Literal["none", "cells"],
        Field(
            description="parts whose activations the backward makes again, for less memory and more time"
        ),
    ] = "none"
    limit: Annotated[
        PositiveInt | None,
        Field(description="number of images in each half, a stratified choice, for a reduced run"),
    ] = None
    checkpoint_seconds: Annotated[
        PositiveOrInfinite, Field(description="seconds between checkpoints within an epoch")
    ] = 60.0


class DataSettings(BaseModel, frozen=True, extra="forbid"):
    """Which images, and how they are read."""

    path: Annotated[
        str | None,
        Field(
            description="folder (train/CLASS/* or CLASS/*), parquet, CSV, hub name (cifar10), or digits"
        ),
    ] = None
    size: Annotated[
        int | None,
        Field(
            ge=1,
            le=SIDE,
            description="side in pixels; by default 32 up to a median side of 48, else 64",
        ),
    ] = None
    test: Annotated[
        str | None,
        Field(
            description="split that is the test set, or another set; where there is none 20 % are held out"
        ),
    ] = None
    val: Annotated[
        str | None,
        Field(
            description="split or set that moves the alphas and validates a retraining; by default val beside test (none leaves it out)"
        ),
    ] = None
    image_column: Annotated[
        str | None, Field(description="column of a table that holds the images")
    ] = None
    label_column: Annotated[
        str | None, Field(description="column of a table that holds the classes")
    ] = None
    skip_unreadable: Annotated[
        bool | None,
        Field(description="leave out images that cannot be read, and record them; by default not"),
    ] = None
    drop_duplicates: Annotated[
        bool | None,
        Field(description="leave out training images that test or validate too; by default not"),
    ] = None
    cache: Annotated[
        Path | None, Field(description="folder of decoded images; by default ~/.cache/archgrad")
    ] = None
    share: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="fraction of training images used for weights; the rest train alphas",
        ),
    ] = 0.5
    augment: Annotated[bool, Field(description="crop and flip at random")] = True
    flip: Annotated[
        bool | None,
        Field(description="mirror at random; by default unless the images are characters"),
    ] = None
    cutout: Annotated[NotNegativeInt, Field(description="side of the erased square in pixels")] = 0
    jitter: Annotated[NotNegativeFloat, Field(description="strength of colour jitter")] = 0.0
    workers: Annotated[
        int,
        Field(
            ge=0,
            le=THREADS,
            description="threads that read ahead, for sets too large for the device",
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
"""Settings of the images that are arguments of `archgrad.data.loading`; the others decide how images become batches."""


def _at_commas(given: Any) -> Any:
    """A text, or several, as a list of those between commas; anything else as it is, to be refused."""
    texts = [given] if isinstance(given, str) else given
    return (
        [one for text in texts for one in str(text).split(",")]
        if isinstance(texts, list | tuple)
        else given
    )


class BudgetSettings(BaseModel, frozen=True, extra="forbid"):
    """What the architecture may cost: what is selected never exceeds it, and multipliers move the search there."""

    targets: Annotated[
        tuple[str, ...],
        BeforeValidator(_at_commas),
        Field(
            description="largest costs: macs=300M, params=60% (of the largest network), latency=15ms, DEVICE=15ms; several hold together"
        ),
    ] = ()
    rate: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="growth of a multiplier in an epoch at twice the budget",
        ),
    ] = 0.1
    size: Annotated[
        int | None,
        Field(
            ge=8,
            le=SIDE,
            description="side of the images the network is for; by default those of the search",
        ),
    ] = None
    latency: Annotated[
        Path | None,
        Field(
            description="table of `archgrad latency`; by default the one of this device and space"
        ),
    ] = None
    latency_batch: Annotated[
        PositiveInt, Field(description="batch size at which the latency was measured")
    ] = 1
    latency_device: Annotated[
        Literal["cpu", "cuda"], Field(description="device on which the latency was measured")
    ] = "cpu"
    latency_threads: Annotated[
        Threads, Field(description="threads with which the latency was measured")
    ] = 1


class DiagnosticSettings(BaseModel, frozen=True, extra="forbid"):
    """What is measured during a search, into its metrics. Nothing of it changes the search."""

    gap: Annotated[
        bool,
        Field(
            description="discretisation gap: the supernet under its mixture and under its genotype"
        ),
    ] = True
    gap_every: Annotated[
        PositiveInt | None,
        Field(
            description="epochs between two gaps; by default five a search; always after the last"
        ),
    ] = None
    gap_images: Annotated[PositiveInt, Field(description="validation images for the gap")] = 1024
    front: Annotated[
        bool,
        Field(
            description="Pareto front of cost and validation accuracy over all that the search saw"
        ),
    ] = True
    front_points: Annotated[
        int, Field(ge=1, le=10_000, description="budgets for which the last alphas are asked")
    ] = 8
    entropy: Annotated[bool, Field(description="entropy and margin of each edge")] = True
    entropy_every: Annotated[PositiveInt, Field(description="epochs between two entropies")] = 1
    sharpness: Annotated[bool, Field(description="SAM sharpness of the training loss")] = False
    sharpness_every: Annotated[
        PositiveInt | None,
        Field(description="epochs between two sharpnesses; by default after the last epoch alone"),
    ] = None
    sharpness_over: Annotated[
        Literal["weights", "alphas", "both", "all"],
        Field(description="parameters that the sharpness moves; all is each of the three"),
    ] = "all"
    sharpness_rho: Annotated[
        PositiveFloat, Field(description="radius of the ball in which it moves them")
    ] = 0.05
    sharpness_steps: Annotated[
        PositiveInt,
        Field(description="number of steps of the ascent; 1 is SAM's own approximation"),
    ] = 1
    sharpness_batches: Annotated[
        PositiveInt,
        Field(description="training batches for the sharpness, over which its interval is"),
    ] = 8
    curvature: Annotated[
        bool, Field(description="largest eigenvalue of the alphas' Hessian of the validation loss")
    ] = False
    curvature_every: Annotated[
        PositiveInt, Field(description="epochs between two curvatures; always after the last")
    ] = 1
    curvature_batches: Annotated[
        PositiveInt, Field(description="validation batches for the curvature")
    ] = 1
    ranking: Annotated[
        bool,
        Field(
            description="rank correlation of search network, evaluation network and the space's table"
        ),
    ] = False
    ranking_every: Annotated[
        PositiveInt | None,
        Field(
            description="epochs between two rankings; by default five a search; always after the last"
        ),
    ] = None
    ranking_architectures: Annotated[
        int,
        Field(
            ge=2,
            le=100_000,
            description="architectures to rank, drawn uniformly from the space, the same every time",
        ),
    ] = 32
    ranking_images: Annotated[
        PositiveInt, Field(description="validation images to judge each of them by")
    ] = 256
    ranking_table: Annotated[
        bool, Field(description="look up their true accuracies, where a table knows them")
    ] = True
