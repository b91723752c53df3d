"""The networks that searches under a latency budget found: predicted and measured, beside published networks of other widths.

    python benchmarks/latency_run.py RUN [RUN ...] [--beside CDARTS_B=4 --beside CDARTS_B=8]

A RUN holds `latency.json`, the table that its budget was asked of, the same in all; instead of a run, such a file (`archgrad latency --out
FILE`). All networks take turns with those that the table was calibrated on: where the machine itself has become slower or faster since, the
median of their ratios (drift) says by how much, and what is measured is divided by it. NAME=CHANNELS is a known network of the same space at
that width.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

import archgrad
from archgrad import latency
from archgrad.arch.genotype import Genotype
from archgrad.cost.counting import costs


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Latency of what was found, predicted and measured."
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=CHANNELS")
    given = parser.parse_args()
    table, *others = [
        latency.recorded(run if run.is_file() else run / "latency.json") for run in given.runs
    ]
    if any(other != table for other in others):
        parser.error(
            "the runs were searched under different tables: give those of one table at a time"
        )
    wanted, cost = table.setting, table.cost()
    made, own = archgrad.space(wanted.space, **wanted.spec), wanted.spec["channels"]
    asked = [(f"calibration {i}", net.genotype, own) for i, net in enumerate(table.nets, 1)]
    for run in (run for run in given.runs if run.is_dir()):
        found = json.loads((run / "genotype.json").read_text("utf-8"))["genotype"]
        asked.append((run.resolve().name, Genotype.from_json(found), own))
    asked += [
        (name, Genotype.parse(name), int(width))
        for name, _, width in (one.partition("=") for one in given.beside)
    ]
    spaces = [made.resized(channels=width) for *_, width in asked]
    measured = latency.networks_ms(
        [space.derive(genotype, **space.spec()) for space, (_, genotype, _) in zip(spaces, asked)],
        wanted,
    )
    drift = median(now / net.measured for net, now in zip(table.nets, measured))
    where = f"{wanted.hardware}, torch {wanted.torch}, {wanted.threads} thread(s)"
    print(f"{where}, {wanted.size}x{wanted.size}, batch {wanted.batch}; drift {drift:.3f}")
    print(
        "| network | channels | multiply-adds, M | predicted, ms | measured / drift, ms | error |"
    )
    print("|---|---|---|---|---|---|")
    for (name, genotype, width), ms, space in zip(asked, measured, spaces):
        macs = costs(space, wanted.size, **space.spec())["macs"].of(genotype) / 1e6
        predicted = cost.of(genotype)
        said, error = (
            (f"{predicted:.2f}", f"{100 * (predicted * drift / ms - 1):+.1f} %")
            if width == own
            else ("", "")
        )
        print(f"| {name} | {width} | {macs:.1f} | {said} | {ms / drift:.2f} | {error} |")


if __name__ == "__main__":
    main()
