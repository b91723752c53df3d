"""`archgrad finish`: what a stopped search has becomes its result; `resume --reopen` goes on as if that had never been."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

from archgrad.cli import main
from archgrad.cli.searching import next_commands
from archgrad.compare.jobs import Run, StudyFolder
from archgrad.observers.recording import Metrics
from archgrad.retraining.card import CARD, WEIGHTS
from archgrad.run import finished
from archgrad.run.folder import RunFolder
from archgrad.searching import progress
from archgrad.searching.method import Method
from archgrad.searching.progress import SignsOfLife
from archgrad.storage.files import append
from running import SMALL, STEPS, after, outcome, same
from studying import TWO, here

RESULT = ("genotype.json", "front.json", "cells.svg", "curves.svg")


def stopped(folder, steps: int, *more: str):
    """A search that Ctrl-C stopped after so many steps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Method, "step", after(steps, lambda: os.kill(os.getpid(), signal.SIGINT)))
        assert main(["search", *SMALL, *more, "--out", str(folder)]) == 130
    return folder


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """Two epochs of three and a step, finished; the very same run without, and one that was never stopped."""
    home = tmp_path_factory.mktemp("finish")
    folder = stopped(home / "run", 2 * STEPS + 1)
    shutil.copytree(folder, home / "before")
    assert main(["finish", str(folder)]) == 0
    assert main(["search", *SMALL, "--out", str(home / "whole")]) == 0
    return home


def copied(halfway, tmp_path, name: str = "run"):
    folder = tmp_path / name
    shutil.copytree(halfway / name, folder)
    return folder


def told(capsys, *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    both = capsys.readouterr()
    return both.out if code in (0, 1) else both.err


def test_finish_makes_the_present_genotype_the_result(halfway, tmp_path, capsys):
    folder = copied(halfway, tmp_path, "before")
    shown = told(capsys, "finish", folder)
    assert (
        "a stopped search, finished after epoch 2 of 3 and 1 step as it was" in shown
        and "next: " in shown
    )
    content = json.loads((folder / "genotype.json").read_text())
    assert content["finished"] == {"epochs": 2, "of": 3, "steps": 1}
    assert content["searched"]["fails"]["short"].endswith("it has 2 epochs. Train longer.")
    assert content == json.loads((halfway / "run" / "genotype.json").read_text())
    assert all((folder / name).exists() for name in RESULT)
    assert (folder / "checkpoint.pt").read_bytes() == (
        halfway / "before" / "checkpoint.pt"
    ).read_bytes()
    assert (folder / "metrics.jsonl").read_text() == (
        halfway / "before" / "metrics.jsonl"
    ).read_text()
    for command in (["show"], ["derive", "--budget", "macs=50%"]):
        assert "after epoch 2 of 3 and 1 step" in told(capsys, command[0], folder, *command[1:])
    less = [
        "--retrain.preset",
        "quick",
        "--retrain.epochs",
        "1",
        "--retrain.limit",
        "40",
        "--threads",
        "1",
    ]
    assert "after epoch 2 of 3" in told(capsys, "retrain", folder, *less).splitlines()[0]
    assert f"{folder / 'retrain'} holds the network" in told(
        capsys, "resume", folder, "--reopen", code=2
    )
    assert "the training in" in told(
        capsys, "resume", folder
    )  # of the network there is nothing left to do
    assert "is finished already, after epoch 2 of 3 and 1 step" in told(capsys, "finish", folder)


def test_finish_between_two_epochs_gives_the_genotype_of_the_last_row(tmp_path, capsys):
    folder = tmp_path / "run"

    def interrupted(metrics, row):
        append(metrics.path, json.dumps(row))
        if row["epoch"]:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Metrics, "append", interrupted)
        assert main(["search", *SMALL, "--out", str(folder)]) == 130
    told(capsys, "finish", folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    content = json.loads((folder / "genotype.json").read_text())
    assert (
        content["text"] == rows[-1]["genotype"]
        and len(rows) == 2
        and content["finished"]["steps"] == 0
    )
    assert RunFolder(folder).place_of_finish() == "after epoch 2 of 3"
    assert "finished after epoch 2 of 3 as it was" in told(capsys, "show", folder)


def test_a_command_that_needs_a_result_names_it(halfway, tmp_path, capsys):
    folder = copied(halfway, tmp_path, "before")
    for command in (["show"], ["retrain"], ["derive", "--budget", "macs=50%"]):
        assert f"`archgrad finish {folder}`" in told(
            capsys, command[0], folder, *command[1:], code=2
        )
    (folder / "checkpoint.pt").unlink()
    assert "archgrad finish" not in told(capsys, "show", folder, code=2)


def test_finish_prints_signs_of_life(halfway, tmp_path, monkeypatch):
    """Where many paths are to be judged it takes minutes."""
    places = []

    class Noted(SignsOfLife):
        def set_place(self, place, left=None):
            places.append(place)

    monkeypatch.setattr(progress, "SignsOfLife", Noted)
    assert main(["finish", str(copied(halfway, tmp_path, "before"))]) == 0
    assert places == ["reading the images", "cost and accuracy of what was seen"]


def test_resume_of_a_finished_search_needs_reopen(halfway, tmp_path, capsys):
    """And then goes on bit for bit as if it had never been finished."""
    folder = copied(halfway, tmp_path)
    error = told(capsys, "resume", folder, code=2)
    assert (
        "was ended by `archgrad finish` after epoch 2 of 3 and 1 step: add --reopen" in error
        and error.count("\n") == 1
    )
    assert main(["resume", str(folder), "--reopen"]) == 0
    assert same(outcome(folder), outcome(halfway / "whole"))
    assert RunFolder(folder).place_of_finish() is None
    assert "leave out --reopen" in told(capsys, "resume", folder, "--reopen", code=2)
    assert "is finished: see" in told(capsys, "finish", folder)


def test_what_was_derived_before_keeps_its_judgement(halfway, tmp_path, capsys):
    """A file that was derived of the stopped search is no better for what the search found later."""
    folder, file = copied(halfway, tmp_path), tmp_path / "small.json"
    assert "too short to tell" in told(
        capsys, "derive", folder, "--budget", "macs=60%", "--out", file
    )
    own = json.loads(file.read_text())["searched"]
    longer = json.loads((folder / "genotype.json").read_text())
    longer["searched"] = own | {"ok": True, "fails": {}}
    (folder / "genotype.json").write_text(
        json.dumps(longer)
    )  # as of a search that was reopened and went to its end
    assert "too short to tell" in told(capsys, "show", file) and "too short to tell" not in told(
        capsys, "show", folder
    )
    old = {
        name: value for name, value in json.loads(file.read_text()).items() if name != "searched"
    }
    file.write_text(
        json.dumps(old)
    )  # recorded before files had a judgement: that of its run is the best there is
    assert "The search passes its checks: " in told(capsys, "show", file)


def test_finish_names_only_the_commands_that_are_left(tmp_path):
    assert (
        next_commands(tmp_path)
        == f"archgrad retrain {tmp_path}  and then  archgrad evaluate {tmp_path}"
    )
    (tmp_path / "retrain").mkdir()
    (tmp_path / "retrain" / CARD).touch()
    assert next_commands(tmp_path) == f"archgrad resume {tmp_path}"
    (tmp_path / "retrain" / WEIGHTS).touch()
    assert next_commands(tmp_path) == f"archgrad evaluate {tmp_path}"


def test_a_result_that_cannot_be_reopened_stays(halfway, tmp_path, capsys):
    """Neither can the search go on nor could `finish` make that result again."""
    folder = copied(halfway, tmp_path)
    before = {name: (folder / name).read_bytes() for name in RESULT}
    images = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps(images | {"fingerprint": "other"}))
    assert "have changed since" in told(capsys, "resume", folder, "--reopen", code=2)
    (folder / "checkpoint.pt").write_bytes(b"cut short")
    (folder / "data.json").write_text(json.dumps(images))
    assert "is damaged" in told(capsys, "resume", folder, "--reopen", code=2)
    assert {name: (folder / name).read_bytes() for name in RESULT} == before


def test_a_kill_while_it_is_reopened_leaves_a_stopped_run(halfway, tmp_path, monkeypatch):
    """The mark goes first: what is left of the result is written over."""
    folder = copied(halfway, tmp_path)
    RunFolder(folder).genotype.unlink()
    assert (folder / "front.json").exists() and main(["resume", str(folder)]) == 0
    assert same(outcome(folder), outcome(halfway / "whole"))


def test_a_run_that_cannot_be_finished_is_refused(halfway, tmp_path, capsys):
    assert "there is no run in" in told(capsys, "finish", tmp_path, code=2)
    folder = copied(halfway, tmp_path, "before")
    with RunFolder(folder).lock():
        assert "another process" in told(capsys, "finish", folder, code=2)
    images = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps(images | {"fingerprint": "other"}))
    assert "have changed since" in told(capsys, "finish", folder, code=2)
    (folder / "checkpoint.pt").unlink()
    assert "has no checkpoint yet, so there is nothing to finish" in told(
        capsys, "finish", folder, code=2
    )
    assert not (folder / "genotype.json").exists()


def test_a_damaged_checkpoint_is_passed_over_by_previous(halfway, tmp_path, capsys):
    folder = copied(halfway, tmp_path, "before")
    (folder / "checkpoint.pt").write_bytes(b"cut short")
    assert "is damaged" in told(capsys, "finish", folder, code=2)
    assert "finished after epoch 2 of 3 as it was" in told(capsys, "finish", folder, "--previous")
    content = json.loads((folder / "genotype.json").read_text())
    assert content["finished"] == {"epochs": 2, "of": 3, "steps": 0}
    assert "genotype: " in told(capsys, "derive", folder, "--budget", "macs=50%")
    (folder / "genotype.json").unlink()
    (folder / "checkpoint.previous.pt").unlink(missing_ok=True)
    assert "leave out --previous" in told(capsys, "finish", folder, "--previous", code=2)


def test_random_search_needs_a_draw(tmp_path, capsys):
    """Without one that was judged there is nothing to choose; with some it is the best of these, never the one in training."""
    draws = ["--method", "random", "--random.draws", "3"]
    first = stopped(tmp_path / "first", STEPS - 1, *draws)
    assert (
        "random has nothing to choose among yet" in told(capsys, "finish", first, code=2)
        and not (first / "genotype.json").exists()
    )
    assert main(["resume", str(first)]) == 0 and RunFolder(first).place_of_finish() is None
    second = stopped(tmp_path / "second", 2 * STEPS + 1, *draws)
    assert "random trains no alphas, so it decides now" in told(capsys, "finish", second)
    rows = [json.loads(line) for line in (second / "metrics.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: row["draw_accuracy"])
    content = json.loads((second / "genotype.json").read_text())
    assert content["text"] == best["genotype"] and content["searched"]["by"] == "decisions"
    assert main(["resume", str(second), "--reopen"]) == 0
    assert same(outcome(second), outcome(first))


def test_a_method_that_decides_later_says_what_was_taken(tmp_path, capsys):
    folder = stopped(tmp_path / "pt", 2 * STEPS, "--method", "dartspt", "--dartspt.tune", "1")
    assert (
        "dartspt decides after its last epoch, so the result here is the present selection of its alphas"
        in told(capsys, "finish", folder)
    )
    assert json.loads((folder / "genotype.json").read_text())["searched"]["by"] == "alphas"
    shared = stopped(tmp_path / "rsws", STEPS, "--method", "rsws", "--rsws.samples", "3")
    shown = told(capsys, "finish", shared)
    assert (
        "rsws trains no alphas, so it decides now" in shown
        and "decided 3: samples 3, accuracy " in shown
    )


def test_a_study_leaves_out_a_search_ended_by_finish(tmp_path, capsys):
    out = tmp_path / "study"
    one = Run("darts", 1, StudyFolder(out))
    assert (
        main(["compare", *TWO, "--out", str(out), "--print-commands"]) == 0
    )  # writes what the search is told
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            Method, "step", after(STEPS + 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        )
        assert main(one.next_arguments()) == 130
    assert (
        main(["finish", str(one.folder.path)]) == 0
        and one.place_of_finish == "after epoch 1 of 2 and 1 step"
    )
    assert not one.write_summary() and not one.summary.exists()
    assert "darts-seed1: darts in nasbench201, 2 epochs, seed 1 (left out)" in told(
        capsys, "compare", *TWO, "--out", out, "--dry-run"
    )
    with pytest.MonkeyPatch.context() as patched:
        here(patched)
        shown = told(capsys, "compare", *TWO, "--out", out)
        says = "darts-seed1: left out, its search was ended by `archgrad finish` after epoch 1 of 2 and 1 step"
        assert says in shown and "failed" not in shown
        numbers = json.loads((out / "compare.json").read_text())
        assert numbers["seeds"] == {"darts": [2], "random": [1, 2]} and not numbers["failed"]
        assert main(["resume", str(one.folder.path), "--reopen"]) == 0
        assert main(["compare", *TWO, "--out", str(out)]) == 0 and one.is_done
    assert json.loads((out / "compare.json").read_text())["seeds"]["darts"] == [1, 2]


def test_reading_a_finished_run_is_reading_it_as_it_ended(halfway):
    method, state = finished.read_method_and_state(RunFolder(halfway / "run"))
    assert (
        str(method.genotype(state))
        == json.loads((halfway / "run" / "genotype.json").read_text())["text"]
    )
