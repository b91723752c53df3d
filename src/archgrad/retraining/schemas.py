"""Type of ``network.json``, the description of a trained network."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from archgrad.arch.schemas import GenotypeJson
from archgrad.data.schemas import CheckedPreprocess, OriginFile, ReadingFile
from archgrad.option_types import Threads
from archgrad.storage.typed_json import OPEN


@with_config(OPEN)
class CardFile(TypedDict):
    """The file ``network.json``, the output of `archgrad.retraining.card.Card.to_json`.

    `RetrainSettings` checks the entries of ``settings``.
    """

    version: int
    genotype: GenotypeJson
    space: str
    spec: dict[str, Any]
    preprocess: CheckedPreprocess
    settings: dict[str, Any]
    seed: int
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d{1,3})?)$")]
    threads: Threads
    deterministic: bool
    batch: Annotated[int, Field(ge=1, le=2**31)]
    data: OriginFile
    reading: ReadingFile
    fingerprint: str
    plugins: NotRequired[list[str]]
