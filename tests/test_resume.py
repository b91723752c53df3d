"""Killed anywhere and resumed in a fresh process, a search ends bit-identical to one that was never stopped."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from archgrad.cli import main
from archgrad.searching.method import Method
from running import SMALL, STEPS, after, forked, fresh, outcome, same

EVERY_STEP = ["--search.checkpoint-seconds", "1e-9"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["search", *SMALL, *EVERY_STEP, "--out", str(folder)]) == 0
    return outcome(folder)


@pytest.mark.parametrize("child", [forked, pytest.param(fresh, marks=pytest.mark.slow)])
def test_a_search_killed_three_times_ends_as_the_whole_one(whole, tmp_path, child):
    """The kills come at a random step of each epoch, when the checkpoint is one step old. The last process is always a new one."""
    folder, draw = str(tmp_path / "run"), random.Random()
    steps = [draw.randint(2, STEPS) for _ in range(3)]
    assert child(steps[0], "search", *SMALL, *EVERY_STEP, "--out", folder) == -signal.SIGKILL
    for step in steps[1:]:
        assert child(step, "resume", folder) == -signal.SIGKILL
    assert fresh(0, "resume", folder) == 0
    assert same(outcome(Path(folder)), whole), steps


def test_a_kill_between_metrics_and_checkpoint(whole, tmp_path):
    """The line of the epoch is on the disk, the checkpoint is older: resume writes that line once."""
    folder = tmp_path / "run"
    assert forked("line", "search", *SMALL, *EVERY_STEP, "--out", str(folder)) == -signal.SIGKILL
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    assert main(["resume", str(folder)]) == 0
    assert same(outcome(folder), whole)


def test_a_kill_before_the_first_checkpoint(whole, tmp_path):
    folder = str(tmp_path / "run")
    assert forked(1, "search", *SMALL, *EVERY_STEP, "--out", folder) == -signal.SIGKILL
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert main(["resume", folder]) == 0
    assert same(outcome(tmp_path / "run"), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_resumed_search_ends_as_the_whole_one(
    whole, tmp_path, monkeypatch, capsys, number
):
    """The step in progress ends, the state is saved, and the output names the command that continues, also without a checkpoint in every step."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Method, "step", after(STEPS + 2, lambda: os.kill(os.getpid(), number)))
        assert main(["search", *SMALL, *EVERY_STEP, "--out", str(folder)]) == 130
    assert f"archgrad resume {folder}" in capsys.readouterr().out.splitlines()[-1]
    assert not (folder / "genotype.json").exists()
    assert main(["resume", str(folder)]) == 0
    assert same(outcome(folder), whole)
