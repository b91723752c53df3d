"""Compare predicted and measured latency of the networks that searches under a budget found.

    python benchmarks/latency_run.py RUN [RUN ...] [--beside CDARTS_B=4 --beside CDARTS_B=8]

RUN is a run folder with `latency.json`, the table of its budget, or such a file (`archgrad latency
--out FILE`). All runs must have the same table. The networks are measured in turns with the
networks of the calibration. The median ratio of the new to the old times of the latter is the drift
of the machine, and all measured times are divided by it. ``--beside`` adds a published network of
the same space at a width of its own.
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
        description="Compare predicted and measured latency of found networks."
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folder, or file of a latency table"
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=CHANNELS",
        help="published network and its number of channels",
    )
    given = parser.parse_args()
    table, *others = [
        latency.read_unchecked(run if run.is_file() else run / "latency.json") for run in given.runs
    ]
    if any(other != table for other in others):
        parser.error("the runs have different latency tables: give runs of one table at a time")
    wanted, cost = table.setting, table.cost()
    made, own = archgrad.space(wanted.space, **wanted.spec), wanted.spec["channels"]
    rows = [(f"calibration {i}", net.genotype, own) for i, net in enumerate(table.nets, 1)]
    for run in (run for run in given.runs if run.is_dir()):
        found = json.loads((run / "genotype.json").read_text("utf-8"))["genotype"]
        rows.append((run.resolve().name, Genotype.from_json(found), own))
    for name, _, width in (one.partition("=") for one in given.beside):
        rows.append((name, Genotype.parse(name), int(width)))
    spaces = [made.resized(channels=width) for *_, width in rows]
    measured = latency.measure_networks(
        [space.derive(genotype, **space.spec()) for space, (_, genotype, _) in zip(spaces, rows)],
        wanted,
    )
    drift = median(now / net.measured for net, now in zip(table.nets, measured))
    where = f"{wanted.hardware}, torch {wanted.torch}, {wanted.threads} thread(s)"
    print(f"{where}, {wanted.size}x{wanted.size}, batch {wanted.batch}; drift {drift:.3f}")
    print(
        "| network | channels | multiply-adds, M | predicted, ms | measured / drift, ms | error |"
    )
    print("|---|---|---|---|---|---|")
    for (name, genotype, width), ms, space in zip(rows, measured, spaces):
        macs = costs(space, wanted.size, **space.spec())["macs"].value_of(genotype) / 1e6
        predicted = error = ""  # the table predicts networks of its own width only
        if width == own:
            time = cost.value_of(genotype)
            predicted, error = f"{time:.2f}", f"{100 * (time * drift / ms - 1):+.1f} %"
        print(f"| {name} | {width} | {macs:.1f} | {predicted} | {ms / drift:.2f} | {error} |")


if __name__ == "__main__":
    main()
