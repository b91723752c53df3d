"""A new study says that the alphas' rate is automatic; one begun before goes on at the rate it was begun with."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from archgrad.cli import main, study_checks
from archgrad.compare import study
from archgrad.compare.jobs import StudyFolder
from archgrad.compare.summary import read_all
from archgrad.methods import method
from archgrad.run.config import read_yaml
from archgrad.searching.rate import fitted_rate
from archgrad.searching.types import Plan
from archgrad.spaces import space
from studying import SHARED, here, refused

REPOSITORY = Path(__file__).parent.parent
STUDIES = sorted(
    path.parent for path in (REPOSITORY / "benchmarks" / "studies").glob("*/study.yaml")
)
COMMANDS = re.findall(
    r"^archgrad (compare .*benchmarks/studies/.*)$",
    (REPOSITORY / "docs" / "results.md").read_text(),
    re.MULTILINE,
)
SMALL = [*SHARED[: SHARED.index("--alphas.lr")], "--no-controls", "--seeds", "1"]
FITS = {
    name: fitted_rate(method(name, space("nasbench201", channels=4, cells=1)), Plan(2, 3))
    for name in ("darts", "pcdarts", "random")
}


def rates(out: Path) -> dict[str, float]:
    """What each finished run recorded."""
    return {
        f"{one['arm']} {one['seed']}": one["config"]["alphas"]["lr"]
        for one in read_all(StudyFolder(out).summaries)
    }


def entry(out: Path) -> object:
    return yaml.safe_load((out / "study.yaml").read_text()).get("alphas", {}).get("lr")


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    out = tmp_path_factory.mktemp("rates") / "new"
    with pytest.MonkeyPatch.context() as patched:
        here(patched)
        assert main(["compare", "--methods", "darts", *SMALL, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """As studies were recorded before: a file without the entry, runs at the published rate."""
    folder = tmp_path_factory.mktemp("rates")
    out, before = folder / "old", {"lr": 3e-4}
    with pytest.MonkeyPatch.context() as patched:
        here(patched)
        assert (
            main(
                [
                    "compare",
                    "--methods",
                    "darts",
                    *SMALL,
                    "--alphas.lr",
                    str(before["lr"]),
                    "--out",
                    str(out),
                ]
            )
            == 0
        )
    file = yaml.safe_load((out / "study.yaml").read_text())
    assert file.pop("alphas") == before
    (out / "study.yaml").write_text(yaml.safe_dump(file))
    return out


@pytest.fixture
def copied(old, tmp_path):
    return Path(shutil.copytree(old, tmp_path / "old"))


def test_a_new_study_records_auto_and_its_runs_the_number(new):
    assert entry(new) == "auto"
    assert rates(new) == {"darts 1": FITS["darts"]}


def test_a_new_study_goes_on_at_the_same_rule(new, tmp_path, capsys, monkeypatch):
    here(monkeypatch)
    out = Path(shutil.copytree(new, tmp_path / "new"))
    assert (
        main(
            [
                "compare",
                "--methods",
                "darts,random",
                *SMALL[:-1],
                "2",
                "--random.draws",
                "2",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert rates(out) == {
        "darts 1": FITS["darts"],
        "darts 2": FITS["darts"],
        "random 1": 3e-4,
        "random 2": 3e-4,
    }
    assert "alphas.lr is 'auto' in the study recorded here, not 0.0003" in refused(
        capsys, "--methods", "darts", *SMALL[:-1], "3", "--alphas.lr", "3e-4", "--out", str(out)
    )


def test_a_file_without_a_rate_is_automatic_but_for_the_arms_that_name_one(tmp_path):
    file = {
        "space": {"channels": 4, "cells": 1},
        "arms": {"darts": {}, "slow": {"method": "darts", "alphas": {"lr": 3e-4}}},
    }
    asked = study.read(("file", file))
    assert [asked.resolved_settings(arm)["alphas.lr"] for arm in ("darts", "slow")] == [
        "auto",
        3e-4,
    ]
    assert asked.resolved_settings("darts", steps=3)["alphas.lr"] == pytest.approx(
        fitted_rate(method("darts", space("nasbench201")), Plan(50, 3))
    )
    assert asked.to_mapping()["alphas"] == {"lr": "auto"}
    assert (
        study.read(("file", asked.to_mapping()), recorded=True).resolved_settings("darts")[
            "alphas.lr"
        ]
        == "auto"
    )


def test_a_rule_that_gives_another_number_now_is_refused(new, tmp_path, capsys):
    out = Path(shutil.copytree(new, tmp_path / "new"))
    file = next(StudyFolder(out).summaries.glob("*.json"))
    found = json.loads(file.read_text())
    found["config"]["alphas"]["lr"] = 0.5
    file.write_text(json.dumps(found))
    said = refused(capsys, "--methods", "darts", *SMALL[:-1], "2", "--out", str(out))
    assert "arm darts: alphas.lr was 0.5 in seed 1 and is" in said


def test_an_old_study_goes_on_as_it_stands(copied, monkeypatch):
    here(monkeypatch)
    shutil.rmtree(copied / "summaries")
    shutil.rmtree(copied / "runs")
    assert main(["compare", "--data", "digits", "--out", str(copied)]) == 0
    assert rates(copied) == {"darts 1": 3e-4} and entry(copied) is None


def test_an_old_study_goes_on_with_more_seeds_and_arms(copied, monkeypatch):
    """The same command again, with the same words; a new arm has the rate that its method had then."""
    here(monkeypatch)
    assert (
        main(["compare", "--methods", "darts,lambdadarts", *SMALL[:-1], "2", "--out", str(copied)])
        == 0
    )
    assert rates(copied) == {
        "darts 1": 3e-4,
        "darts 2": 3e-4,
        "lambdadarts 1": 1e-4,
        "lambdadarts 2": 1e-4,
    }
    assert entry(copied) is None


def test_an_old_study_goes_on_with_the_same_recipe(copied, monkeypatch):
    here(monkeypatch)
    file = yaml.safe_load((copied / "study.yaml").read_text())
    recipe = copied.parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(file | {"seeds": 2, "data": "digits"}))
    assert main(["compare", "--config", str(recipe), "--out", str(copied)]) == 0
    assert rates(copied) == {"darts 1": 3e-4, "darts 2": 3e-4} and entry(copied) is None


def test_an_old_study_does_not_become_automatic(copied, capsys):
    said = refused(
        capsys, "--methods", "darts", *SMALL, "--alphas.lr", "auto", "--out", str(copied)
    )
    assert "alphas.lr is 0.0003 in the study recorded here, not 'auto'" in said


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_our_own_studies_resolve_to_what_they_recorded(folder):
    before = study.read(read_yaml(folder / "study.yaml"), recorded=True)
    study_checks.check_settings(before, StudyFolder(folder))
    now = {arm: before.resolved_settings(arm) for arm in before.arms}
    for one in read_all(folder / "summaries"):
        for name in ("lr", "init", "decay"):
            assert now[one["arm"]][f"alphas.{name}"] == one["config"]["alphas"][name]


@pytest.mark.parametrize("command", COMMANDS)
def test_our_own_studies_go_on_by_their_commands(command, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert main([*shlex.split(command, comments=True), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 12 and (
        all(line.endswith("(done)") for line in lines) or "full_length" in command
    )


def test_there_are_studies_and_commands():
    assert len(STUDIES) >= 8 and len(COMMANDS) >= 7
