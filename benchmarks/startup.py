"""Measure the start-up cost of commands: CPU seconds of whole processes and their children.

    python benchmarks/startup.py [--repeats 5]

Each command is a process with one thread. Only Python's bytecode is cached, by a run before that
does not count. The table has the CPU seconds (median, smallest and largest of ``--repeats``). The
column `beyond` is the median minus that of bare Python, or of ``import torch``. A search has two
rows: the time to its first step, and all but its epochs, with the pictures, the Pareto front and
the table at its end. PYTHONPATH selects another checkout. Results are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

CELL = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
    "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
SMALL = {
    "data": "digits",
    "space.channels": 4,
    "space.cells": 1,
    "search.limit": 64,
    "search.batch": 32,
    "search.epochs": 2,
    "threads": 1,
}
SEARCH = ["search", *(part for name, value in SMALL.items() for part in (f"--{name}", str(value)))]
COMMAND = ["-m", "archgrad"]
STEPS = """
import sys
from time import process_time
from archgrad.cli import main
try:
    from archgrad.cli import process
    process.compile_nothing()
except ImportError:
    pass
try:
    from archgrad.searching import loop
except ImportError:  # a checkout from before its move
    from archgrad import loop
search = loop.search
def started(*arguments, **options):
    print("first step:", process_time())
    return search(*arguments, **options)
loop.search = started
main(sys.argv[1:])
"""
ROWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("bare Python", "", ("-c", "pass")),
    ("import torch", "", ("-c", "import torch")),
    ("search --sead 3 (refused)", "bare Python", (*COMMAND, "search", "--sead", "3")),
    (
        "search --data nowhere/at/all (refused)",
        "bare Python",
        (*COMMAND, "search", "--data", "nowhere/at/all"),
    ),
    ("search --help", "bare Python", (*COMMAND, "search", "--help")),
    ("query nasbench201 CELL", "bare Python", (*COMMAND, "query", "nasbench201", CELL)),
    ("count DARTS_V2", "bare Python", (*COMMAND, "count", "DARTS_V2")),
    ("show DARTS_V2", "import torch", (*COMMAND, "show", "DARTS_V2")),
    (
        "show DARTS_V2 --channels 16",
        "import torch",
        (*COMMAND, "show", "DARTS_V2", "--channels", "16"),
    ),
    ("search --data digits --dry-run", "import torch", (*COMMAND, *SEARCH, "--dry-run")),
)


def seconds(*arguments: str, where: str) -> tuple[float, str]:
    """Return the CPU seconds of one process, and its output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(os.environ.get("PYTHONPATH") or "src").resolve()),
    }
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=where, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 2), done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def search(where: str, number: int) -> tuple[float, float]:
    """Return the CPU seconds of a search up to its first step, and of all but its epochs."""
    used, shown = seconds("-c", STEPS, *SEARCH, "--out", f"run{number}", where=where)
    start = float(
        next(line for line in shown.splitlines() if line.startswith("first step:")).split(":")[1]
    )
    rows = Path(where, f"run{number}", "metrics.jsonl").read_text().splitlines()
    return start, used - sum(json.loads(row)["cpu_seconds"] for row in rows)


def repeated(measure: Callable[[int], tuple[float, ...]], repeats: int) -> list[list[float]]:
    """Return one list for each number that ``measure`` returns; its first call does not count."""
    return [list(one) for one in zip(*[measure(number) for number in range(repeats + 1)][1:])]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command that count")
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as where:
        found = {
            name: repeated(lambda _, told=told: seconds(*told, where=where)[:1], repeats)[0]
            for name, _, told in ROWS
        }
        against = {name: base for name, base, _ in ROWS}
        names = (
            "search, two epochs of digits: up to its first step",
            "the same: all but its epochs",
        )
        found |= dict(zip(names, repeated(lambda number: search(where, number), repeats)))
        against |= dict.fromkeys(names, "import torch")
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"n = {repeats}; {load}; Python {sys.version.split()[0]}")
    print("| | CPU s, median (min-max) | beyond | |\n|---|---|---|---|")
    for name, values in found.items():
        middle, base = statistics.median(values), against[name]
        more = f"{middle - statistics.median(found[base]):.2f} | {base}" if base else " | "
        print(f"| {name} | {middle:.2f} ({min(values):.2f}-{max(values):.2f}) | {more} |")


if __name__ == "__main__":
    main()
