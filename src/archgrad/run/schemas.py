"""Types of the JSON files in a run's folder."""

from __future__ import annotations

from typing import Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from archgrad.arch.schemas import GenotypeJson
from archgrad.option_types import PositiveFloat
from archgrad.storage.typed_json import CLOSED, OPEN, Count, Number


@with_config(OPEN)
class BudgetResult(TypedDict):
    """A budget and the cost of the found network, as `archgrad.run.budgets` returns them."""

    cost: str
    unit: str
    budget: PositiveFloat
    found: Number
    wanted: NotRequired[Number]


@with_config(CLOSED)
class PartFile(TypedDict):
    """The fields of `archgrad.run.judgement.Part`."""

    edges: Count
    lead: Number
    learned: Number
    decided: Number
    held: Number | None
    cells: NotRequired[Count]


@with_config(CLOSED)
class JudgementFile(TypedDict):
    """The fields of `archgrad.run.judgement.Judgement`."""

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
    """The place in a search at which it ended, as `archgrad.run.finished` returns it."""

    epochs: Count
    of: Count
    steps: Count


@with_config(OPEN)
class GenotypeFile(TypedDict):
    """The file ``genotype.json`` of a run, and the file that `archgrad derive` writes.

    Only `archgrad derive` writes ``run``.
    """

    genotype: GenotypeJson
    text: NotRequired[str]
    budget: NotRequired[list[BudgetResult]]
    searched: NotRequired[JudgementFile]
    finished: NotRequired[FinishedFile]
    run: NotRequired[str]


@with_config(OPEN)
class PointFile(TypedDict):
    """The fields of `archgrad.run.front.Point`."""

    genotype: str
    cost: Number
    accuracy: Number
    seen: str
    front: bool


@with_config(CLOSED)
class FrontFile(TypedDict):
    """The file ``front.json`` of a run."""

    cost: str
    unit: str
    points: list[PointFile]


@with_config(OPEN)
class EnvironmentFile(TypedDict):
    """The file ``environment.json`` of a run, the output of `archgrad.run.folder.environment`."""

    archgrad: str
    commit: str | None
