"""Killed at any place where it touches the disk, and started again, a command leaves what the undisturbed one leaves, file by file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from archgrad import data, run
from archgrad.cli import comparing, main
from archgrad.compare.jobs import execute
from archgrad.retraining.card import CARD
from archgrad.retraining.execute import resume
from archgrad.run import config
from faults.crashing import Command, Whole, whole
from retraining import digits, trained
from studying import Here

QUIET = Console(quiet=True)
SMALL = {
    "data": {"path": "digits"},
    "space": {"name": "nasbench201", "channels": 2, "cells": 1},
    "search": {"epochs": 2, "limit": 20, "batch": 20, "checkpoint_seconds": 1e-9},
    "diagnostics": {"front_points": 1, "gap_images": 20},
    "alphas": {"lr": 0.05},
    "retrain": {"channels": 2, "cells": 1},  # of which the front says the cost
    "seed": 3,
    "threads": 1,
}
METHODS = {
    "darts": {},
    "random": {"random": {"draws": 2}},
    "dartspt": {"dartspt": {"tune": 1}},
    "cdarts": {"cdarts": {"pretrain": 1, "joint": 1, "depth": 1.0}},
}
STUDY = [
    "--methods",
    "darts",
    "--no-controls",
    "--seeds",
    "1",
    "--data",
    "digits",
    "--space.channels",
    "2",
    "--space.cells",
    "1",
]
STUDY += [
    "--search.limit",
    "20",
    "--search.batch",
    "20",
    "--search.epochs",
    "1",
    "--alphas.lr",
    "0.05",
]
STUDY += ["--retrain.channels", "2", "--retrain.cells", "1"]


def search(method: str) -> Command:
    def settings(folder: Path) -> config.SearchConfig:
        return config.read(("", SMALL), ("", {"method": method, "out": folder, **METHODS[method]}))

    def again(folder: Path) -> None:
        if (folder / "config.yaml").exists():
            run.resume(folder, console=QUIET)
        else:
            run.search(settings(folder), console=QUIET)

    return Command(
        lambda folder: run.search(settings(folder), console=QUIET), again, "genotype.json"
    )


def retraining() -> Command:
    def begin(folder: Path) -> None:
        trained(folder, seconds=0, batch=50)

    def again(folder: Path) -> None:
        resume(folder, digits(), seconds=0, report=lambda line: None) if (
            folder / CARD
        ).exists() else begin(folder)

    return Command(begin, again, "weights.safetensors")


def study() -> Command:
    def begin(folder: Path) -> None:
        comparing.execute = partial(execute, start=Here, pause=0)
        assert main(["compare", *STUDY, "--out", str(folder)]) == 0

    return Command(begin, begin, "compare.json")


COMMANDS = {
    **{name: partial(search, name) for name in METHODS},
    "retrain": retraining,
    "compare": study,
}
SAMPLE = {"darts": 3, "random": 1, "dartspt": 1, "cdarts": 1, "retrain": 2, "compare": 1}
"""How many places of each are tried in `make test`."""


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> None:
    """Import and prepare everything before the first fork, so that no fork has to do it again."""
    COMMANDS["darts"]().begin(tmp_path_factory.mktemp("warm") / "run")


@pytest.fixture(params=COMMANDS)
def undisturbed(request, warm, tmp_path, monkeypatch) -> tuple[str, Whole]:
    loaded = digits()
    monkeypatch.setattr(data, "load", lambda path, **given: loaded)  # once, so that no fork has to
    return request.param, whole(COMMANDS[request.param](), tmp_path)


def test_a_kill_at_some_places(undisturbed):
    name, found = undisturbed
    late = found.places.index(f"before replace of {found.command.mark}")
    for place in {late, *Random(name).sample(range(len(found.places)), SAMPLE[name] - 1)}:
        assert found.fault(place) is None


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_kill_at_every_place(undisturbed):
    name, found = undisturbed
    faults = [
        fault for place in range(len(found.places)) if (fault := found.fault(place)) is not None
    ]
    print(f"{name}: {len(found.places)} places, {len(found.places) - len(faults)} equal")
    assert not faults, "\n".join(faults)
