"""Type of a table of latencies, the file that `archgrad latency` writes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Strict, with_config
from typing_extensions import TypedDict

from archgrad.arch.schemas import GenotypeJson
from archgrad.option_types import NotNegativeFloat, PositiveFloat
from archgrad.storage.typed_json import CLOSED, OPEN, Number


@with_config(CLOSED)
class SettingFile(TypedDict):
    """The fields of `archgrad.latency.Setting`."""

    space: str
    spec: dict[str, Any]
    size: int
    batch: int
    device: str
    hardware: str
    threads: int
    torch: str


@with_config(OPEN)
class MeasuredFile(TypedDict):
    """A derived network whose latency was measured as a whole."""

    genotype: GenotypeJson
    added: Number
    measured: PositiveFloat


@with_config(OPEN)
class LatencyFile(TypedDict):
    """A table of latencies, the output of `archgrad.latency.Profile.to_json`."""

    setting: SettingFile
    ops: dict[str, list[Annotated[tuple[int, int, str, NotNegativeFloat], Strict(False)]]]
    base: Number
    scale: PositiveFloat
    r2: Number
    worst: Number
    nets: list[MeasuredFile]
    date: str
