"""Runs of a study elsewhere and again: command lines for a cluster, a study that is killed, what is found retrained."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
from pathlib import Path
from random import Random

import pytest

from archgrad.cli import main
from archgrad.compare import retrained, summary
from archgrad.compare.jobs import PROGRAM, Run, StudyFolder
from archgrad.run.folder import RunFolder
from running import code_of_fork
from studying import SHARED, STEPS, TWO, Here, dying, here, refused

ONE = ["--methods", "darts", "--no-controls", "--seeds", "1", *SHARED[:-2]]
QUICK = [
    "--retrain.preset",
    "quick",
    "--retrain.epochs",
    "2",
    "--retrain.limit",
    "60",
    "--retrain.channels",
    "4",
    "--retrain.batch",
    "20",
]
PLACES = [Random(12).randrange(1, STEPS), -2]  # a step of all, and the writing of a summary


def untimed(out: Path) -> dict:
    """What a study says, but for how long it took."""
    found = json.loads((out / "compare.json").read_text())
    for kind in ("mean", "minus_control"):
        found[kind] = {name: value for name, value in found[kind].items() if "seconds" not in name}
    return found


def untimed_csv(out: Path) -> list[str]:
    return [
        line for line in (out / "compare.csv").read_text().splitlines() if "seconds" not in line
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "study"
    with pytest.MonkeyPatch.context() as patched:
        here(patched)
        assert main(["compare", *TWO, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_study_goes_on_to_the_same_table(whole, tmp_path, capsys, monkeypatch, place):
    out = tmp_path / "study"
    assert code_of_fork(lambda: dying(place, [*TWO, "--out", str(out)])) == -9
    assert not (out / "compare.json").exists()
    here(monkeypatch)
    assert main(["compare", "--out", str(out)]) == 0  # as it is recorded
    assert (
        "4/4" not in capsys.readouterr().out or place < STEPS / 4
    )  # what was done was not done again
    assert untimed(out) == untimed(whole) and untimed_csv(out) == untimed_csv(whole)


# command lines


def test_commands_work_from_anywhere_and_are_collected(tmp_path, capsys, monkeypatch):
    """In a folder whose name needs quoting; run by a shell elsewhere, then the same command says what came out."""
    place, elsewhere = tmp_path / "my study's", tmp_path / "elsewhere"
    place.mkdir(), elsewhere.mkdir()
    monkeypatch.chdir(place)
    asked = ["compare", *ONE, *QUICK, "--retrain-seeds", "1", "--out", "out"]
    assert main([*asked, "--print-commands"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    steps = [shlex.split(step) for step in line.split(" && ")]
    assert [step[: len(PROGRAM) + 1] for step in steps] == [
        [*PROGRAM, "search"],
        [*PROGRAM, "retrain"],
    ]
    assert not (place / "out" / "runs" / "darts-seed1").exists()
    subprocess.run(line, shell=True, cwd=elsewhere, check=True, stdout=subprocess.DEVNULL)
    assert not list(elsewhere.iterdir())
    here(monkeypatch, start=lambda one: pytest.fail("it is done"))
    assert main([*asked, "--print-commands"]) == 0
    assert (
        "darts-seed1" not in capsys.readouterr().out
        and (place / "out" / "summaries" / "darts-seed1.json").exists()
    )
    assert main(asked) == 0
    assert "Retrainings" in capsys.readouterr().out


def test_a_run_that_began_continues_by_its_printed_command(whole, capsys):
    """Of a study whose one search is at work: the rest is left out, the line goes on."""
    home = StudyFolder(whole)
    begun = Run("darts", 3, home)
    begun.folder.path.mkdir()
    try:
        assert " search --config " in begun.command()
        begun.folder.config.write_text("method: darts\n")
        assert begun.command() == shlex.join([*PROGRAM, "resume", str(begun.folder.path.resolve())])
    finally:
        begun.folder.config.unlink(missing_ok=True)
        begun.folder.path.rmdir()
    assert Run("darts", 1, home).command() == ""


# what is found, retrained


def test_retrainings_are_counted_apart(tmp_path, capsys, monkeypatch):
    out, began = tmp_path / "study", []

    def start(one: Run) -> Here:
        began.append(" ".join(one.next_arguments()[:1] + one.next_arguments()[-1].split("/")[-1:]))
        return Here(one)

    here(monkeypatch, start=start)
    asked = [
        "compare",
        "--methods",
        "darts",
        "--no-controls",
        "--seeds",
        "2",
        *SHARED[:-2],
        *QUICK,
        "--out",
        str(out),
    ]
    assert main([*asked, "--retrain-seeds", "1"]) == 0
    assert began == [
        step for seed in (1, 2) for step in (f"search darts-seed{seed}", "retrain retrain-seed1")
    ]
    began.clear()
    assert main([*asked, "--retrain-seeds", "2"]) == 0
    assert began == ["retrain retrain-seed2"] * 2  # the searches stand
    assert "sd between retrainings" in capsys.readouterr().out
    tests = {}
    for seed in (1, 2):
        found = summary.read(out / "summaries" / f"darts-seed{seed}.json")
        assert (
            found["retrained"]["settings"]["preset"] == "quick"
            and found["retrained"]["settings"]["epochs"] == 2
        )
        rows = [
            (out / "runs" / f"darts-seed{seed}" / f"retrain-seed{k}" / "metrics.jsonl")
            .read_text()
            .splitlines()
            for k in (1, 2)
        ]
        tests[seed] = [100 * json.loads(lines[-1])["test_accuracy"] for lines in rows]
        assert [one["test"] for one in found["retrained"]["runs"]] == pytest.approx(
            tests[seed], rel=1e-5
        )
        assert [one["seed"] for one in found["retrained"]["runs"]] == [1, 2]
    numbers = json.loads((out / "compare.json").read_text())
    assert (
        numbers["mean"]["retrained_test"]["darts"]["n"] == 2 == numbers["retrained"]["darts"]["n"]
    )
    assert numbers["retrained"]["darts"]["each"] == [2, 2]
    within = math.sqrt(sum((own[0] - own[1]) ** 2 / 2 for own in tests.values()) / 2)
    assert numbers["retrained"]["darts"]["sd_retraining"] == pytest.approx(within, rel=1e-4)
    (out / "runs" / "darts-seed1").rename(tmp_path / "away")
    assert "darts-seed1 was searched elsewhere" in refused(
        capsys, *asked[1:], "--retrain-seeds", "3"
    )
    assert main([*asked, "--retrain-seeds", "2"]) == 0  # what is done is done


def test_a_retraining_that_fails_leaves_the_search_in_the_table(tmp_path, capsys, monkeypatch):
    out = tmp_path / "study"

    class Breaks(Here):
        def __init__(self, one: Run) -> None:
            if one.next_arguments()[0] == "search":
                super().__init__(one)
            else:
                self.returncode = 1

    here(monkeypatch, start=Breaks)
    assert main(["compare", *ONE, *QUICK, "--retrain-seeds", "1", "--out", str(out)]) == 1
    numbers = json.loads((out / "compare.json").read_text())
    assert (
        numbers["seeds"] == {"darts": [1]}
        and list(numbers["failed"]["darts"]) == ["1"]
        and "retrained_test" not in numbers["mean"]
    )
    assert "darts-seed1: FAILED" in capsys.readouterr().out


def test_spreads_of_searches_and_of_retrainings_by_hand():
    """Searches of means 90 and 94; retrainings 1 off theirs in the first (sd sqrt(2)), 2 off in the second (sd sqrt(8))."""
    found = retrained.retrained({1: [89.0, 91.0], 2: [92.0, 96.0]})
    assert (found.n, found.mean, found.each) == (2, 92.0, (2, 2))
    assert found.sd == pytest.approx(math.sqrt(8)) and found.sd_retraining == pytest.approx(
        math.sqrt((2 + 8) / 2)
    )
    assert retrained.retrained({1: [89.0], 2: [92.0]}).sd_retraining is None


def test_without_a_finished_retraining_there_are_no_results(tmp_path):
    assert (
        retrained.results(RunFolder(tmp_path), 2) == {}
        and len(list(retrained.pending(RunFolder(tmp_path), 2))) == 2
    )
