"""A pipe, a device or a folder where a file is expected is refused at once: nobody waits for a writer that never comes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archgrad import data
from archgrad.cli import main
from archgrad.compare.jobs import Run, StudyFolder, start
from archgrad.observers.interrupts import Interrupted
from archgrad.searching.method import Method
from retraining import stop_at, trained
from running import SMALL, after

pytestmark = pytest.mark.timeout(60)
DIGITS = ["--data", "digits"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A stopped search, and a retraining that is finished."""
    home = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Method, "step", after(1, lambda: os.kill(os.getpid(), 2)))
        assert main(["search", *SMALL, "--out", str(home / "search")]) == 130
    trained(home / "network", epochs=1)
    return home


@pytest.fixture
def home(runs, tmp_path, monkeypatch) -> Path:
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "folder").mkdir()
    return tmp_path


def pipe(path: str) -> str:
    Path(path).unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def refused(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("archgrad: ") and error.count("\n") == 1 and len(error) < 320
    return error


@pytest.mark.parametrize("what", ["pipe", "folder", "/dev/zero"])
@pytest.mark.parametrize("command", [
    ["search", *DIGITS, "--config"], ["estimate", *DIGITS, "--config"], ["latency", "--config"],
    ["compare", *DIGITS, "--out", "study", "--config"], ["retrain", "DARTS_V2", *DIGITS, "--config"],
    ["search", *DIGITS, "--budget", "latency=5ms", "--space", "nasbench201", "--budget.latency"],
])  # fmt: skip
def test_files_that_users_name(home, capsys, command, what):
    assert what in refused(capsys, *command, what)


@pytest.mark.parametrize("what", ["pipe", "/dev/zero"])
@pytest.mark.parametrize(
    "command", [["show"], ["count"], ["query", "nasbench201"], ["estimate"], ["retrain"]]
)
def test_genotypes(home, capsys, command, what):
    assert f"{what} is no plain file" in refused(
        capsys, *command, what, *(DIGITS if command[0] in ("estimate", "retrain") else [])
    )


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint.pt",
        "checkpoint.previous.pt",
        "metrics.jsonl",
        "config.yaml",
        "data.json",
        "lock",
    ],
)
def test_files_of_a_search(home, capsys, name):
    pipe(f"runs/search/{name}")
    more = ["--previous"] if "previous" in name else []
    said = refused(capsys, "resume", "runs/search", *more)
    assert name in said
    if name == "config.yaml":
        assert "runs/search" in refused(capsys, "show", "runs/search")


@pytest.mark.parametrize("name", ["weights.safetensors", "network.json"])
def test_files_of_a_network(home, capsys, name):
    pipe(f"runs/network/{name}")
    assert name in refused(capsys, "evaluate", "runs/network")


@pytest.mark.parametrize("name", ["checkpoint.pt", "metrics.jsonl"])
def test_files_of_a_retraining(home, capsys, name):
    with pytest.raises(Interrupted):
        trained(home / "stopped", stopping=stop_at(2))
    pipe(f"stopped/{name}")
    assert name in refused(capsys, "resume", "stopped")


def test_images(home, capsys):
    """In a class folder, and named to `predict`."""
    for i in range(4):
        place = home / "set" / "ab"[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 9 * i, np.uint8)).save(place)
    pipe("set/a/5.png")
    with pytest.raises(ValueError, match=r"set/a/5\.png.* no plain file"):
        data.load(home / "set", cache=home / "cache", report=lambda line: None)
    assert (
        main(["predict", "runs/network", "pipe"]) == 1
        and "pipe is no plain file" in capsys.readouterr().out
    )
    assert (
        main(["predict", "runs/network", "pipe", "set/b/1.png"]) == 1
        and "1.png" in capsys.readouterr().out
    )


def test_a_log_of_a_study(home):
    one = Run("darts", 1, StudyFolder(home / "study"))
    one.log.parent.mkdir(parents=True)
    pipe(str(one.log))
    with pytest.raises(OSError, match="it is no plain file"):
        start(one)
