"""Studies: several arms, several seeds, processes that die, summaries that count as done, what is refused."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import sleep

import pytest
import yaml

from archgrad.cli import comparing, main
from archgrad.compare import comparison, jobs, study, summary
from archgrad.compare.jobs import Run, StudyFolder, execute, runs_of
from archgrad.run.config import read_yaml
from archgrad.run.folder import RunFolder
from retraining import DIGITS_1
from studying import SHARED, TWO, here, refused

ROOT = Path(__file__).parent.parent
CLAIMS = sorted((ROOT / "recipes" / "claims").glob("*.yaml"))


def process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study of two arms and two seeds, by the command a user types; but its searches run here, for a process takes seconds to begin."""
    out = tmp_path_factory.mktemp("compare") / "study"
    with pytest.MonkeyPatch.context() as patched:
        here(patched)
        assert main(["compare", *TWO, "--jobs", "2", "--out", str(out)]) == 0
    return out


def committed(done: Path, out: Path) -> Path:
    """What of a study may be committed, elsewhere."""
    out.mkdir()
    shutil.copy(done / "study.yaml", out)
    shutil.copytree(done / "summaries", out / "summaries")
    return out


# a study's runs


def test_each_run_is_an_ordinary_run(done, capsys):
    folders = [path.name for path in sorted((done / "runs").iterdir()) if path.is_dir()]
    assert folders == ["darts-seed1", "darts-seed2", "random-seed1", "random-seed2"]
    assert (
        main(["resume", str(done / "runs" / "darts-seed2")]) == 0
        and "is finished" in capsys.readouterr().out
    )
    settings = yaml.safe_load((done / "runs" / "darts-seed2" / "config.yaml").read_text())
    assert settings["seed"] == 2 and settings["threads"] == 1 and settings["search"]["limit"] == 60


def test_a_summary_is_small_and_names_no_place(done):
    for path in (done / "summaries").iterdir():
        assert path.stat().st_size < summary.LIMIT
        assert not re.search(r'"(/|~|[A-Z]:\\)', path.read_text())
        found = summary.read(path)
        rows = [
            json.loads(line)
            for line in (done / "runs" / path.stem / "metrics.jsonl").read_text().splitlines()
        ]
        assert found["data"]["name"] == "digits" and found["data"]["fingerprint"].startswith("2:")
        assert found["epochs"]["train_loss"] == pytest.approx(
            [row["train_loss"] for row in rows], rel=1e-5
        )
        assert found["final"]["validation"] == pytest.approx(validated(path.stem, rows), rel=1e-5)
        decided = done / "runs" / path.stem / "decisions.jsonl"
        rows += (
            [json.loads(line) for line in decided.read_text().splitlines()]
            if decided.exists()
            else []
        )
        assert len(rows) == 2 + path.stem.startswith("random")
        for name in ("seconds", "cpu_seconds"):
            assert (
                found[name] == pytest.approx(sum(row[name] for row in rows), rel=1e-5)
                and found[name] > 0
            )
        assert found["genotype"] == {
            "text": json.loads((done / "runs" / path.stem / "genotype.json").read_text())["text"],
            "json": json.loads((done / "runs" / path.stem / "genotype.json").read_text())[
                "genotype"
            ],
        }
        assert found["final"]["skips"] == found["genotype"]["text"].count("skip_connect")
        assert (
            found["final"]["cifar10_test"] == found["benchmark"][0]["cifar10_test"]
            and found["benchmark"][1]["cifar10_test"] == 93.76
        )


def validated(name: str, rows: list[dict]) -> float:
    """By hand: the better of two draws, or the cell that the supernet was cut to at the end."""
    return (
        max(row["draw_accuracy"] for row in rows)
        if name.startswith("random")
        else rows[-1]["discrete_accuracy"]
    )


def test_a_blind_study_looks_up_no_truth(done, tmp_path, capsys):
    """The run it judges is one that a table knows."""
    home = StudyFolder(tmp_path)
    shutil.copytree(done / "runs" / "darts-seed1", home.runs / "darts-seed1")
    blind = study.read(("", {**read_yaml(done / "study.yaml")[1], "blind": True}))
    assert study.read(("", blind.to_mapping())).blind
    first = runs_of(blind, home)[0]
    assert first.name == "darts-seed1" and first.write_summary()
    found = summary.read(first.summary)
    assert found["benchmark"] is None and not [
        name for name in found["final"] if "test" in name or name == "rank"
    ]
    assert not comparison([found], "darts").bars
    assert "is not blind, which cannot change" in refused(
        capsys, *TWO, "--blind", "--out", str(done)
    )


def test_a_summary_names_a_folder_of_images_by_its_last_part(done, tmp_path):
    folder = tmp_path / "darts-seed1"
    shutil.copytree(done / "runs" / "darts-seed1", folder)
    images = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps(images | {"name": str(tmp_path / "photos")}))
    found = summary.summarise(RunFolder(folder), "darts", 1)
    assert found["data"]["name"] == "photos" and str(tmp_path) not in json.dumps(found)


def test_a_summary_too_large_leaves_out_lists_first():
    whole = {
        "epochs": {
            "loss": [0.5] * 100,
            "edges": [[0.25] * 20] * 100,
            "genotype": ["x" * 100] * 100,
        },
        "final": {"loss": 0.5},
    }
    assert summary.small(whole, 100_000) == whole
    assert summary.small(whole, 12_000)["left_out"] == ["edges"]
    assert summary.small(whole, 6_000) == {
        "epochs": {"loss": [0.5] * 100},
        "final": {"loss": 0.5},
        "left_out": ["edges", "genotype"],
    }
    assert len(json.dumps(summary.small(whole, 900))) <= 900


def test_committed_summaries_count_as_done(done, tmp_path, capsys, monkeypatch):
    out = committed(done, tmp_path / "elsewhere")
    monkeypatch.setattr(
        comparing,
        "execute",
        partial(execute, start=lambda one: pytest.fail(f"{one.name} was started")),
    )
    assert main(["compare", *TWO, "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["compare", "--out", str(out)]) == 0  # as it is recorded
    assert "random" in capsys.readouterr().out
    assert (out / "compare.json").read_text() == (done / "compare.json").read_text()


def test_more_seeds_and_arms_than_before(done, tmp_path, capsys):
    out = committed(done, tmp_path / "more")
    more = ["--methods", "darts,stdarts", "--seeds", "1,3", *SHARED[:-2], "--out", str(out)]
    assert main(["compare", *more, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r":.*\(", " (", line) for line in lines] == [  # all arms of a seed before the next seed
        "darts-seed1 (done)", "stdarts-seed1 (new)", "random-seed1 (done)", "darts-seed3 (new)", "stdarts-seed3 (new)", "random-seed3 (new)",
    ]  # fmt: skip
    before = study.read(read_yaml(out / "study.yaml"))
    asked = study.read(
        ("", {**before.shared, "arms": {"darts": {}, "cold": {"method": "stdarts"}}, "seeds": [3]}),
        before=before,
    )
    whole = study.joined(before, asked)
    assert (
        list(whole.arms) == ["darts", "random", "cold"]
        and whole.seeds == (1, 2, 3)
        and whole.control == "darts"
    )
    assert study.read(("", whole.to_mapping())) == whole


def test_an_arm_is_added_without_typing_the_study_again(done, tmp_path, capsys):
    out = committed(done, tmp_path / "more")
    assert (
        main(
            [
                "compare",
                "--out",
                str(out),
                "--methods",
                "darts,stdarts",
                "--stdarts.kappa",
                "0.1",
                "--dry-run",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert (
        "stdarts-seed2: stdarts in nasbench201, stdarts.kappa 0.1, 2 epochs, seed 2 (new)" in said
        and "random-seed2:" in said
    )
    before = study.read(read_yaml(out / "study.yaml"), recorded=True)
    asked = study.read(
        ("", {**comparing.begun(before, True), "stdarts": {"kappa": 0.1}}),
        names=["stdarts"],
        before=before,
    )
    (out / "study.yaml").write_text(study.joined(before, asked).to_yaml())
    assert (
        main(["compare", "--out", str(out), "--methods", "stdarts", "--dry-run"]) == 0
    )  # an arm by its name, as it is recorded
    assert "stdarts.kappa 0.1" in capsys.readouterr().out
    assert "arm stdarts: stdarts.kappa is 0.1 in the study recorded here, not 0.2" in refused(
        capsys, "--out", str(out), "--methods", "stdarts", "--stdarts.kappa", "0.2", "--dry-run"
    )
    assert "search.epochs is 2 in the study recorded here, not 3" in refused(
        capsys,
        "--out",
        str(out),
        "--methods",
        "stdarts",
        "--search.epochs",
        "3",
        "--random.draws",
        "2",
        "--dry-run",
    )
    assert "unknown method 'stdart': did you mean 'stdarts'" in refused(
        capsys, "--out", str(out), "--methods", "stdart"
    )


def test_a_killed_run_goes_on_to_the_same_end(done, tmp_path):
    """SIGKILL in mid-epoch, then once more: the very summary of an undisturbed run."""
    asked = study.read(
        read_yaml(done / "study.yaml"), ("", {"seeds": [2], "controls": False}), names=["darts"]
    )
    runs, started, said, ends = runs_of(asked, StudyFolder(tmp_path)), [], [], []
    jobs.write_settings(asked, runs)

    def start(one: Run) -> subprocess.Popen[bytes]:
        started.append(one.next_arguments()[0])
        if len(started) == 2:
            return jobs.start(one)
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "running.py"), "4", *one.next_arguments()],
            stdout=subprocess.DEVNULL,
        )

    execute(runs, jobs=1, stopping=lambda: False, ended=ends.append, say=said.append, start=start)
    assert (
        started == ["search", "resume"] and "signal SIGKILL" in said[0] and ends[0].failure is None
    )

    def essence(path: Path) -> dict:
        found = summary.read(path)
        epochs = {
            name: values
            for name, values in found["epochs"].items()
            if name not in ("seconds", "cpu_seconds")
        }
        return {
            name: found[name]
            for name in ("arm", "seed", "config", "data", "genotype", "final", "benchmark")
        } | epochs

    assert essence(runs[0].summary) == essence(done / "summaries" / "darts-seed2.json")


def test_a_run_that_fails_twice_is_reported(done, tmp_path, capsys, monkeypatch):
    out = committed(done, tmp_path / "failing")
    for path in (out / "summaries").glob("*-seed2.json"):
        path.unlink()
    started = []

    def start(one: Run) -> subprocess.Popen[bytes]:
        started.append(one.name)
        one.log.write_text("all is well\nit broke here\n\n")
        return process("raise SystemExit(3)")

    monkeypatch.setattr(comparing, "execute", partial(execute, start=start, pause=0.01))
    assert main(["compare", *TWO, "--out", str(out)]) == 1
    shown = capsys.readouterr().out
    assert started == ["darts-seed2"] * 2 + ["random-seed2"] * 2
    assert "darts-seed2: failed (exit code 3: it broke here); trying again" in shown
    assert shown.count("FAILED, exit code 3: it broke here") == 2
    numbers = json.loads((out / "compare.json").read_text())
    assert (
        numbers["seeds"] == {"darts": [1], "random": [1]}
        and numbers["mean"]["cifar10_test"]["darts"]["n"] == 1
    )
    assert numbers["failed"] == {
        arm: {"2": "exit code 3: it broke here"} for arm in ("darts", "random")
    }
    assert shown.count(
        "1* (1 failed)"
    ) > 2 and "Failed: darts, seed 2: exit code 3: it broke here; random, seed 2" in " ".join(
        shown.split()
    )
    assert "darts,2,failed,1\n" in (out / "compare.csv").read_text()
    here(monkeypatch)
    assert (
        main(["compare", *TWO[:3], "1", *TWO[4:], "--out", str(out)]) == 0
    )  # the second seed is not asked for, and not forgotten
    assert json.loads((out / "compare.json").read_text())["failed"] == numbers["failed"]
    assert main(["compare", "--data", "digits", "--out", str(out)]) == 0
    assert json.loads((out / "compare.json").read_text())["failed"] == {}


def test_stopping_asks_each_to_save(tmp_path):
    waits = "import signal, time\nsignal.signal(signal.SIGINT, lambda *_: exit(130))\nopen({!r}, 'w')\ntime.sleep(60)"
    runs, asked, ends = [Run("a", seed, StudyFolder(tmp_path)) for seed in (1, 2, 3)], [], []
    started: list[subprocess.Popen[bytes]] = []

    def start(one: Run) -> subprocess.Popen[bytes]:
        started.append(process(waits.format(str(tmp_path / one.name))))
        return started[-1]

    def stopping() -> bool:
        asked.extend([True] * all((tmp_path / one.name).exists() for one in runs[:2]))
        return bool(asked)

    execute(runs, jobs=2, stopping=stopping, ended=ends.append, say=print, start=start, pause=0.01)
    assert [one.returncode for one in started] == [130, 130] and not ends


def test_a_second_interrupt_leaves_no_process(tmp_path):
    started: list[subprocess.Popen[bytes]] = []

    def start(one: Run) -> subprocess.Popen[bytes]:
        started.append(process("import time; time.sleep(60)"))
        return started[-1]

    def stopping() -> bool:
        if started:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        execute(
            [Run("a", 1, StudyFolder(tmp_path))],
            jobs=1,
            stopping=stopping,
            ended=print,
            say=print,
            start=start,
        )
    assert started[0].returncode == -9


def test_what_outlived_its_study_is_waited_for(done, tmp_path):
    """Another process is working in the folder: it is left to end, and then counts."""
    home = StudyFolder(tmp_path)
    shutil.copytree(done / "runs" / "darts-seed1", home.runs / "darts-seed1")
    one, ends = Run("darts", 1, home), []
    with ExitStack() as lock:
        lock.enter_context(one.folder.lock())
        execute(
            [one], jobs=1, stopping=lambda: False, ended=ends.append, say=lambda line: lock.close(),
            start=lambda one: pytest.fail("started"), pause=0.01,
        )  # fmt: skip
    assert ends[0].failure is None and one.is_done


def test_a_damaged_run_ends_alone(done, tmp_path):
    """Finished when nobody watched, and its metrics are cut: it fails by name, the other counts."""
    home = StudyFolder(tmp_path)
    for name in ("darts-seed1", "darts-seed2"):
        shutil.copytree(done / "runs" / name, home.runs / name)
    runs, ends = [Run("darts", seed, home) for seed in (1, 2)], []
    runs[0].folder.genotype.write_text("{")
    execute(
        runs,
        jobs=1,
        stopping=lambda: False,
        ended=ends.append,
        say=print,
        start=lambda one: pytest.fail("started"),
        pause=0,
    )
    assert (
        str(runs[0].folder.genotype) in ends[0].failure
        and ends[1].failure is None
        and runs[1].is_done
    )


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, capsys):
    out = tmp_path / "study"
    arguments = [
        "compare",
        "--methods",
        "darts",
        "--no-controls",
        "--seeds",
        "1",
        *SHARED[:-2],
        "--out",
        str(out),
    ]
    arguments[arguments.index("--search.epochs") + 1] = "5000"
    one = subprocess.Popen(
        [sys.executable, "-m", "archgrad", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    folder = out / "runs" / "darts-seed1"
    while not (folder / "checkpoint.pt").exists() and one.poll() is None:
        sleep(0.05)
    one.send_signal(signal.SIGINT)
    shown, _ = one.communicate(timeout=60)
    assert one.returncode == 130 and "The same command again continues" in shown
    assert "everything is saved" in (out / "runs" / "darts-seed1.log").read_text()
    assert main([*arguments, "--dry-run"]) == 0 and "(goes on)" in capsys.readouterr().out


# what is refused before anything runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "dart"], "unknown method 'dart': did you mean 'darts'?"),
        (["--methods", "darts+rndom"], "unknown method 'rndom': did you mean 'random'?"),
        (["--methods", "darts", "--seeds", "0"], "seeds: a number of at least 1"),
        (["--methods", "darts", "--seeds", "some"], "not 'some'"),
        (["--methods", "darts", "--jobs", "0"], "--jobs"),
        (["--methods", "darts", "--control", "cdarts"], "unknown control arm 'cdarts'"),
        (
            ["--methods", "darts", "--no-controls", "--control", "random"],
            "unknown control arm 'random'",
        ),
        (
            ["--methods", "darts", "--no-controls", "--random.draws", "3"],
            "section 'random' belongs to a method that no arm uses",
        ),
        (["--methods", "darts,random", "--search.epochs", "2"], "arm random: "),
        (
            ["--methods", "darts", "--search.epochs", "2"],
            "(every study has this arm; --no-controls removes it)",
        ),
        (["--methods", "darts", "--retrain-seeds", "-1"], "retrain_seeds: a number"),
        (
            ["--methods", "darts", "--retrain-seeds", "1", "--blind"],
            "retrain_seeds: a blind study reads no test image",
        ),
        (
            ["--methods", "darts", "--retrain-seeds", "1", "--retrain.preset", "fast"],
            "unknown preset 'fast'",
        ),
        (["--methods", "darts", "--space.nodes", "3"], "unknown option 'nodes'"),
        (["--methods", "darts"], "no images are named"),
        (["--methods", "darts", "--data", "nowhere/at/all"], "nowhere/at/all"),
        (["--config", "nowhere.yaml"], "no such file: nowhere.yaml"),
        ([], "which arms?"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments, "--out", "study")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"arms": {"a": {"methd": "darts"}}},
            "arm a: unknown setting 'methd': did you mean 'method'?",
        ),
        (
            {"arms": {"a": {"method": "random", "random": {"draw": 3}}}},
            "arm a: unknown option of random 'draw': did you mean 'draws'?",
        ),
        ({"arms": {"a": {"random": {"draws": 3}}}}, "arm a: "),
        ({"arms": {"a/b": {}}}, "arm 'a/b'"),
        ({"arms": {"a": {"seed": 3}}}, "seed: is the same"),
        ({"arms": {"a": {}}, "seed": 3}, "seed: a study has several seeds"),
        ({"arms": {"a": {}}, "seeds": [1, "two"]}, "seeds: "),
        ({"arms": {"a": {}}, "seeds": []}, "seeds: "),
        ({"arms": ["darts"]}, "arms: "),
        ({"arms": {}}, "which arms?"),
        (
            {"arms": {"a": {}, "b": {"search": {"epochs": 9}}}},
            "arm b: search.epochs is 9, in arm a 50: arms must have equal budgets",
        ),
        ({"arms": {"a": {}}, "equal": "no"}, "equal: true or false, not 'no'"),
        ({"arms": {"a": {}}, "controls": 3}, "controls: true or false, not 3"),
        (
            {"arms": {"a": {}}, "retrain_seeds": "many"},
            "retrain_seeds: a number of retrainings from 0 to",
        ),
        ({"arms": {"a": {}}, "serch": {}}, "unknown setting 'serch': did you mean 'search'?"),
    ],
)
def test_bad_study_files(given, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        study.read(("study.yaml", given))
    assert "\n" not in str(caught.value)


def test_other_settings_are_another_study(done, tmp_path, capsys):
    out = str(committed(done, tmp_path / "study"))
    changed = ["80" if one == "60" else one for one in TWO]
    assert "search.limit is 60 in the study recorded here, not 80" in refused(
        capsys, *changed, "--out", out
    )
    changed = [*TWO[:-1], "1"]
    assert "arm random: random.draws is 2 in the study recorded here, not 1" in refused(
        capsys, *changed, "--out", out
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    assert "holds no study" in refused(capsys, *TWO, "--out", str(tmp_path / "full"))


def test_a_changed_default_or_other_images_are_refused(done, tmp_path, capsys):
    out = committed(done, tmp_path / "study")
    three = [*TWO[:3], "3", *TWO[4:], "--out", str(out)]
    path = out / "summaries" / "darts-seed1.json"
    was = path.read_text()
    changed = was.replace('"momentum": 0.9', '"momentum": 0.8')
    path.write_text(
        re.sub('"fingerprint": "[^"]+"', f'"fingerprint": "{DIGITS_1}"', changed)
    )  # images are looked at first, as recorded once
    assert "arm darts: weights.momentum was" in refused(capsys, *three)
    path.write_text(changed)
    assert "arm darts: weights.momentum was 0.8 in seed 1 and is 0.9 now" in refused(capsys, *three)
    path.write_text(was.replace('"fingerprint": "', '"fingerprint": "0'))
    capsys.readouterr()
    assert (
        main(["compare", *three]) == 2 and "was made with other images" in capsys.readouterr().err
    )
    path.write_text(was[:100])
    assert main(["compare", *three]) == 2 and f"{path} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", CLAIMS, ids=lambda path: path.stem)
def test_the_studies_of_our_claims_can_run(recipe, tmp_path, capsys):
    assert (
        main(["compare", "--config", str(recipe), "--out", str(tmp_path / "study"), "--dry-run"])
        == 0
    )
    lines, asked = capsys.readouterr().out.splitlines(), study.read(read_yaml(recipe))
    assert len(lines) == len(asked.arms) * len(asked.seeds) >= 3 * len(asked.arms) and all(
        line.endswith("(new)") for line in lines
    )
    controls = (
        {"darts", "random"} if asked.controls else {"darts"}
    )  # settings are chosen without the control arm
    assert controls <= set(asked.arms) and not (tmp_path / "study").exists()
