"""Measure how well a latency table predicts networks that it was not calibrated on.

    python benchmarks/latency.py --space mbconv [--size 32] [--channels C] [--cells N]
        [--nets 12] [--unseen 20] [--seed 0]

It measures a table on one thread of the processor, as `archgrad latency` does. Then it measures
``--unseen`` random derived networks that are not in the calibration, in turns with the networks of
the calibration. The median ratio of the new to the old times of the latter is the drift of the
machine.

It prints the predicted and the measured time of each network in ms. It also prints relative errors
(mean, median, worst, number within 10 %), R2 and Spearman's rank correlation of three predictions:
the table, the table times the drift, and a line in the multiply-adds, fitted to the calibration
networks. The result is in docs/costs.md.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

import torch
from scipy.stats import spearmanr

import archgrad
from archgrad import latency
from archgrad.components.select import uniform_genotype
from archgrad.cost.cost import r_squared
from archgrad.cost.counting import costs
from archgrad.data import stem_for
from archgrad.latency.measuring import fit_line
from archgrad.spaces import SPACES


def judged(what: str, predicted: list[float], measured: list[float]) -> str:
    """Return a line with the errors and correlations of a prediction."""
    errors = torch.tensor(
        [abs(one - true) / true for one, true in zip(predicted, measured)], dtype=torch.float64
    )
    found = r_squared(
        *(torch.tensor(values, dtype=torch.float64) for values in (measured, predicted))
    )
    sizes = {"mean": errors.mean(), "median": errors.median(), "worst": errors.max()}
    spread = ", ".join(f"{name} {100 * size:.1f} %" for name, size in sizes.items())
    near, order = int((errors <= 0.1).sum()), spearmanr(predicted, measured).statistic
    return (
        f"{what}: n {len(measured)}, error {spread}, {near} within 10 %, "
        f"R2 {found:.3f}, Spearman {order:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compare predicted and measured latency of networks outside the calibration."
    )
    parser.add_argument("--space", default="mbconv", help="name of the space")
    for name, default in (
        ("--size", 32),
        ("--channels", None),
        ("--cells", None),
        ("--nets", 12),
        ("--unseen", 20),
        ("--seed", 0),
    ):
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    made = archgrad.space(given.space)
    options: dict[str, Any] = {
        name: value for name in ("channels", "cells") if (value := getattr(given, name)) is not None
    }
    options |= (
        {"stem": stem_for(given.size, SPACES[given.space].stems)} if "stem" in made.spec() else {}
    )
    wanted = latency.setting(made, given.size, threads=1, **options)
    table = latency.measure(made, wanted, nets=given.nets, seed=given.seed)
    cost, macs = table.cost(), costs(made, given.size, **options)["macs"]
    seen = {net.genotype for net in table.nets}
    drawn = (
        uniform_genotype(made.groups, given.seed, "unseen", i) for i in range(10 * given.unseen)
    )
    unseen = list(dict.fromkeys(genotype for genotype in drawn if genotype not in seen))[
        : given.unseen
    ]
    measured = latency.measure_networks(
        [made.derive(one, **options) for one in (*unseen, *(net.genotype for net in table.nets))],
        wanted,
    )
    drift = median(now / net.measured for net, now in zip(table.nets, measured[len(unseen) :]))
    del measured[len(unseen) :]
    place = f"{given.space}, {given.size}x{given.size}, {options}, batch 1, 1 thread"
    print(f"{wanted.hardware}, torch {wanted.torch}, {table.date}: {place}")
    fit = f"{table.base:.3f} ms + {table.scale:.3f} x sum of ops, R2 {table.r2:.3f}"
    print(f"calibrated on {len(seen)}: {fit}, worst {100 * table.worst:.1f} %")
    predicted = [cost.value_of(genotype) for genotype in unseen]
    for one, true in sorted(zip(predicted, measured), key=lambda pair: pair[1]):
        print(
            f"  predicted {one:8.2f}   measured {true:8.2f}   {100 * (one - true) / true:+6.1f} %"
        )
    base, scale = fit_line(
        [macs.sum_over_ops(net.genotype) for net in table.nets],
        [net.measured for net in table.nets],
    )
    print(judged("latency table", predicted, measured))
    drifted = [drift * one for one in predicted]
    print(judged(f"latency table times the drift of {drift:.3f}", drifted, measured))
    by_macs = [drift * (base + scale * macs.sum_over_ops(genotype)) for genotype in unseen]
    print(judged("a line in multiply-adds times the drift", by_macs, measured))


if __name__ == "__main__":
    main()
