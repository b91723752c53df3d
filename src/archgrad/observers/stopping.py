"""Stopping a search early, whatever its method: rules that read the rows of the metrics, and the observer that asks to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from archgrad.arch.genotype import Genotype
from archgrad.components.schedules import Interval, Span, lasting, span
from archgrad.errors import counted

if TYPE_CHECKING:
    from archgrad.searching.types import Data, Decision, Method, State, Values
    from archgrad.storage.records import Row

MATCH, REPORTER = "gradient_match", "oles"
"""A column, and the memory whose it is."""

Rule = Callable[[Sequence["Row"]], "str | None"]
"""The rows that count, the last of them that of the epoch that ended -> why to stop, or None."""


class StopSettings(BaseModel, frozen=True, extra="forbid"):
    """When a search ends before its last epoch. Every rule is off unless it is set; the first that holds ends the search."""

    eigenvalue: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="share of the curvature's mean now below which its mean before says that it rose",
        ),
    ] = None
    window: Annotated[
        Interval,
        Field(description="epochs of each of the two means: a count, or a share of the search"),
    ] = 0.1
    skips: Annotated[
        int | None,
        Field(
            ge=1,
            description="number of skips in one cell (of DARTS: in the normal one) at which the search ends",
        ),
    ] = None
    stable: Annotated[
        int | None,
        Field(
            ge=2,
            description="number of epochs in a row with the same genotype after which the search ends",
        ),
    ] = None
    entropy: Annotated[
        float | None,
        Field(gt=0, description="mean entropy of the edges, in nats, below which the search ends"),
    ] = None
    match: Annotated[
        float | None,
        Field(
            gt=-1,
            lt=1,
            description="gradient match below which the search ends (of a method that reports it: oles)",
        ),
    ] = None
    after: Annotated[
        Span, Field(description="first epoch that counts: its number, or a share of the search")
    ] = 0.2

    def rules(self, epochs: int) -> tuple[Rule, ...]:
        """Those that are set, for a search of ``epochs``. ValueError for a window or a beginning that does not fit it."""
        span(self.after, "stop.after")(epochs)
        window = lasting(self.window, "stop.window")(epochs)
        makes: tuple[tuple[float | None, Callable[[float], Rule]], ...] = (
            (self.eigenvalue, lambda ratio: curved(ratio, window)),
            (self.skips, skipping),
            (self.stable, stable),
            (self.entropy, decided),
            (self.match, mismatched),
        )
        return tuple(make(value) for value, make in makes if value is not None)

    def check(self, method: Method, epochs: int) -> None:
        """ValueError for what cannot be of this method in ``epochs``."""
        self.rules(epochs)
        if self.match is not None and REPORTER not in method.patch.memory:
            with_it = "--method oles" if method.name == "darts" else f"--method {method.name}+oles"
            way = (
                with_it
                if method.alpha_from(epochs) < epochs
                else "it moves no alphas, so leave this out"
            )
            raise ValueError(
                f"stop.match reads the column {MATCH}, which {method.name} does not report: {way}"
            )


def curved(ratio: float, window: int) -> Rule:
    """`rise` of the column ``eigenvalue`` (DARTS-ES, arXiv 1909.09656)."""
    from archgrad.diagnostics.curvature import rise

    return lambda rows: rise([row.get("eigenvalue") for row in rows], window, ratio)


def skipping(least: float) -> Rule:
    """``least`` skips or more in the first kind of cell, the normal one of DARTS (DARTS+, Liang et al. 2019, arXiv 1909.06035: 2)."""

    def rule(rows: Sequence[Row]) -> str | None:
        cell = Genotype.parse(rows[-1]["genotype"]).cells[0]
        count = sum(link.primitive == "skip_connect" for link in cell.links)
        return f"the cell {cell.group!r} has {counted(count, 'skip')}" if count >= least else None

    return rule


def stable(epochs: float) -> Rule:
    """One genotype after ``epochs`` epochs in a row (DARTS+: the ranking of the ops, for 10)."""

    def rule(rows: Sequence[Row]) -> str | None:
        last = {row["genotype"] for row in rows[-int(epochs) :]}
        return (
            f"the genotype is the same for {epochs} epochs"
            if len(rows) >= epochs and len(last) == 1
            else None
        )

    return rule


def decided(nats: float) -> Rule:
    """Mean entropy below ``nats``."""
    return lambda rows: (
        f"the entropy is {rows[-1]['entropy']:.3f}, below {nats}"
        if rows[-1]["entropy"] < nats
        else None
    )


def mismatched(least: float) -> Rule:
    """Gradient match below ``least`` (OLES, Jiang et al. 2023, arXiv 2311.04591: 0.3, there of an op, here of the whole supernet)."""

    def rule(rows: Sequence[Row]) -> str | None:
        match = rows[-1].get(MATCH)
        return (
            f"the gradient match is {match:.3f}, below {least}"
            if match is not None and match < least
            else None
        )

    return rule


class Stopping:
    """Asks to stop by the first of its ``rules`` that holds. They read the rows of this stage's epochs, from ``after`` on, in which alphas
    moved. Not after the last epoch. ``rows``: of the epochs before a resume, so that it decides as if there had been none."""

    def __init__(self, rules: Iterable[Rule], after: int, rows: Iterable[Row] = ()) -> None:
        self.rules, self.after = tuple(rules), after
        self.rows = [row for row in rows if self.counts(row)]

    def counts(self, row: Row) -> bool:
        return row["epoch"] >= self.after and row.get("phase") != "weights only"

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        if not self.counts(row):
            return None
        self.rows.append(row)
        if row.get("stop") or state.epoch == state.plan.epochs:
            return None
        begins = (stage.begin(state.plan.epochs) for stage in method.stages)
        since = max((begin for begin in begins if begin <= row["epoch"]), default=0)
        own = [
            one for one in self.rows if one["epoch"] >= since
        ]  # of another supernet, or of one with fewer alphas, are other numbers
        reason = next((reason for rule in self.rules if (reason := rule(own))), None)
        return {"stop": reason} if reason else None

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


def early(
    settings: StopSettings, method: Method, epochs: int, rows: Iterable[Row] = ()
) -> tuple[Stopping, ...]:
    """The observer that these settings ask for; none if they ask for nothing."""
    rules, after = settings.rules(epochs), span(settings.after, "stop.after")(epochs)
    return (Stopping(rules, max(after, method.alpha_from(epochs)), rows),) if rules else ()
