"""The numbers of a study, computed only from its summaries and its failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archgrad.compare import retrained, selection
from archgrad.compare.measures import JUDGED, MEASURES, REPEATED, Table, table_of, values
from archgrad.compare.retrained import Retrained
from archgrad.compare.selection import Best
from archgrad.compare.statistics import Difference, Spread, difference, holm, spread
from archgrad.compare.summary import Summary
from archgrad.compare.trajectory import Trajectory, of_run, trajectory

Failures = Mapping[str, Mapping[int, str]]
"""Arm -> seed -> why its run failed."""
Judged = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Arm -> seed -> the judgement of its search: {"ok": bool, "fails": {cause: sentence}}."""


@dataclass(frozen=True)
class Comparison:
    """The numbers of a study.

    Attributes:
        control: The arm that the others are compared to.
        arms: All arms, in the order of the tables.
        seeds: Arm -> the seeds of its finished runs.
        spreads: Measure -> arm -> the spread over its seeds.
        differences: Measure -> arm -> its difference to the control arm, if they share a seed.
        bars: Name -> measure -> value, of architectures that needed no search.
        failed: The failed runs, which are in no other number.
        best: Arm -> its run with the best validation accuracy.
        retrained: Arm -> the test accuracies of its retrained networks.
        trajectory: The true accuracies after each epoch.
        searched: The judgements of the searches; searches without one are left out.
        images: Name and side (in pixels) of the images of the searches.
    """

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
    images: tuple[str, int] | None = None

    def doubtful_searches(self, arm: str) -> dict[int, tuple[str, ...]]:
        """Return seed -> causes of each doubtful search (`archgrad.run.judgement.CAUSES`)."""
        return {
            seed: tuple(one["fails"])
            for seed, one in self.searched.get(arm, {}).items()
            if one["fails"]
        }

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``compare.json``."""

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
    """Return the numbers of a study.

    The tests of the differences in one measure are corrected for the number of arms
    (`archgrad.compare.statistics.holm`).

    Args:
        summaries: The summaries of the finished runs.
        control: The arm that the others are compared to.
        arms: Arms in the order of the tables; further arms follow.
        failed: The failed runs.
    """
    failed = {arm: by_seed for arm, by_seed in (failed or {}).items() if by_seed}
    found = sorted(summaries, key=lambda one: (one["arm"], one["seed"]))
    known = dict.fromkeys([*(one["arm"] for one in found), *failed])
    order = (*(arm for arm in arms if arm in known), *(arm for arm in known if arm not in arms))
    by_arm = {arm: [one for one in found if one["arm"] == arm] for arm in order}
    runs = [one for own in by_arm.values() for one in own]
    table = values(runs, control)
    names = [
        *(name for name in MEASURES if name in table),
        *sorted(name for name in table if name not in MEASURES),
    ]
    return Comparison(
        control=control,
        arms=order,
        seeds={arm: tuple(one["seed"] for one in own) for arm, own in by_arm.items()},
        spreads={
            name: {arm: spread(list(by_seed.values())) for arm, by_seed in table[name].items()}
            for name in names
        },
        differences={
            name: _differences(table[name], control) for name in names if name not in REPEATED
        },
        bars=_bars(runs),
        failed=failed,
        best=_best(order, table),
        retrained=_retrained(by_arm),
        trajectory=_trajectory(by_arm),
        searched=_judged(by_arm),
        images=_images(runs),
    )


def verdict_of(searched: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a judgement that a comparison keeps."""
    return {"ok": not searched["fails"], "fails": dict(searched["fails"])}


def _differences(row: Mapping[str, Mapping[int, float]], control: str) -> dict[str, Difference]:
    """Return arm -> its difference to the control arm in one measure, corrected for the arms."""
    base = row.get(control, {})
    found = {arm: difference(by_seed, base) for arm, by_seed in row.items() if arm != control}
    return holm({arm: one for arm, one in found.items() if one is not None})


def _best(arms: Sequence[str], table: Table) -> dict[str, Best]:
    found = {arm: selection.best(arm, table, JUDGED) for arm in arms}
    return {arm: one for arm, one in found.items() if one is not None}


def _retrained(by_arm: Mapping[str, Sequence[Summary]]) -> dict[str, Retrained]:
    tests = {
        arm: {one["seed"]: own for one in runs if (own := retrained.tests_of(one))}
        for arm, runs in by_arm.items()
    }
    return {arm: retrained.retrained(own) for arm, own in tests.items() if own}


def _trajectory(by_arm: Mapping[str, Sequence[Summary]]) -> Trajectory | None:
    asked = {
        arm: [(one, benchmark) for one in runs if (benchmark := table_of(one))]
        for arm, runs in by_arm.items()
    }
    measure = next((benchmark.JUDGED_BY for pairs in asked.values() for _, benchmark in pairs), "")
    paths = {
        arm: [of_run(one, benchmark) for one, benchmark in pairs] for arm, pairs in asked.items()
    }
    return trajectory(paths, measure)


def _judged(by_arm: Mapping[str, Sequence[Summary]]) -> Judged:
    judged = {
        arm: {one["seed"]: verdict_of(one["searched"]) for one in runs if "searched" in one}
        for arm, runs in by_arm.items()
    }
    return {arm: own for arm, own in judged.items() if own}


def _images(runs: Iterable[Summary]) -> tuple[str, int] | None:
    """Return name and side of the images of the first run that a benchmark contains."""
    return next(
        (
            (one["data"]["name"], one["config"]["data"]["size"])
            for one in runs
            if one.get("data") and one["benchmark"]
        ),
        None,
    )


def _bars(summaries: Iterable[Summary]) -> dict[str, dict[str, float]]:
    """Return name -> measure -> value of the reference cells in the verdicts of the benchmark."""
    found: dict[str, dict[str, float]] = {}
    for one in summaries:
        for row in one["benchmark"] or ():
            if row["cell"] != "found" and row["cell"] not in found and (benchmark := table_of(one)):
                known = {name: value for name, value in row.items() if name.endswith("_test")}
                found[row["cell"]] = {**known, **benchmark.standing(known)}
    return found
