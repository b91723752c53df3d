"""What a study says, from its summaries alone: numbers, a table for the terminal, the same as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table

from archgrad.compare.statistics import LEVEL, Difference, Spread, difference, spread
from archgrad.compare.summary import Summary

MEASURES = {  # final value -> how it is called, in the order of the tables; what is in no summary is left out
    "cifar10_test": "CIFAR-10 true test accuracy, %",
    "cifar100_test": "CIFAR-100 true test accuracy, %",
    "imagenet16_test": "ImageNet16-120 true test accuracy, %",
    "gap_accuracy": "discretisation gap, accuracy",
    "gap_loss": "discretisation gap, loss",
    "sharpness_weights": "sharpness over weights",
    "sharpness_alphas": "sharpness over alphas",
    "sharpness_both": "sharpness over both",
    "entropy": "entropy, nats",
    "skips": "skips",
    "val_accuracy": "validation accuracy of the supernet",
    "seconds": "seconds of search",
}
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
    for measure, name in _shown(found).items():
        one = Table("arm", "n", "mean", "sd", INTERVAL, f"minus {found.control}", "", title=name, title_justify="left", header_style="")
        for arm in found.arms:
            if own := found.spreads[measure].get(arm):
                other = found.differences[measure].get(arm)
                one.add_row(arm, str(own.n), *_cells(own), _signed(other), _says(other))
        for bar, known in found.bars.items():
            if measure in known:
                one.add_row(bar, "-", number(known[measure]))
        shown.append(one)
    how = f"Mean over n seeds with its {INTERVAL} bootstrap interval; the difference is paired by seed, with its {INTERVAL} t interval."
    return Group(*shown, how)


def markdown(summaries: Iterable[Summary], control: str, arms: Sequence[str] = ()) -> str:
    """Two tables, as they stand in ``docs/results.md``: means with their bootstrap intervals, differences with their t intervals, an arm a row.
    Differences whose interval excludes 0 are bold, all others are inside the noise."""
    found = comparison(summaries, control, arms)
    shown = _shown(found)
    seeds = {arm: _listed(own) for arm, own in found.seeds.items()}

    def rows(cell: Callable[[str, str], str], names: Iterable[str]) -> list[str]:
        return [_row([arm, seeds[arm], *(cell(measure, arm) for measure in shown)]) for arm in names]

    def mean(measure: str, arm: str) -> str:
        one = found.spreads[measure].get(arm)
        return "-" if one is None else number(one.mean) + (f" ({number(one.low)} to {number(one.high)})" if one.low is not None else "")

    def minus(measure: str, arm: str) -> str:
        one = found.differences[measure].get(arm)
        return "-" if one is None else f"**{_signed(one)}**" if one.clear else _signed(one)

    bars = [_row([bar, "-", *(number(known[name]) if name in known else "-" for name in shown)]) for bar, known in found.bars.items()]
    others = [arm for arm in found.arms if arm != control and any(arm in found.differences[measure] for measure in shown)]
    first = [*_head(["arm", "seeds", *shown.values()]), *rows(mean, found.arms), *bars]
    second = [*_head([f"minus {control}", "seeds", *shown.values()]), *rows(minus, others)]
    return "\n".join([*first, *(["", *second] if others else [])]) + "\n"


def number(value: float | None) -> str:
    """Four significant digits, without exponent."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 1000 else 2 if abs(value) >= 10 else 3 if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}"


def _shown(found: Comparison) -> dict[str, str]:
    return {measure: name for measure, name in MEASURES.items() if measure in found.spreads}


def _bars(summaries: list[Summary]) -> dict[str, dict[str, float]]:
    """What the benchmark's verdict names besides the found cell."""
    rows = [row for one in summaries for row in one["benchmark"] or () if row["cell"] != "found"]
    return {row["cell"]: {name: row[name] for name in row if name.endswith("_test")} for row in rows}


def _cells(one: Spread) -> tuple[str, str, str]:
    return number(one.mean), number(one.sd), "-" if one.low is None else f"{number(one.low)} to {number(one.high)}"


def _signed(one: Difference | None) -> str:
    if one is None:
        return ""
    sign = "+" if one.mean > 0 else ""
    return f"{sign}{number(one.mean)}" + ("" if one.low is None or one.low == one.high else f" ({number(one.low)} to {number(one.high)})")


def _says(one: Difference | None) -> str:
    if one is None:
        return ""
    return {True: "clear", False: "inside the noise", None: "no spread to judge by" if one.n > 1 else "one seed"}[one.clear]


def _listed(seeds: Sequence[int]) -> str:
    """``1 to 4``, or ``1, 3``"""
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1)) and len(seeds) > 2
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(names: Sequence[str]) -> list[str]:
    return [_row(names), "|" + "---|" * len(names)]
