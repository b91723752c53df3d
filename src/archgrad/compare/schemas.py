"""Types of the JSON files of a study."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, with_config
from typing_extensions import TypedDict

from archgrad.arch.schemas import GenotypeJson
from archgrad.errors import short_repr
from archgrad.option_types import NotNegativeFloat, PositiveInt
from archgrad.run.schemas import EnvironmentFile, JudgementFile
from archgrad.storage.typed_json import OPEN, Count, Number


def _check_row(row: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(row.get("cell"), str):
        raise ValueError("a row of a benchmark names its cell")
    for name, value in row.items():
        if name.endswith("_test") and (
            isinstance(value, bool) or not isinstance(value, int | float)
        ):
            raise ValueError(f"{name} is a number, not {short_repr(value)}")
    return row


BenchmarkRow = Annotated[dict[str, Any], AfterValidator(_check_row)]
"""The row of a benchmark table for the cell named ``cell``: ``verdict`` of `archgrad.tabular`."""


@with_config(OPEN)
class SummaryImages(TypedDict):
    """The images of a summary."""

    name: str
    fingerprint: str
    splits: dict[str, Count]


@with_config(OPEN)
class SummaryGenotype(TypedDict):
    """The genotype of a summary."""

    text: str
    json: GenotypeJson


@with_config(OPEN)
class SummarySpace(TypedDict):
    """The settings ``space`` of a summary."""

    name: str


@with_config(OPEN)
class SummaryData(TypedDict):
    """The settings ``data`` of a summary."""

    size: Count


@with_config(OPEN)
class SummarySearch(TypedDict):
    """The settings ``search`` of a summary."""

    epochs: Count
    batch: PositiveInt


@with_config(OPEN)
class SummaryConfig(TypedDict):
    """The resolved settings of the search of a summary."""

    space: SummarySpace
    data: SummaryData
    search: SummarySearch


@with_config(OPEN)
class RetrainingFile(TypedDict):
    """The output of `archgrad.compare.retrained.Retraining.read_result`."""

    seed: Count
    test: Number
    seconds: Number


@with_config(OPEN)
class RetrainingsFile(TypedDict):
    """The output of `archgrad.compare.retrained.results`."""

    settings: dict[str, Any]
    runs: list[RetrainingFile]


@with_config(OPEN)
class SummaryFile(TypedDict):
    """A finished search of a study, the output of `archgrad.compare.summary.summarise`."""

    arm: str
    seed: Count
    config: SummaryConfig
    data: SummaryImages
    environment: EnvironmentFile
    genotype: SummaryGenotype
    final: dict[str, bool | float]  # not a number where nothing could be ranked
    epochs: dict[str, list[Any]]
    seconds: NotNegativeFloat
    cpu_seconds: NotRequired[NotNegativeFloat]
    benchmark: list[BenchmarkRow] | None
    retrained: NotRequired[RetrainingsFile]
    searched: NotRequired[JudgementFile]


@with_config(OPEN)
class ComparisonFile(TypedDict):
    """The file ``compare.json`` of a study: the part that a later comparison reads."""

    failed: NotRequired[dict[str, dict[str, str]]]
