"""What a study says, from its summaries alone: numbers, a table for the terminal, the same as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from archgrad.compare.statistics import LEVEL, Difference, Spread, difference, spread
from archgrad.compare.summary import Summary

GROUPS = {  # of measures: final value -> how it is called, in the order of the tables; what is in no summary is left out
    "True test accuracy, %": {"cifar10_test": "CIFAR-10", "cifar100_test": "CIFAR-100", "imagenet16_test": "ImageNet16-120"},
    "Discretisation gap and sharpness": {
        "gap_accuracy": "gap, accuracy",
        "gap_loss": "gap, loss",
        "sharpness_weights": "sharpness over weights",
        "sharpness_alphas": "over alphas",
        "sharpness_both": "over both",
        "eigenvalue": "largest eigenvalue of the alphas' Hessian",
    },
    "Rank correlation": {
        "ranking_tau": "tau, search and evaluation network",
        "ranking_search_tau_cifar10": "tau, search network and table",
        "ranking_evaluation_tau_cifar10": "tau, evaluation network and table",
    },
    "Search": {"entropy": "entropy, nats", "skips": "skips", "val_accuracy": "validation accuracy of the supernet", "seconds": "seconds"},
}
MEASURES = {name: label for group in GROUPS.values() for name, label in group.items()}
INTERVAL = f"{LEVEL:.0%}".replace("%", " %")


@dataclass(frozen=True)
class Comparison:
    """``arms`` in order; measure -> arm -> spread, and difference to ``control`` where there is one; ``bars``: name -> measure -> value of
    architectures that took no search."""

    control: str
    arms: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]
    spreads: Mapping[str, Mapping[str, Spread]]
    differences: Mapping[str, Mapping[str, Difference]]
    bars: Mapping[str, Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        def plain(table: Mapping[str, Mapping[str, Spread]]) -> dict[str, Any]:
            return {measure: {arm: one.to_json() for arm, one in row.items()} for measure, row in table.items()}

        return {
            "control": self.control,
            "seeds": {arm: list(seeds) for arm, seeds in self.seeds.items()},
            "mean": plain(self.spreads),
            "minus_control": plain(self.differences),
            "without_search": {name: dict(bar) for name, bar in self.bars.items()},
        }


def comparison(summaries: Iterable[Summary], control: str, arms: Sequence[str] = ()) -> Comparison:
    """Of all finished runs. ``arms``: their order; others follow by name."""
    by_arm: dict[str, list[Summary]] = {}
    for one in sorted(summaries, key=lambda one: (one["arm"], one["seed"])):
        by_arm.setdefault(one["arm"], []).append(one)
    order = (*(arm for arm in arms if arm in by_arm), *(arm for arm in by_arm if arm not in arms))
    values: dict[str, dict[str, dict[int, float]]] = {}
    for arm in order:
        for one in by_arm[arm]:
            for measure, value in {**one["final"], "seconds": one["seconds"]}.items():
                values.setdefault(measure, {}).setdefault(arm, {})[one["seed"]] = value
    names = [*(name for name in MEASURES if name in values), *sorted(name for name in values if name not in MEASURES)]
    differences: dict[str, dict[str, Difference]] = {}
    for name in names:
        row = {arm: difference(by_seed, values[name].get(control, {})) for arm, by_seed in values[name].items() if arm != control}
        differences[name] = {arm: one for arm, one in row.items() if one is not None}
    return Comparison(
        control=control,
        arms=order,
        seeds={arm: tuple(one["seed"] for one in by_arm[arm]) for arm in order},
        spreads={name: {arm: spread(list(by_seed.values())) for arm, by_seed in values[name].items()} for name in names},
        differences=differences,
        bars=_bars([one for arm in order for one in by_arm[arm]]),
    )


def table(found: Comparison) -> Group:
    """A table a measure, a row an arm: mean, interval, difference to the control arm, and whether that is inside the noise."""
    shown = []
    for group, measures in GROUPS.items():
        for measure, name in measures.items():
            if measure not in found.spreads:
                continue
            title = f"{group}: {name}" if group != "Search" else name
            heads = ("arm", "n", "mean", INTERVAL, f"minus {found.control}", "")
            one = Table(*heads, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for column in one.columns[:-1]:
                column.no_wrap = True
            for arm in found.arms:
                if own := found.spreads[measure].get(arm):
                    other = found.differences[measure].get(arm)
                    one.add_row(arm, str(own.n), number(own.mean), _interval(own), _signed(other), _says(other))
            for bar, known in found.bars.items():
                if measure in known:
                    one.add_row(bar, "-", number(known[measure]))
            shown.append(one)
    how = (
        f"Means over n seeds with {INTERVAL} bootstrap intervals; differences are paired by seed, with {INTERVAL} t intervals: clear of 0, "
        "or noise."
    )
    return Group(*shown, how)


def markdown(summaries: Iterable[Summary], control: str, arms: Sequence[str] = ()) -> str:
    """A table a group of measures, as they stand in ``docs/results.md``: a row an arm with means and their bootstrap intervals, then its
    difference to the control arm with its t interval, bold where that excludes 0 and inside the noise where not."""
    found = comparison(summaries, control, arms)
    return "\n".join(_table(found, measures) for group in GROUPS.values() if (measures := _shown(found, group)))


def _table(found: Comparison, measures: Mapping[str, str]) -> str:
    def mean(arm: str, measure: str) -> str:
        one = found.spreads[measure].get(arm)
        return "-" if one is None else number(one.mean) + (f" ({_interval(one)})" if one.low is not None else "")

    def minus(arm: str, measure: str) -> str:
        one = found.differences[measure].get(arm)
        return "-" if one is None else f"**{_signed(one)}**" if one.clear else _signed(one)

    bars = {bar: known for bar, known in found.bars.items() if measures.keys() & known.keys()}
    others = [arm for arm in found.arms if any(arm in found.differences[measure] for measure in measures)]
    lines = [_row(["arm", "seeds", *measures.values()]), "|" + "---|" * (2 + len(measures))]
    lines += [_row([arm, _listed(found.seeds[arm]), *(mean(arm, name) for name in measures)]) for arm in found.arms]
    lines += [_row([bar, "-", *(number(known.get(name)) for name in measures)]) for bar, known in bars.items()]
    lines += [_row([f"{arm}, minus {found.control}", "paired", *(minus(arm, name) for name in measures)]) for arm in others]
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Four significant digits, without exponent."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 1000 else 2 if abs(value) >= 10 else 3 if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}"


def _shown(found: Comparison, group: Mapping[str, str]) -> dict[str, str]:
    return {measure: label for measure, label in group.items() if measure in found.spreads}


def _bars(summaries: list[Summary]) -> dict[str, dict[str, float]]:
    """What the benchmark's verdict names besides the found cell."""
    rows = [row for one in summaries for row in one["benchmark"] or () if row["cell"] != "found"]
    return {row["cell"]: {name: row[name] for name in row if name.endswith("_test")} for row in rows}


def _interval(one: Spread) -> str:
    return "-" if one.low is None else f"{number(one.low)} to {number(one.high)}"


def _signed(one: Difference | None) -> str:
    """``+1.52 ± 5.45``; without interval where there is none to judge by."""
    if one is None:
        return ""
    plain = f"{'+' if one.mean > 0 else ''}{number(one.mean)}"
    return f"{plain} ± {number(one.high - one.mean)}" if one.high is not None and one.clear is not None else plain


def _says(one: Difference | None) -> str:
    if one is None:
        return ""
    return {True: "clear", False: "noise", None: "no spread" if one.n > 1 else "one seed"}[one.clear]


def _listed(seeds: Sequence[int]) -> str:
    """``1 to 4``, or ``1, 3``"""
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1)) and len(seeds) > 2
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
