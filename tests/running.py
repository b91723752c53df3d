"""The smallest searches that are still real: digits, NAS-Bench-201 of two channels, a few steps of twenty images."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SMALL = [
    "--data",
    "digits",
    "--space",
    "nasbench201",
    "--space.channels",
    "2",
    "--space.cells",
    "1",
    "--search.limit",
    "60",
]
SMALL += ["--search.batch", "20", "--search.epochs", "3", "--seed", "3", "--threads", "1"]
SMALL += ["--diagnostics.front-points", "2", "--alphas.lr", "0.05"]
STEPS = 3  # of one epoch


def outcome(folder: Path) -> dict[str, Any]:
    """Return the content of a run folder on which two equal runs must agree."""
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "alphas": content["alphas"],
        "nets": content["nets"],
        "optimizers": content["optimizers"],
        "genotype": (folder / "genotype.json").read_text(),
        "metrics": [
            {name: value for name, value in row.items() if name not in ("seconds", "cpu_seconds")}
            for row in rows
        ],
        "config": (folder / "config.yaml").read_text(),
    }


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def after(steps: int, act: Callable[[], Any]) -> Callable[..., Any]:
    """Return a `Method.step` that calls ``act`` after ``steps`` steps, before an observer sees the last one."""
    from archgrad.searching.method import Method

    real, done = Method.step, [0]

    def step(*arguments: Any) -> Any:
        values = real(*arguments)
        done[0] += 1
        if done[0] == steps:
            act()
        return values

    return step


def dying(place: str, arguments: list[str]) -> int:
    """Runs a command in this process, which dies by SIGKILL after so many steps; "line": behind a metrics line; "0": never."""
    from archgrad.cli import main
    from archgrad.observers import recording
    from archgrad.searching.method import Method

    def die(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if place == "line":
        recording.Checkpoints.on_epoch = die  # type: ignore[method-assign]
    elif int(place):
        Method.step = after(int(place), die)  # type: ignore[method-assign]
    return main(arguments)


def fresh(place: int | str, *arguments: str) -> int:
    """Return the exit code of `dying` in a new process, which takes seconds to start."""
    return subprocess.run(
        [sys.executable, __file__, str(place), *arguments], stdout=subprocess.DEVNULL, timeout=300
    ).returncode


def forked(place: int | str, *arguments: str) -> int:
    """The exit code of `dying` in a fork of this process."""
    return code_of_fork(lambda: dying(str(place), [*arguments]))


def code_of_fork(work: Callable[[], int]) -> int:
    """Return the exit code of a fork of this process, the result of ``work``. The fork prints nothing except a traceback."""
    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":  # PLACE ARGUMENTS...
    sys.exit(dying(sys.argv[1], sys.argv[2:]))
