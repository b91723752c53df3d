"""A comparison on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archgrad.compare.comparing import Comparison, comparison
from archgrad.compare.measures import GROUPS, JUDGED, REGRET, RELATIVE, REPEATED, STANDING, TRUE
from archgrad.compare.statistics import LEVEL, Difference, Spread
from archgrad.compare.trajectory import Trajectory
from archgrad.tabular import elsewhere

__all__ = ["comparison", "table"]

INTERVAL = f"{LEVEL:.0%}".replace("%", " %")
NAMED = (
    "True test accuracy, %",
    "Discretisation gap and sharpness",
    "Rank correlation",
)  # groups whose name stands before a measure's
WIDTH = 110  # of the widest table with long names, in characters
HOW = (
    f"Means over n seeds with {INTERVAL} bootstrap intervals; differences are paired by seed, with {INTERVAL} t intervals. p: paired t-test, "
    "after Holm's correction for all arms of a measure; below 0.05 a difference is clear, else noise."
)
CHOSEN = "Best by validation: the run of each arm that did best on validation images. No test image chose anything."
STANDS = "Regret: 0 is the best architecture of the space, 1 the average one. Improvement over the average one is relative to it."


def table(found: Comparison) -> Group:
    """A table a measure, a row an arm: mean, spread, difference to the control arm, and whether that is inside the noise; then what the table
    of the space says, the way there, and what a selection by validation would have taken."""
    parts: list[RenderableType] = []
    notes = [HOW]

    def add(title: str, part: Table) -> None:
        parts.extend(
            (Text(title, style="bold"), part)
        )  # a title of the table's own would wrap at its width

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
            f"True test accuracy, %: {JUDGED[found.trajectory.measure]}, of what would be found after an epoch",
            _trajectory(found.trajectory),
        )
    if any(one.worth for one in found.best.values()):
        add("Best by validation, and its test accuracy, %", _best(found))
        notes.append(CHOSEN)
    if any(found.doubtful(arm) for arm in found.arms):
        notes += doubts(found)
    if missing := sum(
        len(found.seeds[arm]) - len(found.searched.get(arm, {})) for arm in found.arms
    ):
        notes.append(
            f"{missing} of {sum(map(len, found.seeds.values()))} searches were recorded before searches were judged."
        )
    if shown(found, TRUE) and found.images and (note := elsewhere(*found.images)):
        notes.append(note)
    if found.failed:
        notes.append("Failed: " + "; ".join(failures(found)) + ".")
    return Group(*parts, *notes)


def _measure(found: Comparison, measure: str) -> Table:
    one = _empty(
        "arm",
        "n",
        "mean",
        "sd",
        INTERVAL,
        *([] if measure in REPEATED else [f"minus {found.control}", ""]),
    )
    for arm in found.arms:
        own, failed = found.spreads[measure].get(arm), count_failed(found, arm)
        if own or not found.seeds[arm]:
            other = found.differences.get(measure, {}).get(arm)
            values = (number(own.mean), number(own.sd), interval(own)) if own else ("-", "-", "-")
            count = f"{own.n if own else 0}{marked(found, arm)}{failed}"
            one.add_row(
                arm, count, *values, *([] if measure in REPEATED else [signed(other), _says(other)])
            )
    for bar, known in found.bars.items():
        if measure in known:
            one.add_row(bar, "-", number(known[measure]))
    return one


def _standing(found: Comparison, measures: Mapping[str, str]) -> Table:
    names = shown(found, measures)
    one = _empty("arm", *(label.rpartition(", ")[2] for label in names.values()))
    for arm in found.arms:
        one.add_row(
            arm + marked(found, arm), *(mean(found.spreads[name].get(arm)) for name in names)
        )
    for bar, known in found.bars.items():
        one.add_row(bar, *(number(known.get(name)) for name in names))
    return one


def _retrained(found: Comparison) -> Table:
    one = _empty(
        "arm", "searches", "of each", "mean", "sd between searches", "sd between retrainings"
    )
    for arm, own in found.retrained.items():
        count = f"{own.n}{marked(found, arm)}"
        one.add_row(
            arm,
            count,
            listed(sorted(set(own.each))),
            number(own.mean),
            number(own.sd),
            number(own.sd_retraining),
        )
    return one


def _trajectory(path: Trajectory) -> Table:
    epochs = path.shown()
    one = _empty("arm", *(f"epoch {k}" for k in epochs))
    for arm, own in path.spreads.items():
        one.add_row(arm, *(mean(own[k - 1] if k <= len(own) else None) for k in epochs))
    return one


def _best(found: Comparison) -> Table:
    names = {
        name: label
        for name, label in JUDGED.items()
        if any(name in one.worth for one in found.best.values())
    }
    one = _empty("arm", "seed", "validation accuracy", *names.values())
    for arm, own in found.best.items():
        seed = own.chosen(len(found.seeds[arm])) + "*" * (own.seed in found.doubtful(arm))
        one.add_row(
            arm, seed, number(own.validation), *(number(own.worth.get(name)) for name in names)
        )
    return one


def _empty(*heads: str) -> Table:
    one = Table(*heads, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in one.columns:
        column.no_wrap = True
    return one


# How numbers are written.


def number(value: float | None) -> str:
    """Four significant digits, without exponent."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 1000 else 2 if abs(value) >= 10 else 3 if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}"


def mean(one: Spread | None) -> str:
    return "-" if one is None else number(one.mean)


def interval(one: Spread) -> str:
    return "-" if one.low is None else f"{number(one.low)} to {number(one.high)}"


def signed(one: Difference | None) -> str:
    """``+1.52 ± 5.45``; without interval where there is none to judge by."""
    if one is None:
        return ""
    plain = f"{'+' if one.mean > 0 else ''}{number(one.mean)}"
    return (
        f"{plain} ± {number(one.high - one.mean)}"
        if one.high is not None and one.p is not None
        else plain
    )


def count_failed(found: Comparison, arm: str) -> str:
    failed = len(found.failed.get(arm, ()))
    return f" ({failed} failed)" if failed else ""


def marked(found: Comparison, arm: str) -> str:
    """``*`` where a search of this arm says little: the note below tells how many, and why."""
    return "*" if found.doubtful(arm) else ""


def doubts(found: Comparison) -> list[str]:
    """``* darts: 2 of 4 searches say little (alphas hardly moved 2, selection still changes 1)``, an arm each."""
    from archgrad.run.judgement import CAUSES  # takes torch; `compare` refuses without it

    lines = []
    for arm in found.arms:
        if doubtful := found.doubtful(arm):
            causes = Counter(cause for fails in doubtful.values() for cause in fails)
            why = ", ".join(
                f"{text} {causes[cause]}" for cause, text in CAUSES.items() if causes[cause]
            )
            count = len(found.seeds[arm])
            unknown = (
                f"; {missing} not judged" if (missing := count - len(found.searched[arm])) else ""
            )
            lines.append(
                f"* {arm}: {len(doubtful)} of {count} searches say little ({why}{unknown})."
            )
    return lines


def failures(found: Comparison) -> Iterable[str]:
    """``darts, seed 3: exit code 1: it broke here``"""
    return (
        f"{arm}, seed {seed}: {why}"
        for arm, by_seed in found.failed.items()
        for seed, why in by_seed.items()
    )


def listed(seeds: Sequence[int]) -> str:
    """``1 to 4``, or ``1, 3``"""
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def shown(found: Comparison, group: Mapping[str, str]) -> dict[str, str]:
    """The measures of a group that any run has, with their names."""
    return {
        measure: label.format(control=found.control)
        for measure, label in group.items()
        if measure in found.spreads
    }


def _says(one: Difference | None) -> str:
    if one is None:
        return ""
    if one.corrected is None:
        return "no spread" if one.n > 1 else "one seed"
    p = "p < 0.001" if one.corrected < 0.001 else f"p {one.corrected:.2g}"
    return f"{'clear' if one.clear else 'noise'}, {p}"
