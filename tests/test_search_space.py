"""A depth at which an edge group is in no cell: refused where something begins, still read where it was recorded."""

from __future__ import annotations

import json

import pytest

from archgrad import spaces
from archgrad.arch.space import check_cells
from archgrad.cli import main
from archgrad.components.select import uniform_genotype
from archgrad.methods import method
from archgrad.retraining import execute as retraining
from archgrad.run import execute
from archgrad.searching import loop
from fakes import Noise

ROBUST = ("darts", "s1", "s2", "s3", "s4")
SMALL = [
    "--data",
    "digits",
    "--space",
    "darts",
    "--space.channels",
    "2",
    "--space.nodes",
    "2",
    "--search.limit",
    "40",
    "--threads",
    "1",
]
SMALL += [
    "--search.batch",
    "20",
    "--search.epochs",
    "1",
    "--diagnostics.no-front",
    "--diagnostics.no-gap",
]
RETRAIN = [
    "--retrain.channels",
    "2",
    "--retrain.epochs",
    "1",
    "--retrain.limit",
    "40",
    "--retrain.batch",
    "20",
    "--retrain.auxiliary",
    "0",
]


@pytest.mark.parametrize("name", spaces.SPACES)
def test_the_least_depth_is_named_and_is_the_least(name):
    space = spaces.space(name)
    if "cells" not in space.spec():
        check_cells(space, "--space.cells")
        return
    for cells in (1, 2, 3, 4):
        if name in ROBUST and cells < 3:
            shallow = f"^a network of {cells} cells? has no normal cell in space {name}: --space.cells must be at least 3$"
            with pytest.raises(ValueError, match=shallow):
                check_cells(space.resized(cells=cells), "--space.cells")
        else:
            check_cells(space.resized(cells=cells), "--space.cells")


def test_python_refuses_a_search_without_a_normal_cell_and_still_derives_one():
    space = spaces.space("darts", channels=2, cells=2, classes=4)
    with pytest.raises(ValueError, match="no normal cell in space darts: cells must be at least 3"):
        loop.search(method("darts", space), Noise(), 1)
    assert space.derive(uniform_genotype(space.groups, 0), channels=2, cells=1)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["search", *SMALL, "--space.cells", "2"], "--space.cells"),
        (["search", *SMALL, "--space.cells", "1", "--dry-run"], "--space.cells"),
        (["search", *SMALL, "--space.cells", "3", "--retrain.cells", "2"], "--retrain.cells"),
        (["retrain", "DARTS_V2", "--data", "digits", "--retrain.cells", "1"], "--retrain.cells"),
        (
            ["compare", *SMALL, "--space.cells", "2", "--methods", "darts", "--no-controls"],
            "--space.cells",
        ),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else given,
)
def test_the_command_line_refuses_it_in_one_line(arguments, option, tmp_path, capsys):
    folder = tmp_path / "run"
    out = [] if "--dry-run" in arguments else ["--out", str(folder)]
    assert main([*arguments, *out]) == 2
    said = capsys.readouterr().err.strip()
    assert (
        said.endswith(f"has no normal cell in space darts: {option} must be at least 3")
        and "\n" not in said
    )
    assert not folder.exists()


def test_counting_such_a_network_is_allowed(capsys):
    assert main(["count", "DARTS_V2", "--cells", "2", "--channels", "4"]) == 0
    assert "parameters" in capsys.readouterr().out


def test_a_recorded_run_in_a_refused_space_still_opens(tmp_path, monkeypatch, capsys):
    """The test resumes, shows and evaluates a search and a retraining of two cells, as earlier versions made them."""
    folder = tmp_path / "run"
    told = [*SMALL, "--space.cells", "2", "--retrain.cells", "2", *RETRAIN, "--out", str(folder)]
    with monkeypatch.context() as before:
        before.setattr(execute, "check_depths", lambda config: None)
        before.setattr(retraining, "check_cells", lambda space, option: None)
        assert main(["search", *told]) == 0
        assert main(["retrain", str(folder)]) == 0
    (folder / "genotype.json").unlink()
    (folder / "retrain" / "weights.safetensors").unlink()
    capsys.readouterr()
    for arguments in (
        ["resume", str(folder)],
        ["resume", str(folder / "retrain")],
        ["show", str(folder)],
        ["derive", str(folder), "--budget", "macs=100%", "--json"],
        ["evaluate", str(folder), "--json"],
    ):
        assert main(arguments) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["count"]
