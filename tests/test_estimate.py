"""`archgrad estimate`: a few steps of everything that is to come, in a process of its own; and what would fit, by numbers made up."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from archgrad.arch.passes import Batch
from archgrad.cli import main
from archgrad.cli.estimating import lines
from archgrad.cost import process_memory
from archgrad.run import config, estimating
from archgrad.run.estimating import StepMemory, smaller
from archgrad.searching import progress
from archgrad.searching.duration import Costs
from running import SMALL

MB = 10**6


def settings(method, **search):
    size = {
        "space": {"name": "nasbench201", "channels": 4, "cells": 1},
        "search": {"limit": 40, "batch": 16, **search},
    }
    return config.read(("test", {"data": "digits", "method": method, "threads": 1, **size}))


@pytest.mark.parametrize("method, epochs, kinds", [
    ("darts", 3, {"search steps", "discretisation gap", "front"}),
    ("cdarts", 4, {"warm-up steps", "joint steps", "discretisation gap", "front"}),
    ("random", 4, {f"weights only steps{end}" for end in ("", *(f" in supernet {k}" for k in (2, 3, 4)))} | {"draws"}),
    ("rsws", 3, {"weights only steps", "finalisation"}),
])  # fmt: skip
def test_every_kind_of_step_is_tried_and_nothing_is_left_unknown(method, epochs, kinds):
    found = estimating.search(settings(method, epochs=epochs))
    assert kinds <= found["parts"].keys() and found["not_known"] == [] and found["epochs"] == epochs
    assert found["seconds"] == pytest.approx(sum(found["parts"].values())) and found["seconds"] > 0
    steps = sum(seconds for kind, seconds in found["parts"].items() if " steps" in kind)
    assert found["seconds_an_epoch"] == pytest.approx(steps / epochs)
    assert found["peak_bytes"] > 50 * MB and found["fits"] and found["would_fit"] == {}


def test_the_command_writes_nothing_and_refuses_as_search_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["estimate", *SMALL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["what"] == "search"
        and found["epochs"] == 3
        and found["batch"] == 20
        and os.listdir(tmp_path) == []
    )
    for arguments, message in [
        (["--data", "digits", "--search.epochs", "0"], "search.epochs"),
        (["--data", "nowhere"], "no such file or folder: nowhere"),
        ([], "no images are named"),
        (
            ["--data", "digits", "--space", "darts", "--space.cells", "2"],
            "--space.cells must be at least 3",
        ),
        (
            ["DARTS_V2", "--data", "digits", "--search.epochs", "3"],
            "--search.epochs is a setting of a search, but DARTS_V2 is to be retrained",
        ),
        (
            ["DARTS_V2", "--data", "digits", "--data.share", "0.3"],
            "--data.share is a setting of a search",
        ),
    ]:
        assert main(["estimate", *arguments]) == 2
        assert message in capsys.readouterr().err, arguments


def test_it_gives_signs_of_life_beside_its_answer(monkeypatch, capsys):
    """A step of a large supernet takes minutes, and programs read the answer."""
    life, lives = progress.signs_of_life, []
    answer = estimating.answer(
        "search", Costs().remaining([]), 3, " steps", StepMemory(0, None, "cpu", 20), {}
    )
    monkeypatch.setattr(
        progress,
        "signs_of_life",
        lambda console, place: lives.append((console.stderr, place)) or life(console, place),
    )
    monkeypatch.setattr(estimating, "estimate_in_process", lambda what, sources: answer)
    assert main(["estimate", *SMALL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer and lives == [
        (True, "running a few steps")
    ]


def test_a_retraining_is_estimated_with_its_tests():
    from archgrad.run import preparing_training

    own = {
        "retrain": {
            "preset": "quick",
            "epochs": 4,
            "evaluate_every": 2,
            "channels": 2,
            "cells": 3,
            "limit": 100,
            "batch": 32,
        }
    }
    found = estimating.retrain(
        *preparing_training.card_and_images(
            "DARTS_V2", [("", {"data": {"path": "digits"}, "threads": 1, **own})]
        )
    )
    assert (
        found["parts"].keys() == {"steps", "tests"}
        and found["what"] == "retrain"
        and found["batch"] == 32
    )
    assert found["seconds_an_epoch"] == pytest.approx(found["parts"]["steps"] / 4)


def test_the_proposed_batch_or_width_fits_the_memory():
    """Steps take 800 MB beside the 200 there were; of 700 they may take 0.9 x 700 - 200 = 430."""
    tried = StepMemory(200 * MB, 700 * MB, "cpu", 64, 1000 * MB)
    assert tried.available_share() == pytest.approx(430 / 800)
    assert smaller(tried.available_share(), 64, 2, 1) == 34
    assert smaller(tried.available_share(), 16, 1, 1) == 8
    assert (
        smaller(tried.available_share(), 1, 16, -1) == 2 and smaller(0.2, 1, 16, -1) == 8
    )  # a divisor of 16 channels
    assert (
        smaller(0.01, 64, 2, 1) is None
        and smaller(-1.0, 64, 2, 1) is None
        and smaller(0.01, 1, 16, -1) is None
    )
    assert (
        StepMemory(200, 1200, "cpu", 64, 1000).available_share() > 1
        and StepMemory(200, None, "cpu", 64, 1000).available_share() > 1
    )


def test_a_batch_that_would_not_fit_is_not_tried(monkeypatch):
    """Memory grows by 10 MB an image from 100: of 64 images it would take 740. With room for 400 no more than 16 of them are."""
    sizes = []

    @contextmanager
    def peak(device):
        found = process_memory.Peak()
        yield found
        found.process = (100 + 10 * sizes[-1]) * MB

    monkeypatch.setattr(process_memory, "peak_memory", peak)
    images = Batch(torch.zeros(64, 1, 8, 8), torch.zeros(64, dtype=torch.long), torch.arange(64))
    tried, costs = StepMemory(100 * MB, 400 * MB, "cpu", 64), Costs()
    tried.time_steps(
        costs,
        "search steps",
        lambda train, val: sizes.append(len(train.labels)),
        lambda: (images, images),
    )
    assert sizes == [8, 16] or sizes == [8, 16, 32]
    assert not tried.ran_whole_batches and tried.peak == 740 * MB and "search steps" in costs.each
    assert tried.to_json()["fits"] is False
    sizes.clear()
    tried = StepMemory(100 * MB, 4000 * MB, "cpu", 64)
    tried.time_steps(
        Costs(),
        "search steps",
        lambda train, val: sizes.append(len(train.labels)),
        lambda: (images, images),
    )
    assert sizes == [8, 16, 32, 64, 64, 64] and tried.ran_whole_batches and tried.peak == 740 * MB
    sizes.clear()
    seconds = iter(
        range(0, 1000, 25)
    )  # each step takes 25: one of an eighth of the batch says enough
    monkeypatch.setattr(estimating, "monotonic", lambda: next(seconds))
    slow, costs = StepMemory(100 * MB, 4000 * MB, "cpu", 64), Costs()
    slow.time_steps(
        costs,
        "search steps",
        lambda train, val: sizes.append(len(train.labels)),
        lambda: (images, images),
    )
    assert sizes == [8] and not slow.ran_whole_batches and slow.peak == 740 * MB


def test_the_output_names_the_batch_that_would_fit():
    tried = StepMemory(200 * MB, 700 * MB, "cpu", 64, 1000 * MB, ran_whole_batches=False)
    found = {"what": "search", "seconds": 7200.0, "seconds_an_epoch": 100.0, "epochs": 50, "parts": {"search steps": 7000.0, "front": 1.0},
             "not_known": ["draws"], **tried.to_json(), "would_fit": {"--search.batch": 34, "--space.channels": 8}}  # fmt: skip
    time, parts, memory, fits = lines(found)
    assert (
        time == "time: about 2.0 h for the search of 50 epochs, besides its start "
        "(imports and reading the images); the steps of one epoch take 100 s"
    )
    assert parts == "parts: search steps 117 min; unknown: draws"
    assert "1.0 GB (extrapolated from smaller batches" in memory
    assert "; 700.0 MB are available" in memory
    assert (
        fits
        == "that does not fit; any of these would: --search.batch 34, --space.channels 8 (about)"
    )


def test_room_is_what_the_machine_has_and_the_group_allows(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert process_memory.available_bytes(tmp_path) is None
    write("proc/self/status", "Name:\tpython\nVmRSS:\t   1000 kB\n")
    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert process_memory.available_bytes(tmp_path) == 5000 * 1024
    write("sys/fs/cgroup/memory.max", "max\n")
    assert process_memory.available_bytes(tmp_path) == 5000 * 1024
    write("sys/fs/cgroup/memory.max", f"{3000 * 1024}\n")
    write("sys/fs/cgroup/memory.current", f"{2500 * 1024}\n")
    write("sys/fs/cgroup/memory.stat", f"file 12\ninactive_file {500 * 1024}\n")
    assert process_memory.available_bytes(tmp_path) == (3000 - 2500 + 500 + 1000) * 1024
    assert Path("/proc/self/status").exists() is False or process_memory.used_bytes() > 20 * MB


def test_the_peak_memory_is_that_of_the_block():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux forgets an earlier peak")
    with process_memory.peak_memory(torch.device("cpu")) as high:
        torch.ones(50 * MB // 4).sum()
    with process_memory.peak_memory(torch.device("cpu")) as low:
        pass
    assert high.process - low.process > 30 * MB and low.gpu == 0
