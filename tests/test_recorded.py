"""What archgrad recorded before its modules moved (commit 6793cd0) still loads: a checkpoint, a run, a trained network and a study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import archgrad
from archgrad.cli import main
from archgrad.run.folder import RunFolder
from archgrad.storage import records

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """Return a copy of the finished run: ``checkpoint.previous.pt`` is its only checkpoint, that of its first epoch."""
    return RunFolder(shutil.copytree(RECORDED / "run", tmp_path / "run"))


def test_a_search_goes_on_from_a_recorded_checkpoint(run):
    before = records.read_measured(run.metrics)
    run.previous_checkpoint.rename(run.checkpoint)
    for path in (run.genotype, run.front):
        path.unlink()
    assert main(["resume", str(run.path)]) == 0
    after = records.read_measured(run.metrics)
    assert after[0] == before[0]
    assert [row["epoch"] for row in after] == [0, 1]
    assert after[1]["train_loss"] == pytest.approx(before[1]["train_loss"], rel=1e-3)
    assert after[1]["temperature"] == before[1]["temperature"]
    assert archgrad.alphas(run.path).keys() == {0, 1}


def test_a_recorded_run_is_shown_and_its_network_evaluated(run, capsys):
    found = json.loads(run.genotype.read_text())["text"]
    assert main(["show", str(run.path)]) == 0
    assert "|" in found and run.read_genotype() == archgrad.Genotype.parse(found)
    capsys.readouterr()
    assert main(["evaluate", str(run.path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    measured = records.read_measured(run.path / "retrain" / "metrics.jsonl")[-1]
    assert said["accuracy"] == pytest.approx(measured["test_accuracy"], abs=0.01)


def test_a_recorded_study_is_compared_again_without_its_runs(tmp_path, capsys):
    study = shutil.copytree(RECORDED / "study", tmp_path / "study")
    assert main(["compare", "--out", str(study)]) == 0
    assert "darts" in capsys.readouterr().out
    measured = json.loads((study / "compare.json").read_text())["mean"]["discrete_accuracy"][
        "darts"
    ]
    summary = json.loads((RECORDED / "study" / "summaries" / "darts-seed1.json").read_text())
    assert measured["mean"] == summary["final"]["discrete_accuracy"]
