"""The demo beside its controls: searches by its recipe, random search, the average network and the all-3x3 cell, all retrained on the digits.

    python benchmarks/demo.py OUT [--seeds 5] [--draws 10]
    python benchmarks/demo.py --recorded    # prints the table of benchmarks/studies/demo.json, without a search

Everything runs by commands that a user has, one thread each: `archgrad compare` for the demo's method and random search at an equal number of
epochs, `archgrad retrain` for the all-3x3 cell with the same seeds and for ``--draws`` cells that are drawn uniformly. The average of the drawn
cells estimates the average network of the space. Columns: test accuracy on 359 digits in percent, mean, standard deviation, smallest and
largest; CPU seconds of a search. The same command goes on where it stopped. The settings were frozen before (recipes/claims/demo.yaml).
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
from archgrad.components.select import uniform

RECIPE = str(Path(__file__).parent.parent / "recipes" / "digits.yaml")
BEST_KNOWN = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


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
    subprocess.run([sys.executable, "-m", "archgrad", *arguments], check=True)


def retrained(genotype: str, seed: int, out: Path) -> float:
    """Test accuracy in percent of a cell, trained by the demo's recipe."""
    if not (out / "weights.safetensors").exists():
        begun = (out / "network.json").exists()
        fresh = [
            "retrain",
            genotype,
            "--config",
            RECIPE,
            "--seed",
            str(seed),
            "--threads",
            "1",
            "--out",
            str(out),
        ]
        command(*(["resume", str(out)] if begun else fresh))
    return 100 * float(
        json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"]
    )


def row(name: str, tests: Sequence[float], seconds: Sequence[float]) -> str:
    spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
    spent = f"{statistics.median(seconds):.0f}" if seconds else "none"
    return f"| {name} | {len(tests)} | {statistics.mean(tests):.2f} | {spread:.2f} | {min(tests):.2f} | {max(tests):.2f} | {spent} |"


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
    listed = ",".join(map(str, seeds))
    command(
        "compare",
        "--config",
        RECIPE,
        "--methods",
        "stdarts,random",
        "--seeds",
        listed,
        "--retrain-seeds",
        "1",
        "--out",
        str(study),
    )
    found = [json.loads(path.read_text()) for path in sorted((study / "summaries").glob("*.json"))]
    print(HEAD + "\n|" + "---|" * 7)
    for arm in ("stdarts", "random"):
        own = [one for one in found if one["arm"] == arm]
        print(
            row(
                arm,
                [run["test"] for one in own for run in one["retrained"]["runs"]],
                [one["cpu_seconds"] for one in own],
            )
        )
    groups = archgrad.space("nasbench201").groups
    drawn = [str(uniform(groups, 0, "benchmarks/demo", k)) for k in range(given.draws)]
    print(
        row(
            "average of drawn cells",
            [retrained(cell, k, given.out / f"drawn-{k}") for k, cell in enumerate(drawn)],
            [],
        )
    )
    print(
        row(
            "all-3x3",
            [retrained(BEST_KNOWN, seed, given.out / f"all-3x3-{seed}") for seed in seeds],
            [],
        )
    )


if __name__ == "__main__":
    main()
