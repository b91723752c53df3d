"""What a study says, from its summaries and its failures alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archgrad.compare import retrained, selection
from archgrad.compare.measures import JUDGED, MEASURES, REPEATED, table_of, values
from archgrad.compare.retrained import Retrained
from archgrad.compare.selection import Best
from archgrad.compare.statistics import Difference, Spread, difference, holm, spread
from archgrad.compare.summary import Summary
from archgrad.compare.trajectory import Trajectory, of_run, trajectory
from archgrad.terminal import cell

Failures = Mapping[str, Mapping[int, str]]  # arm -> seed -> why
Judged = Mapping[
    str, Mapping[int, Mapping[str, Any]]
]  # arm -> seed -> what is missing: {"ok", "fails": cause -> sentence}


@dataclass(frozen=True)
class Comparison:
    """``arms`` in order; measure -> arm -> spread, and difference to ``control`` where there is one; ``bars``: name -> measure -> value of
    architectures that took no search; ``failed`` runs are in no number but counted; ``searched``: of the runs that were judged."""

    control: str
    arms: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]
    spreads: Mapping[str, Mapping[str, Spread]]
    differences: Mapping[str, Mapping[str, Difference]]
    bars: Mapping[str, Mapping[str, float]]
    failed: Failures = field(default_factory=dict)
    best: Mapping[str, Best] = field(default_factory=dict)
    retrained: Mapping[str, Retrained] = field(default_factory=dict)
    trajectory: Trajectory | None = None
    searched: Judged = field(default_factory=dict)
    images: tuple[str, int] | None = None  # name and side of those that were searched on

    def doubtful(self, arm: str) -> dict[int, tuple[str, ...]]:
        """Seeds whose search says little, and the causes (`archgrad.run.judgement.CAUSES`)."""
        return {
            seed: tuple(one["fails"])
            for seed, one in self.searched.get(arm, {}).items()
            if one["fails"]
        }

    def to_json(self) -> dict[str, Any]:
        def plain(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
            return {
                measure: {arm: one.to_json() for arm, one in row.items()}
                for measure, row in table.items()
            }

        searched = {
            arm: {str(seed): one for seed, one in own.items()} for arm, own in self.searched.items()
        }
        return {
            "control": self.control,
            "seeds": {arm: list(seeds) for arm, seeds in self.seeds.items()},
            "failed": {
                arm: {str(seed): why for seed, why in by_seed.items()}
                for arm, by_seed in self.failed.items()
            },
            "mean": plain(self.spreads),
            "minus_control": plain(self.differences),
            "without_search": {name: dict(bar) for name, bar in self.bars.items()},
            **plain({"best_by_validation": self.best, "retrained": self.retrained}),
            "trajectory": self.trajectory and self.trajectory.to_json(),
            **({"searched": searched} if searched else {}),
        }


def comparison(
    summaries: Iterable[Summary],
    control: str,
    arms: Sequence[str] = (),
    failed: Failures | None = None,
) -> Comparison:
    """Of all finished runs. ``arms``: their order; others follow by name. The differences of one measure are corrected for its arms."""
    failed = {arm: by_seed for arm, by_seed in (failed or {}).items() if by_seed}
    by_arm: dict[str, list[Summary]] = {}
    for one in sorted(summaries, key=lambda one: (one["arm"], one["seed"])):
        by_arm.setdefault(one["arm"], []).append(one)
    known = dict.fromkeys([*by_arm, *failed])
    order = (*(arm for arm in arms if arm in known), *(arm for arm in known if arm not in arms))
    runs = [one for arm in order for one in by_arm.get(arm, ())]
    table = values(runs, control)
    names = [
        *(name for name in MEASURES if name in table),
        *sorted(name for name in table if name not in MEASURES),
    ]
    differences: dict[str, dict[str, Difference]] = {}
    for name in (name for name in names if name not in REPEATED):
        row = {
            arm: difference(by_seed, table[name].get(control, {}))
            for arm, by_seed in table[name].items()
            if arm != control
        }
        differences[name] = holm({arm: one for arm, one in row.items() if one is not None})
    tests = {
        arm: {one["seed"]: own for one in by_arm.get(arm, ()) if (own := retrained.tests_of(one))}
        for arm in order
    }
    judged = {
        arm: {
            one["seed"]: brief(one["searched"]) for one in by_arm.get(arm, ()) if "searched" in one
        }
        for arm in order
    }
    asked = {
        arm: [(one, benchmark) for one in by_arm.get(arm, ()) if (benchmark := table_of(one))]
        for arm in order
    }
    judged_by = next(
        (benchmark.JUDGED_BY for pairs in asked.values() for _, benchmark in pairs), ""
    )
    return Comparison(
        control=control,
        arms=order,
        seeds={arm: tuple(one["seed"] for one in by_arm.get(arm, ())) for arm in order},
        spreads={
            name: {arm: spread(list(by_seed.values())) for arm, by_seed in table[name].items()}
            for name in names
        },
        differences=differences,
        bars=_bars(runs),
        failed=failed,
        best={
            arm: chosen
            for arm in order
            if (chosen := selection.best(arm, table, JUDGED)) is not None
        },
        retrained={arm: retrained.retrained(own) for arm, own in tests.items() if own},
        trajectory=trajectory(
            {
                arm: [of_run(one, benchmark) for one, benchmark in pairs]
                for arm, pairs in asked.items()
            },
            judged_by,
        ),
        searched={arm: own for arm, own in judged.items() if own},
        images=next(
            (
                (one["data"]["name"], one["config"]["data"]["size"])
                for one in runs
                if one.get("data") and one["benchmark"]
            ),
            None,
        ),
    )


def brief(searched: Mapping[str, Any]) -> dict[str, Any]:
    """What a comparison keeps of a judgement."""
    return {"ok": not searched["fails"], "fails": dict(searched["fails"])}


def tidy(summaries: Iterable[Summary], control: str, failed: Failures | None = None) -> str:
    """CSV with a row for each arm, seed and measure; each retraining is a measure of its own, a run that was judged
    has ``searched`` (1: all holds, 0: not), and a run that failed has the one ``failed``."""
    found = list(summaries)
    rows = [
        (arm, seed, name, value)
        for name, row in values(found, control).items()
        for arm, own in row.items()
        for seed, value in own.items()
    ]
    for one in found:
        rows += [
            (one["arm"], one["seed"], f"retrained_test_{k}", test)
            for k, test in enumerate(retrained.tests_of(one), 1)
        ]
    rows += [
        (one["arm"], one["seed"], "searched", int(not one["searched"]["fails"]))
        for one in found
        if "searched" in one
    ]
    rows += [
        (arm, seed, "failed", 1) for arm, by_seed in (failed or {}).items() for seed in by_seed
    ]
    text = io.StringIO()
    named = (
        (cell(arm), seed, cell(name), value)
        for arm, seed, name, value in sorted(rows, key=lambda row: row[:3])
    )
    csv.writer(text, lineterminator="\n").writerows([("arm", "seed", "measure", "value"), *named])
    return text.getvalue()


def _bars(summaries: list[Summary]) -> dict[str, dict[str, float]]:
    """What the benchmark's verdict names besides the found cell, and where that stands."""
    found: dict[str, dict[str, float]] = {}
    for one in summaries:
        for row in one["benchmark"] or ():
            if row["cell"] != "found" and row["cell"] not in found and (benchmark := table_of(one)):
                known = {name: value for name, value in row.items() if name.endswith("_test")}
                found[row["cell"]] = {**known, **benchmark.standing(known)}
    return found
