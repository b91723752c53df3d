"""Early stopping of a search with any method.

Rules read the rows of the metrics, and an observer ends the search by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from archgrad.arch.genotype import Genotype
from archgrad.components.schedules import Interval, Span, epoch_of_span, epochs_of_interval
from archgrad.errors import counted
from archgrad.searching.observer import Observer

if TYPE_CHECKING:
    from archgrad.searching.types import Method, SearchData, State
    from archgrad.storage.records import Row

MATCH, REPORTER = "gradient_match", "oles"
"""A column of the metrics, and the memory that reports it."""

Rule = Callable[[Sequence["Row"]], "str | None"]
"""The rows that count, up to the epoch that ended -> a reason to stop, or None."""


class StopSettings(BaseModel, frozen=True, extra="forbid"):
    """Set the rules by which a search ends before its last epoch.

    A rule that is not set is off. The first rule that holds ends the search.
    """

    eigenvalue: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="ratio of the earlier mean curvature to the present mean below which the "
            "search ends",
        ),
    ] = None
    window: Annotated[
        Interval,
        Field(
            description="number of epochs that each of the two means covers: a count (5), or a "
            "fraction of the search (0.1)"
        ),
    ] = 0.1
    skips: Annotated[
        int | None,
        Field(
            ge=1,
            description="number of skips in one cell (in DARTS the normal one) at which the search "
            "ends",
        ),
    ] = None
    stable: Annotated[
        int | None,
        Field(
            ge=2,
            description="number of successive epochs with the same genotype, after which the "
            "search ends",
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
            description="gradient match of oles below which the search ends; no other method "
            "reports this match",
        ),
    ] = None
    after: Annotated[
        Span,
        Field(
            description="earliest epoch that the rules read: an epoch (10), or a fraction "
            "of the search (0.2)"
        ),
    ] = 0.2

    def rules(self, epochs: int) -> tuple[Rule, ...]:
        """Return the rules that are set, for a search of ``epochs``.

        Raises:
            ValueError: A window or a beginning does not fit the search.
        """
        epoch_of_span(self.after, "stop.after")(epochs)
        window = epochs_of_interval(self.window, "stop.window")(epochs)
        makes: tuple[tuple[float | None, Callable[[float], Rule]], ...] = (
            (self.eigenvalue, lambda ratio: curvature_rule(ratio, window)),
            (self.skips, skips_rule),
            (self.stable, stable_rule),
            (self.entropy, entropy_rule),
            (self.match, match_rule),
        )
        return tuple(make(value) for value, make in makes if value is not None)

    def check(self, method: Method, epochs: int) -> None:
        """Check that the rules fit a method and a length.

        Raises:
            ValueError: They do not fit.
        """
        self.rules(epochs)
        if self.match is not None and REPORTER not in method.patch.memory:
            way = f"use --method {method.name}+oles"
            if method.alpha_from(epochs) >= epochs:
                way = f"leave out stop.match, because {method.name} moves no alphas"
            elif method.name == "darts":
                way = "use --method oles"
            raise ValueError(
                f"stop.match reads the column {MATCH}, which {method.name} does not report; {way}"
            )


def curvature_rule(ratio: float, window: int) -> Rule:
    """Return the rule that stops at a `rise` of the curvature (DARTS-ES, arXiv 1909.09656)."""
    from archgrad.diagnostics.curvature import describe_rise

    return lambda rows: describe_rise([row.get("eigenvalue") for row in rows], window, ratio)


def skips_rule(least: float) -> Rule:
    """Return the rule that stops at ``least`` skips in the first kind of cell.

    In DARTS this is the normal cell. DARTS+ (Liang et al. 2019, arXiv 1909.06035) stops at 2.
    """

    def rule(rows: Sequence[Row]) -> str | None:
        cell = Genotype.parse(rows[-1]["genotype"]).cells[0]
        count = sum(link.primitive == "skip_connect" for link in cell.links)
        return f"the cell {cell.group!r} has {counted(count, 'skip')}" if count >= least else None

    return rule


def stable_rule(epochs: float) -> Rule:
    """Return the rule that stops after ``epochs`` epochs in a row with the same genotype.

    DARTS+ stops after 10 epochs with the same ranking of the ops.
    """

    def rule(rows: Sequence[Row]) -> str | None:
        last = {row["genotype"] for row in rows[-int(epochs) :]}
        if len(rows) < epochs or len(last) > 1:
            return None
        return f"the genotype is the same for {epochs} epochs"

    return rule


def entropy_rule(nats: float) -> Rule:
    """Return the rule that stops at a mean entropy below ``nats``."""

    def rule(rows: Sequence[Row]) -> str | None:
        entropy = rows[-1]["entropy"]
        return f"the entropy is {entropy:.3f}, below {nats}" if entropy < nats else None

    return rule


def match_rule(least: float) -> Rule:
    """Return the rule that stops at a gradient match below ``least``.

    OLES (Jiang et al. 2023, arXiv 2311.04591) has 0.3 for one op; here it is that of the whole
    supernet.
    """

    def rule(rows: Sequence[Row]) -> str | None:
        match = rows[-1].get(MATCH)
        if match is not None and match < least:
            return f"the gradient match is {match:.3f}, below {least}"
        return None

    return rule


class Stopping(Observer):
    """End a search by the first of its rules that holds.

    The rules read the rows of this stage's epochs from ``after`` on in which alphas moved. After
    the last epoch there is nothing to end.

    Args:
        rules: Rules.
        after: First epoch that counts.
        rows: Rows of the epochs before a resume, so that a resumed search stops at the same epoch.
    """

    def __init__(self, rules: Iterable[Rule], after: int, rows: Iterable[Row] = ()) -> None:
        self.rules, self.after = tuple(rules), after
        self.rows = [row for row in rows if self.reads_row(row)]

    def reads_row(self, row: Row) -> bool:
        """Return whether the rules read this row."""
        return row["epoch"] >= self.after and row.get("phase") != "weights only"

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> Row | None:
        if not self.reads_row(row):
            return None
        self.rows.append(row)
        if row.get("stop") or state.epoch == state.plan.epochs:
            return None
        begins = (stage.begin(state.plan.epochs) for stage in method.stages)
        since = max((begin for begin in begins if begin <= row["epoch"]), default=0)
        # Rows of an earlier stage do not compare, because its supernet or its alphas are others.
        of_stage = [one for one in self.rows if one["epoch"] >= since]
        reason = next((reason for rule in self.rules if (reason := rule(of_stage))), None)
        return {"stop": reason} if reason else None


def stopping_observers(
    settings: StopSettings, method: Method, epochs: int, rows: Iterable[Row] = ()
) -> tuple[Stopping, ...]:
    """Return the observer of these settings as a tuple, which is empty if no rule is set."""
    rules, after = settings.rules(epochs), epoch_of_span(settings.after, "stop.after")(epochs)
    return (Stopping(rules, max(after, method.alpha_from(epochs)), rows),) if rules else ()
