"""A module of the user's own on the command line: every command takes it by its import path, also in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from archgrad import plugins
from archgrad.arch.genotype import Genotype
from archgrad.cli import comparing, main
from archgrad.compare.jobs import execute
from archgrad.cost.counting import _Flops
from archgrad.latency import measuring
from archgrad.retraining.card import load, read_card
from archgrad.run.folder import RunFolder
from archgrad.spaces import SPACES, space
from running import forked, outcome, same
from studying import Here

NETS = """
import torch
from torch import nn

import archgrad

__version__ = "1.2"


def conv(kernel):
    return nn.Sequential(nn.Conv2d(4, 4, kernel, padding=kernel // 2), nn.BatchNorm2d(4), nn.ReLU())


class Net(nn.Module):
    def __init__(self, classes=10, in_channels=3, size=32):
        super().__init__()
        self.rates = torch.linspace(0, 0.1, 2).tolist()  # reads numbers, which the meta device has not
        self.stem = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.block = archgrad.Choice({"conv1": conv(1), "conv5": conv(5), "skip": nn.Identity()})
        self.deep = archgrad.Repeat(lambda: conv(3), least=0, most=2)
        self.merge = archgrad.InputChoice(inputs=3, keep=2)
        self.head = nn.Linear(4 * size * size, classes)

    def forward(self, x):
        first = self.stem(x)
        second = self.block(first)
        third = self.deep(second)
        return self.head(self.merge(first, second, third).view(len(x), -1))


class Ten(Net):
    def __init__(self, in_channels=3, size=32):
        super().__init__(12, in_channels, size)


class Plain(nn.Linear):
    def __init__(self, classes=10):
        super().__init__(4, classes)


def broken(classes):
    raise RuntimeError("no luck")


def needy(width, classes=10):
    return Net(classes)


made = Net()
"""
NAME = "ownpkg.nets:Net"
SMALL = ["--data", "digits", "--space", NAME, "--search.limit", "60", "--search.batch", "20"]
SMALL += ["--search.epochs", "2", "--threads", "1", "--alphas.lr", "0.05"]
SMALL += ["--diagnostics.front-points", "2"]
SEARCH = ["search", *SMALL, "--method", "stdarts+sddarts", "--budget", "macs=80%", "--seed", "3"]
QUICK = ["--retrain.epochs", "1", "--retrain.limit", "40", "--retrain.batch", "20"]
GENOTYPE = "block=conv5, deep=depth1, merge=input0+input2"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with the package, in which the commands run; afterwards this process has forgotten it."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "ownpkg").mkdir()
    (folder / "ownpkg" / "__init__.py").write_text("")
    (folder / "ownpkg" / "nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "path", [*sys.path])
        patched.setattr(plugins, "_loaded", {})
        patched.chdir(folder)
        yield folder
    for table in (SPACES, sys.modules):
        for name in [name for name in table if name.partition(".")[0] == "ownpkg"]:
            del table[name]


@pytest.fixture(scope="module")
def run(here):
    """A finished search with its retrained network."""
    assert main([*SEARCH, "--out", "whole"]) == 0
    assert main(["retrain", "whole", *QUICK]) == 0
    return here / "whole"


def refused(capsys, *arguments: str) -> str:
    assert main([*arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("archgrad: ") and error.count("\n") == 1
    return error


def test_the_record_names_the_module_and_the_images_set_its_arguments(run):
    recorded = yaml.safe_load((run / "config.yaml").read_text())
    assert recorded["plugins"] == ["ownpkg.nets==1.2"]
    assert read_card(run / "retrain").plugins == ("ownpkg.nets==1.2",)
    assert recorded["space"] == {
        "name": NAME, "classes": 10, "in_channels": 1, "size": 8, "discrete": False,
    }  # fmt: skip
    assert set(RunFolder(run).read_genotype().primitives(space(NAME).groups)) == {
        "block",
        "deep",
        "merge",
    }


def test_a_killed_search_is_finished_or_goes_on_bit_for_bit(run, here):
    assert forked(4, *SEARCH, "--out", "killed") == -9
    assert not (here / "killed" / "genotype.json").exists()
    assert main(["finish", "killed"]) == 0
    assert RunFolder(here / "killed").place_of_finish()
    assert main(["resume", "killed", "--reopen"]) == 0
    assert same(outcome(here / "killed"), outcome(run))


def test_the_trained_network_is_read_back(run, capsys):
    derived, card = load(run)
    assert card.spec["discrete"] and card.settings.drop_path == 0 and card.settings.channels is None
    inside = {type(module).__module__.partition(".")[0] for module in derived.network.net.modules()}
    assert "archgrad" not in inside
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    rows = [
        json.loads(line) for line in (run / "retrain" / "metrics.jsonl").read_text().splitlines()
    ]
    assert accuracy == rows[-1]["test_accuracy"]


def test_predict(run, here, capsys):
    from PIL import Image

    Image.new("L", (8, 8), 99).save(here / "one.png")
    capsys.readouterr()
    assert main(["predict", str(run), "one.png", "--json"]) == 0
    assert "one.png" in capsys.readouterr().out


def test_derive_count_and_show(run, capsys):
    assert main(["derive", str(run), "--budget", "macs=50%", "--out", "half.json"]) == 0
    capsys.readouterr()
    assert main(["count", "half.json", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    found = json.loads(Path("half.json").read_text())
    assert counts["macs"] == found["budget"][0]["found"] <= found["budget"][0]["budget"]
    assert main(["show", "half.json", "--svg", "half.svg"]) == 0
    shown = capsys.readouterr().out
    assert "choice" in shown and "merge" in shown and found["text"] in shown
    assert main(["show", GENOTYPE, "--space", NAME, "--size", "8", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["text"] == GENOTYPE and shown["derived"]["channels"] is None
    assert Path("half.svg").exists()


def test_a_genotype_is_retrained(here):
    words = ["--space", NAME, "--data", "digits", *QUICK, "--out", "alone"]
    assert main(["retrain", GENOTYPE, *words]) == 0
    assert str(read_card(here / "alone").genotype) == GENOTYPE


def by_macs(call, device, threads, seconds):
    with _Flops() as counter:
        call()
    return counter.flops / 2 / 1e6


def test_latency_is_measured_and_limits_a_search(here, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "milliseconds", by_macs)
    where = ["--size", "8", "--in-channels", "1", "--nets", "10", "--out", "latency.json"]
    assert main(["latency", "--space", NAME, *where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scale"] == pytest.approx(1) and found["worst"] < 1e-6
    limited = ["--budget", "latency=60%", "--budget.latency", "latency.json", "--out", "quick"]
    assert main(["search", *SMALL, *limited]) == 0
    (within,) = RunFolder(here / "quick").read_budget_results()
    assert within.cost == "latency" and within.found <= within.budget


def test_two_arms_are_compared(here, monkeypatch, capsys):
    monkeypatch.setattr(comparing, "execute", partial(execute, start=Here, pause=0))
    words = ["--methods", "darts,random", "--seeds", "1", *SMALL, "--random.draws", "1"]
    assert main(["compare", "--out", "study", *words]) == 0
    assert len(list((here / "study" / "summaries").iterdir())) == 2
    assert yaml.safe_load((here / "study" / "study.yaml").read_text())["plugins"] == [
        "ownpkg.nets==1.2"
    ]
    assert main(["compare", "--out", "study", *words]) == 0  # finished runs fit the settings


def test_all_diagnostics_of_a_search(here):
    more = ["sharpness", "curvature", "ranking"]
    flags = [f"--diagnostics.{name}" for name in more]
    flags += ["--diagnostics.ranking-architectures", "2"]
    assert main(["search", *SMALL, *flags, "--out", "measured"]) == 0
    row = RunFolder(here / "measured").read_history()[-1]
    assert all(any(name in key for key in row) for name in ("sharpness", "eigenvalue"))


def test_a_new_process_finds_the_module_in_its_folder(run, here):
    path = os.environ | {"PYTHONPATH": str(Path(plugins.__file__).parents[1])}
    words = [sys.executable, "-P", "-m", "archgrad", "show", str(run)]
    done = subprocess.run(words, capture_output=True, text=True, env=path, cwd=here)
    assert done.returncode == 0 and "merge" in done.stdout


def test_a_missing_module_is_named(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(run.parent)])
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_missing", {})
    for table in (SPACES, sys.modules):
        for name in [name for name in table if name.partition(".")[0] == "ownpkg"]:
            monkeypatch.delitem(table, name)
    for command in ("show", "resume", "evaluate"):
        error = refused(capsys, command, str(run))
        assert "ownpkg.nets is missing" in error and "folder that holds it" in error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.at:All", "module nowhere.at is missing"),
        ("ownpkg.nets:Nett", "did you mean 'Net'"),
        ("ownpkg:Net", "ownpkg has no class and no function"),
        ("ownpkg.nets:", "package.module:Name"),
        ("ownpkg.nets:made", "a class or function that makes a module"),
        ("ownpkg.nets:Plain", "has no choice"),
        ("ownpkg.nets:broken", "no luck, nets.py, line"),
        ("ownpkg.nets:needy", "missing 1 required positional argument: 'width'"),
        ("ownpkg.nets:Ten", "returns (1, 12) for one image, and digits has 10 classes"),
    ],
)  # fmt: skip
def test_a_wrong_module_is_one_line(here, capsys, given, said):
    assert said in refused(capsys, "search", "--space", given, "--data", "digits", "--out", "bad")
    assert not Path("bad").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--space.channels", "8"], "unknown option 'channels'"),
        (["--space.cells", "2"], "unknown option 'cells'"),
        (["--retrain.channels", "8"], "retrain.channels"),
        (["--retrain.cells", "2"], "retrain.cells"),
        (["--retrain.drop-path", "0.1"], "retrain.drop_path"),
        (["--retrain.preset", "nasbench201"], "retrain.preset: nasbench201"),
        (["--space.classes", "3"], "space.classes is 3, but digits has 10"),
    ],
)
def test_settings_of_library_spaces_are_refused_by_name(here, capsys, flags, said):
    assert said in refused(capsys, "search", *SMALL, *flags, "--out", "bad")
    assert not Path("bad").exists()


def test_a_genotype_of_a_module_names_no_space(here, capsys):
    assert "--space package.module:Name" in refused(capsys, "count", GENOTYPE)
    assert Genotype.parse(GENOTYPE) == Genotype.parse(str(Genotype.parse(GENOTYPE)))
