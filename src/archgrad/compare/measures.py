"""The measures of a comparison: the last values of each run, and numbers computed from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import ModuleType

from archgrad import tabular
from archgrad.compare import retrained, selection, trajectory
from archgrad.compare.summary import Summary

Table = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Measure -> arm -> seed -> value."""

TRUE = {
    "cifar10_test": "CIFAR-10",
    "cifar100_test": "CIFAR-100",
    "imagenet16_test": "ImageNet16-120",
}
JUDGED = {**TRUE, "retrained_test": "retrained"}
"""The test accuracies of the best run by validation."""
REGRET = {name.replace("_test", "_regret"): f"regret, {label}" for name, label in TRUE.items()}
RELATIVE = {
    name.replace("_test", "_relative"): f"over the average, %, {label}"
    for name, label in TRUE.items()
}
STANDING = {**REGRET, **RELATIVE}
TIMES = {"seconds_times": "seconds", "cpu_seconds_times": "cpu_seconds"}
"""Ratio to the control arm -> the measure whose ratio it is."""
GROUPS = {
    "True test accuracy, %": TRUE,
    "Retrained": {"retrained_test": "test accuracy, %, retrained"},
    "In the whole space": STANDING,
    "Over all epochs": {"trajectory_test": "true test accuracy, %, mean over the epochs"},
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
    "Search": {
        "entropy": "entropy, nats",
        "skips": "skips",
        "val_accuracy": "validation accuracy of the supernet",
    },
    "Cost": {
        "found_macs_M": "multiply-adds of the found network, M",
        "found_params_M": "parameters, M",
        "found_latency": "latency, ms",
        "seconds": "seconds",
        "seconds_times": "seconds, times {control}",
        "cpu_seconds": "CPU seconds",
        "cpu_seconds_times": "CPU seconds, times {control}",
    },
}
"""Group -> measure -> label, in the order of the tables. Measures of no run are left out."""
MEASURES = {name: label for group in GROUPS.values() for name, label in group.items()}
REPEATED = {*STANDING, *TIMES}
"""Measures that are functions of another measure, so their differences are not tested again."""


def measured(one: Summary) -> dict[str, float]:
    """Return measure -> value of one run. A run of a blind study has no measure from a table."""
    timed = () if one.get("missing") else ("seconds", "cpu_seconds")
    found = {**one["final"], **{name: one[name] for name in timed if name in one}}
    found |= {
        f"{name}_M": found[name] / 1e6 for name in ("found_macs", "found_params") if name in found
    }
    if "validation" not in found and (judged := selection.of_summary(one)) is not None:
        found["validation"] = judged  # an old summary has no such value
    if tests := retrained.tests_of(one):
        found["retrained_test"] = math.fsum(tests) / len(tests)
    if table := table_of(one):
        found |= table.standing(one["final"])
        if path := trajectory.of_run(one, table):
            found["trajectory_test"] = math.fsum(path) / len(path)
    return found


def table_of(one: Summary) -> ModuleType | None:
    """Return the benchmark in which a run was looked up.

    It is None if no benchmark contains the space, or the study is blind.
    """
    return tabular.benchmark_of(one["config"]["space"]["name"]) if one["benchmark"] else None


def values(summaries: Iterable[Summary], control: str) -> Table:
    """Return measure -> arm -> seed -> value of all runs, with the ratios of `TIMES`."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for one in summaries:
        for name, value in measured(one).items():
            found.setdefault(name, {}).setdefault(one["arm"], {})[one["seed"]] = value
    for name, of in TIMES.items():
        base = found.get(of, {}).get(control, {})
        for arm, by_seed in found.get(of, {}).items():
            if shared := {
                seed: value / base[seed] for seed, value in by_seed.items() if base.get(seed)
            }:
                found.setdefault(name, {})[arm] = shared
    return found
