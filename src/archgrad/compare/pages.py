"""A comparison as Markdown, as in ``docs/studies``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from archgrad.compare.comparing import Comparison, Failures, comparison
from archgrad.compare.measures import GROUPS, JUDGED
from archgrad.compare.statistics import Spread
from archgrad.compare.summary import Summary
from archgrad.compare.trajectory import Trajectory
from archgrad.compare.wording import (
    count_failed,
    doubts,
    interval,
    mark,
    number,
    seed_range,
    shown,
    signed,
)


def to_markdown(
    summaries: Iterable[Summary],
    control: str,
    arms: Sequence[str] = (),
    failed: Failures | None = None,
) -> str:
    """Return the tables of a study as Markdown.

    There is one table for each group of measures. An arm has one row with means and their
    bootstrap intervals, and one with its difference to the control arm and the t interval, which is
    bold if it is clear after the correction for the number of arms. Trajectories and the best runs
    by validation follow the accuracies.

    Args:
        summaries: The summaries of the finished runs.
        control: The arm that the others are compared to.
        arms: Arms in the order of the tables; further arms follow.
        failed: The failed runs.
    """
    found = comparison(summaries, control, arms, failed)
    return "\n".join(_tables(found))


def _tables(found: Comparison) -> Iterator[str]:
    for group, measures in GROUPS.items():
        if own := shown(found, measures):
            yield _table(found, own)
        if group == "Retrained" and found.retrained:
            yield _retrained(found)
        if group == "Over all epochs":
            if found.trajectory:
                yield _trajectory(found.trajectory)
            if any(one.measures for one in found.best.values()):
                yield _best(found)
    if lines := doubts(found):
        yield "\n".join(line.replace("*", "\\*", 1) for line in lines) + "\n"


def _table(found: Comparison, measures: Mapping[str, str]) -> str:
    def minus(arm: str, measure: str) -> str:
        one = found.differences.get(measure, {}).get(arm)
        if one is None:
            return "-"
        return f"**{signed(one)}**" if one.is_clear else signed(one)

    bars = {bar: known for bar, known in found.bars.items() if measures.keys() & known.keys()}
    others = [
        arm
        for arm in found.arms
        if any(arm in found.differences.get(measure, {}) for measure in measures)
    ]
    lines = _head("arm", "seeds", *measures.values())
    lines += [
        _row([arm, _seeds(found, arm), *(_mean(found.spreads[name].get(arm)) for name in measures)])
        for arm in found.arms
    ]
    lines += [
        _row([bar, "-", *(number(known.get(name)) for name in measures)])
        for bar, known in bars.items()
    ]
    lines += [
        _row([f"{arm}, minus {found.control}", "paired", *(minus(arm, name) for name in measures)])
        for arm in others
    ]
    return "\n".join(lines) + "\n"


def _retrained(found: Comparison) -> str:
    lines = _head(
        "arm",
        "searches",
        "retrainings of each",
        "test accuracy, %, retrained",
        "sd between searches",
        "sd between retrainings",
    )
    for arm, own in found.retrained.items():
        cells = (
            str(own.n),
            seed_range(sorted(set(own.each))),
            _mean(own),
            number(own.sd),
            number(own.sd_retraining),
        )
        lines.append(_row([arm, *cells]))
    return "\n".join(lines) + "\n"


def _trajectory(path: Trajectory) -> str:
    lines = _head(
        f"{JUDGED[path.measure]}, of the genotype",
        *(f"after epoch {epoch}" for epoch in path.shown_epochs()),
    )
    for arm, own in path.spreads.items():
        known = [own[epoch - 1] if epoch <= len(own) else None for epoch in path.shown_epochs()]
        lines.append(_row([arm, *map(_mean, known)]))
    return "\n".join(lines) + "\n"


def _best(found: Comparison) -> str:
    names = {
        name: label
        for name, label in JUDGED.items()
        if any(name in one.measures for one in found.best.values())
    }
    lines = _head("best by validation", "seed", "validation accuracy", *names.values())
    for arm, own in found.best.items():
        lines.append(
            _row(
                [
                    arm,
                    own.seed_text(len(found.seeds[arm])),
                    number(own.validation),
                    *(number(own.measures.get(name)) for name in names),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def _mean(one: Spread | None) -> str:
    if one is None:
        return "-"
    return number(one.mean) if one.low is None else f"{number(one.mean)} ({interval(one)})"


def _seeds(found: Comparison, arm: str) -> str:
    seeds = seed_range(found.seeds[arm]) or "none"
    return seeds + mark(found, arm).replace("*", "\\*") + count_failed(found, arm)


def _head(*names: str) -> list[str]:
    return [_row(names), "|" + "---|" * len(names)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
