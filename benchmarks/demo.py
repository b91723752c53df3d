"""Compare the demo with its controls on the digits, with all networks retrained.

    python benchmarks/demo.py OUT [--seeds 5] [--draws 10]
    python benchmarks/demo.py --recorded    # prints the table of benchmarks/studies/demo.json, without a search

The controls are random search, the average network and the all-3x3 cell. All commands are those of
a user, each on one thread. `archgrad compare` runs the demo's method and random search for an equal
number of epochs. `archgrad retrain` trains the all-3x3 cell with the same seeds, and ``--draws``
uniformly drawn cells, whose average estimates the average network of the space.

Columns: test accuracy on 359 digits in percent (mean, standard deviation, smallest, largest), and
CPU seconds of a search. The same command continues where it stopped. The settings were written down
before the first run (recipes/claims/demo.yaml).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import archgrad
from archgrad.components.select import uniform_genotype

RECIPE = str(Path(__file__).parent.parent / "recipes" / "digits.yaml")
BEST_KNOWN = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
    "|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)


RECORD = Path(__file__).parent / "studies" / "demo.json"
HEAD = "| arm | n | test accuracy on 359 digits, mean, % | standard deviation | smallest | largest | CPU s a search |"
ARMS = {
    "stdarts": "the demo (`stdarts`), seeds 0 to 4",
    "random": "random search, 4 draws, equal epochs, seeds 0 to 4",
    "drawn": "average of cells drawn uniformly",
    "all-3x3": "all-3x3, seeds 0 to 4",
}


def recorded() -> str:
    """Return the table of the recorded runs as Markdown."""
    runs = json.loads(RECORD.read_text("utf-8"))["rows"]
    own = {arm: [run for run in runs if run["arm"] == arm] for arm in ARMS}
    lines = [
        row(
            name,
            [run["test"] for run in own[arm]],
            [run["cpu_seconds"] for run in own[arm] if "cpu_seconds" in run],
        )
        for arm, name in ARMS.items()
    ]
    return "\n".join([HEAD, "|" + "---|" * 7, *lines])


def command(*arguments: str) -> None:
    """Run a command of archgrad."""
    subprocess.run([sys.executable, "-m", "archgrad", *arguments], check=True)


def retrained(genotype: str, seed: int, out: Path) -> float:
    """Return the test accuracy in percent of a cell, trained by the demo's recipe."""
    if not (out / "weights.safetensors").exists():
        if (out / "network.json").exists():
            command("resume", str(out))
        else:
            options = ["--config", RECIPE, "--seed", str(seed), "--threads", "1"]
            command("retrain", genotype, *options, "--out", str(out))
    last = (out / "metrics.jsonl").read_text().splitlines()[-1]
    return 100 * float(json.loads(last)["test_accuracy"])


def row(name: str, tests: Sequence[float], seconds: Sequence[float]) -> str:
    """Return a row of the table."""
    spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
    spent = f"{statistics.median(seconds):.0f}" if seconds else "none"
    numbers = (statistics.mean(tests), spread, min(tests), max(tests))
    columns = " | ".join(f"{number:.2f}" for number in numbers)
    return f"| {name} | {len(tests)} | {columns} | {spent} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", help="folder of the runs")
    parser.add_argument(
        "--recorded", action="store_true", help="print the table of the recorded runs"
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ... of each arm")
    parser.add_argument("--draws", type=int, default=10, help="cells for the average")
    given = parser.parse_args()
    if given.recorded:
        print(recorded())
        return
    if given.out is None:
        parser.error("name the folder OUT, or give --recorded")
    seeds = range(given.seeds)
    study = given.out / "study"
    arguments = ["compare", "--config", RECIPE, "--methods", "stdarts,random"]
    arguments += ["--seeds", ",".join(map(str, seeds)), "--retrain-seeds", "1"]
    command(*arguments, "--out", str(study))
    found = [json.loads(path.read_text()) for path in sorted((study / "summaries").glob("*.json"))]
    print(HEAD + "\n|" + "---|" * 7)
    for arm in ("stdarts", "random"):
        searches = [one for one in found if one["arm"] == arm]
        tests = [run["test"] for one in searches for run in one["retrained"]["runs"]]
        print(row(arm, tests, [one["cpu_seconds"] for one in searches]))
    groups = archgrad.space("nasbench201").groups
    drawn = [str(uniform_genotype(groups, 0, "benchmarks/demo", k)) for k in range(given.draws)]
    tests = [retrained(cell, k, given.out / f"drawn-{k}") for k, cell in enumerate(drawn)]
    print(row("average of drawn cells", tests, []))
    tests = [retrained(BEST_KNOWN, seed, given.out / f"all-3x3-{seed}") for seed in seeds]
    print(row("all-3x3", tests, []))


if __name__ == "__main__":
    main()
