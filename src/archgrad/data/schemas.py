"""Types of the JSON that describes the images of a run."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import AfterValidator, Field, with_config
from typing_extensions import TypedDict

from archgrad.bounds import SIDE
from archgrad.option_types import PositiveFloat
from archgrad.storage.typed_json import CLOSED, OPEN, Count, Number


@with_config(OPEN)
class PreprocessFile(TypedDict):
    """The output of `archgrad.data.Preprocess.to_json`."""

    size: Annotated[int, Field(ge=1, le=SIDE)]
    in_channels: Annotated[int, Field(ge=1, le=4096)]
    mean: list[Number]
    std: list[PositiveFloat]
    classes: Annotated[list[str], Field(min_length=1)]


def _check_channels(read: PreprocessFile) -> PreprocessFile:
    for name, values in (("mean", read["mean"]), ("std", read["std"])):
        if len(values) != read["in_channels"]:
            raise ValueError(
                f"{name} has {len(values)} numbers, "
                f"and the images have {read['in_channels']} channels"
            )
    return read


CheckedPreprocess = Annotated[PreprocessFile, AfterValidator(_check_channels)]
"""A `PreprocessFile` with one mean and one standard deviation for each channel."""


@with_config(OPEN)
class ImagesFile(TypedDict):
    """The file ``data.json`` of a run, the output of `archgrad.data.Data.summary`."""

    name: str
    fingerprint: str
    preprocess: CheckedPreprocess
    splits: dict[str, Count]
    per_class: NotRequired[dict[str, list[Count]]]


@with_config(CLOSED)
class OriginFile(TypedDict):
    """Arguments of `archgrad.data.load`."""

    path: str
    size: NotRequired[Annotated[int, Field(ge=1, le=SIDE)] | None]
    test: NotRequired[str | None]
    val: NotRequired[str | None]
    image_column: NotRequired[str | None]
    label_column: NotRequired[str | None]
    skip_unreadable: NotRequired[bool]
    drop_duplicates: NotRequired[bool]
    cache: NotRequired[str | None]
    seed: NotRequired[Count]


@with_config(CLOSED)
class ReadingFile(TypedDict):
    """Arguments of `archgrad.data.retrain_data` that are not part of the settings."""

    augment: NotRequired[bool]
    flip: NotRequired[bool | None]
    workers: NotRequired[Annotated[int, Field(ge=0, le=1024)]]
