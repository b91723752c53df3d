"""The JSON files of archgrad as types: each is checked when it is read, so that no command meets what it was not written for.

A field that older versions did not write is `NotRequired`; fields that are not known here are passed over. YAML files of settings have their
schema in `archgrad.run.config`, rows of metrics and checkpoints have theirs where they are read.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeVar, cast

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from archgrad.arch.genotype import Genotype
from archgrad.bounds import SIDE, WHOLE
from archgrad.errors import shown
from archgrad.option_types import NotNegativeFloat, PositiveFloat, PositiveInt, Threads
from archgrad.storage import files

T = TypeVar("T")

LIMIT = 2**24
"""Bytes of a file; the largest of ours, the comparison of a long study, has some hundred thousand."""
OPEN, CLOSED = ConfigDict(strict=True, extra="allow"), ConfigDict(strict=True, extra="forbid")
"""Whether fields that are not known are passed over, or refused because they become arguments."""


def _spelled(data: dict[str, Any]) -> dict[str, Any]:
    Genotype.from_json(data)
    return data


Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=WHOLE)]
Side = Annotated[int, Field(ge=1, le=SIDE)]
Spelled = Annotated[dict[str, Any], AfterValidator(_spelled)]
"""`Genotype.to_json`"""


@with_config(OPEN)
class Kept(TypedDict):
    """What a network costs beside a budget: `archgrad.run.budgets.kept`."""

    cost: str
    unit: str
    budget: PositiveFloat
    found: Number
    wanted: NotRequired[Number]


@with_config(CLOSED)
class PartFile(TypedDict):
    """`archgrad.run.judgement.Part`"""

    edges: Count
    lead: Number
    learned: Number
    decided: Number
    held: Number | None
    cells: NotRequired[Count]


@with_config(CLOSED)
class JudgementFile(TypedDict):
    """`archgrad.run.judgement.Judgement`"""

    ok: NotRequired[bool]
    by: Literal["alphas", "decisions"]
    parts: dict[str, PartFile]
    what: str
    accuracy: Number | None
    chance: Number | None
    least: Number | None
    over: Count
    fails: dict[Literal["alphas", "chance", "selection", "short"], str]


@with_config(OPEN)
class FinishedFile(TypedDict):
    """`archgrad.run.finished.place`"""

    epochs: Count
    of: Count
    steps: Count


@with_config(OPEN)
class GenotypeFile(TypedDict):
    """``genotype.json`` of a run, and what `archgrad derive` writes, which names its ``run``."""

    genotype: Spelled
    text: NotRequired[str]
    budget: NotRequired[list[Kept]]
    searched: NotRequired[JudgementFile]
    finished: NotRequired[FinishedFile]
    run: NotRequired[str]


@with_config(OPEN)
class PreprocessFile(TypedDict):
    """`archgrad.data.Preprocess`"""

    size: Side
    in_channels: Annotated[int, Field(ge=1, le=4096)]
    mean: list[Number]
    std: list[PositiveFloat]
    classes: Annotated[list[str], Field(min_length=1)]


def _fits(read: PreprocessFile) -> PreprocessFile:
    for name, own in (("mean", read["mean"]), ("std", read["std"])):
        if len(own) != read["in_channels"]:
            raise ValueError(
                f"{name} has {len(own)} numbers, and the images have {read['in_channels']} channels"
            )
    return read


Read = Annotated[PreprocessFile, AfterValidator(_fits)]


@with_config(OPEN)
class ImagesFile(TypedDict):
    """``data.json`` of a run: `archgrad.data.Data.summary`."""

    name: str
    fingerprint: str
    preprocess: Read
    splits: dict[str, Count]
    per_class: NotRequired[dict[str, list[Count]]]


@with_config(CLOSED)
class OriginFile(TypedDict):
    """Arguments of `archgrad.data.loading`."""

    path: str
    size: NotRequired[Side | None]
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
    """Arguments of `archgrad.data.retrain_data` beside the settings."""

    augment: NotRequired[bool]
    flip: NotRequired[bool | None]
    workers: NotRequired[Annotated[int, Field(ge=0, le=1024)]]


@with_config(OPEN)
class CardFile(TypedDict):
    """``network.json``: `archgrad.retraining.card.Card`. ``settings`` are checked as `RetrainSettings`."""

    version: int
    genotype: Spelled
    space: str
    spec: dict[str, Any]
    preprocess: Read
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


@with_config(CLOSED)
class SettingFile(TypedDict):
    """`archgrad.latency.Setting`"""

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
    """A derived network that was measured whole."""

    genotype: Spelled
    added: Number
    measured: PositiveFloat


@with_config(OPEN)
class LatencyFile(TypedDict):
    """A table of `archgrad latency`: `archgrad.latency.Profile`."""

    setting: SettingFile
    ops: dict[str, list[Annotated[tuple[int, int, str, NotNegativeFloat], Strict(False)]]]
    base: Number
    scale: PositiveFloat
    r2: Number
    worst: Number
    nets: list[MeasuredFile]
    date: str


@with_config(OPEN)
class PointFile(TypedDict):
    """`archgrad.run.front.Point`"""

    genotype: str
    cost: Number
    accuracy: Number
    seen: str
    front: bool


@with_config(CLOSED)
class FrontFile(TypedDict):
    """``front.json`` of a run."""

    cost: str
    unit: str
    points: list[PointFile]


@with_config(OPEN)
class EstimateFile(TypedDict):
    """``estimate.json`` of a run: seconds that are left, seconds in all, and when that was said."""

    left: NotNegativeFloat
    total: NotNegativeFloat
    when: Number


@with_config(OPEN)
class EnvironmentFile(TypedDict):
    """``environment.json`` of a run: `archgrad.run.folder.environment`."""

    archgrad: str
    commit: str | None


def _measures(row: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(row.get("cell"), str):
        raise ValueError("a row of a benchmark names its cell")
    for name, value in row.items():
        if name.endswith("_test") and (
            isinstance(value, bool) or not isinstance(value, int | float)
        ):
            raise ValueError(f"{name} is a number, not {shown(value)}")
    return row


BenchmarkRow = Annotated[dict[str, Any], AfterValidator(_measures)]
"""What a benchmark's table measured of the cell that is called ``cell``: ``verdict`` of `archgrad.tabular`."""


@with_config(OPEN)
class SummaryImages(TypedDict):
    """Of a summary."""

    name: str
    fingerprint: str
    splits: dict[str, Count]


@with_config(OPEN)
class SummaryGenotype(TypedDict):
    """Of a summary."""

    text: str
    json: Spelled


@with_config(OPEN)
class SummarySpace(TypedDict):
    """Of a summary."""

    name: str


@with_config(OPEN)
class SummaryData(TypedDict):
    """Of a summary."""

    size: Count


@with_config(OPEN)
class SummarySearch(TypedDict):
    """Of a summary."""

    epochs: Count
    batch: PositiveInt


@with_config(OPEN)
class SummaryConfig(TypedDict):
    """Of a summary: the settings of its search, resolved."""

    space: SummarySpace
    data: SummaryData
    search: SummarySearch


@with_config(OPEN)
class RetrainingFile(TypedDict):
    """`archgrad.compare.retrained.Retraining.result`"""

    seed: Count
    test: Number
    seconds: Number


@with_config(OPEN)
class RetrainingsFile(TypedDict):
    """`archgrad.compare.retrained.results`"""

    settings: dict[str, Any]
    runs: list[RetrainingFile]


@with_config(OPEN)
class SummaryFile(TypedDict):
    """A finished search of a study: `archgrad.compare.summary.summarise`."""

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
    """``compare.json`` of a study: what a later comparison reads of it."""

    failed: NotRequired[dict[str, dict[str, str]]]


def read(path: Path, kind: type[T]) -> T:
    """The content of a JSON file.

    Args:
        path: The file.
        kind: The type of its content, one of this module.

    Returns:
        The content as it stands there.

    Raises:
        ValueError: The file is missing, damaged, or not of this kind. One line that names the file and the field.
    """
    content = files.read_json(path, limit=LIMIT)
    try:
        return checked(content, kind)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def checked(content: Any, kind: type[T]) -> T:
    """``content`` itself, if it is of this kind. ValueError names the first field that is not."""
    try:
        _adapter(kind).validate_python(content)  # type: ignore[arg-type]  # mypy: no type is hashable
    except ValidationError as error:
        raise ValueError(complaint(error)) from None
    return cast(T, content)


def complaint(error: ValidationError) -> str:
    """The first complaint of pydantic as one line: the field's whole place, what is wrong, and the value."""
    first = error.errors(include_url=False)[0]
    *above, last = map(str, first["loc"] or ("it",))
    if first["type"] == "missing":
        return f"{'.'.join(above) or 'it'} lacks {last}"
    return f"{shown('.'.join([*above, last]))[1:-1]}: {first['msg'].removeprefix('Value error, ')}, not {shown(first['input'])}"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
