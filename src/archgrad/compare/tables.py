"""The tables of a comparison on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archgrad.compare.comparing import Comparison
from archgrad.compare.measures import GROUPS, JUDGED, REGRET, RELATIVE, REPEATED, STANDING, TRUE
from archgrad.compare.statistics import LEVEL, Difference
from archgrad.compare.trajectory import Trajectory
from archgrad.compare.wording import (
    count_failed,
    doubts,
    failures,
    interval,
    mark,
    mean,
    number,
    seed_range,
    shown,
    signed,
)
from archgrad.tabular import other_images_note

INTERVAL = f"{LEVEL:.0%}".replace("%", " %")
NAMED = ("True test accuracy, %", "Discretisation gap and sharpness", "Rank correlation")
"""Groups whose name precedes the label of each measure."""
WIDTH = 110
"""Width in characters of the widest table with long names."""
HOW = (
    f"Means over n seeds have {INTERVAL} bootstrap intervals. "
    f"Differences are paired by seed and have {INTERVAL} t intervals. "
    "p is the p-value of the paired t-test after Holm's correction for all arms of a measure: "
    "below 0.05 a difference is clear, otherwise it is noise."
)
CHOSEN = (
    "Best by validation is the run of each arm with the highest validation accuracy. "
    "No test image took part in the choice."
)
STANDS = (
    "Regret is 0 for the best architecture of the space and 1 for the average one. "
    "Improvement is relative to the average accuracy."
)


def table(found: Comparison) -> Group:
    """Return the tables of a comparison with their notes.

    There is one table for each measure, with one row for each arm: mean, standard deviation,
    interval, difference to the control arm, and whether that difference is clear. Tables of regret,
    retrainings, trajectories and the best runs by validation follow where there are such numbers.
    """
    parts: list[RenderableType] = []
    notes = [HOW]

    def add(title: str, part: Table) -> None:
        # rich would wrap a title of the table at the width of the table
        parts.extend((Text(title, style="bold"), part))

    for group, measures in GROUPS.items():
        if measures is STANDING:
            if shown(found, measures):
                add("Regret among all architectures of the space", _standing(found, REGRET))
                add("Improvement over their average, %", _standing(found, RELATIVE))
                notes.append(STANDS)
            continue
        for measure, name in shown(found, measures).items():
            add(f"{group}: {name}" if group in NAMED else name, _measure(found, measure))
    if found.retrained:
        add("Retrainings, test accuracy, %", _retrained(found))
    if found.trajectory:
        add(
            f"True test accuracy, %: {JUDGED[found.trajectory.measure]}, of the genotype",
            _trajectory(found.trajectory),
        )
    if any(one.measures for one in found.best.values()):
        add("Best by validation, and its test accuracy, %", _best(found))
        notes.append(CHOSEN)
    if any(found.doubtful_searches(arm) for arm in found.arms):
        notes += doubts(found)
    if missing := sum(
        len(found.seeds[arm]) - len(found.searched.get(arm, {})) for arm in found.arms
    ):
        notes.append(
            f"{missing} of {sum(map(len, found.seeds.values()))} searches were recorded by a "
            "version that did not judge searches."
        )
    if shown(found, TRUE) and found.images and (note := other_images_note(*found.images)):
        notes.append(note)
    if found.failed:
        notes.append("Failed: " + "; ".join(failures(found)) + ".")
    return Group(*parts, *notes)


def _measure(found: Comparison, measure: str) -> Table:
    compared = measure not in REPEATED
    heads = ["arm", "n", "mean", "sd", INTERVAL]
    if compared:
        heads += [f"minus {found.control}", ""]
    one = _empty(*heads)
    for arm in found.arms:
        own = found.spreads[measure].get(arm)
        if own or not found.seeds[arm]:
            count = f"{own.n if own else 0}{mark(found, arm)}{count_failed(found, arm)}"
            cells = [number(own.mean), number(own.sd), interval(own)] if own else ["-", "-", "-"]
            if compared:
                minus = found.differences.get(measure, {}).get(arm)
                cells += [signed(minus), _verdict(minus)]
            one.add_row(arm, count, *cells)
    for bar, known in found.bars.items():
        if measure in known:
            one.add_row(bar, "-", number(known[measure]))
    return one


def _standing(found: Comparison, measures: Mapping[str, str]) -> Table:
    names = shown(found, measures)
    one = _empty("arm", *(label.rpartition(", ")[2] for label in names.values()))
    for arm in found.arms:
        one.add_row(arm + mark(found, arm), *(mean(found.spreads[name].get(arm)) for name in names))
    for bar, known in found.bars.items():
        one.add_row(bar, *(number(known.get(name)) for name in names))
    return one


def _retrained(found: Comparison) -> Table:
    one = _empty(
        "arm", "searches", "of each", "mean", "sd between searches", "sd between retrainings"
    )
    for arm, own in found.retrained.items():
        count = f"{own.n}{mark(found, arm)}"
        one.add_row(
            arm,
            count,
            seed_range(sorted(set(own.each))),
            number(own.mean),
            number(own.sd),
            number(own.sd_retraining),
        )
    return one


def _trajectory(path: Trajectory) -> Table:
    epochs = path.shown_epochs()
    one = _empty("arm", *(f"epoch {epoch}" for epoch in epochs))
    for arm, own in path.spreads.items():
        known = [own[epoch - 1] if epoch <= len(own) else None for epoch in epochs]
        one.add_row(arm, *map(mean, known))
    return one


def _best(found: Comparison) -> Table:
    names = {
        name: label
        for name, label in JUDGED.items()
        if any(name in one.measures for one in found.best.values())
    }
    one = _empty("arm", "seed", "validation accuracy", *names.values())
    for arm, own in found.best.items():
        seed = own.seed_text(len(found.seeds[arm]))
        if own.seed in found.doubtful_searches(arm):
            seed += "*"
        one.add_row(
            arm, seed, number(own.validation), *(number(own.measures.get(name)) for name in names)
        )
    return one


def _empty(*heads: str) -> Table:
    one = Table(*heads, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in one.columns:
        column.no_wrap = True
    return one


def _verdict(one: Difference | None) -> str:
    if one is None:
        return ""
    if one.corrected is None:
        return "no spread" if one.n > 1 else "one seed"
    p = "p < 0.001" if one.corrected < 0.001 else f"p {one.corrected:.2g}"
    return f"{'clear' if one.is_clear else 'noise'}, {p}"
