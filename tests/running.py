"""The smallest searches that are still real: digits, NAS-Bench-201 of two channels, a few steps of twenty images."""

from __future__ import annotations

import json
import os
import signal
import sys
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
SMALL += [
    "--search.batch",
    "20",
    "--search.epochs",
    "3",
    "--seed",
    "3",
    "--threads",
    "1",
    "--alphas.lr",
    "0.05",
]
STEPS = 3  # of one epoch


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run leaves and two equal runs must agree on."""
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
    """Equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def after(steps: int, act: Callable[[], Any]) -> Callable[..., Any]:
    """A `Method.step` that acts once ``steps`` steps are done, before anybody hears of the last."""
    from archgrad.searching.method import Method

    real, done = Method.step, [0]

    def step(*arguments: Any) -> Any:
        values = real(*arguments)
        done[0] += 1
        if done[0] == steps:
            act()
        return values

    return step


if (
    __name__ == "__main__"
):  # STEPS ARGUMENTS...: a process of its own that dies by SIGKILL after so many steps; "line": behind a metrics line
    from archgrad.cli import main
    from archgrad.observers import recording
    from archgrad.searching.method import Method

    def die(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if sys.argv[1] == "line":
        recording.Checkpoints.on_epoch = die  # type: ignore[method-assign]
    elif int(sys.argv[1]):
        Method.step = after(int(sys.argv[1]), die)  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
