"""Rows of metrics and decisions: only a last line that a kill cut is forgiven; all else is named, and mended where that is asked for."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from archgrad.cli import main
from archgrad.compare import summary
from archgrad.compare.measures import measured
from archgrad.compare.trajectory import of_run
from archgrad.observers.interrupts import Interrupted
from archgrad.report import curves_svg
from archgrad.run.folder import RunFolder
from archgrad.run.repairing import repair_metrics
from archgrad.searching.method import Method
from archgrad.storage import records
from pictures import DRAWN, pictures
from retraining import stop_at, trained
from running import SMALL, STEPS, after, outcome, same

ROW = '{{"epoch": {}, "seconds": 1.0}}'
TINY = [*SMALL, "--diagnostics.no-front"]


def written(path: Path, *epochs: int, more: str = "") -> Path:
    path.write_text("".join(ROW.format(epoch) + "\n" for epoch in epochs) + more)
    return path


def epochs(path: Path) -> list[int]:
    return [row["epoch"] for row in records.read_all(path)]


# One file.


@pytest.mark.parametrize("end", ["", '{"epo', '{"epoch": 2, "seconds"\n', "\n", "\x00\x00\x00"])
def test_a_last_line_that_a_kill_cut_is_left_out(tmp_path, end):
    path = written(tmp_path / "m.jsonl", 0, 1, more=end)
    assert epochs(path) == [0, 1] and len(records.read_epochs(path, 2)) == 2


def test_a_last_row_without_its_newline_is_whole(tmp_path):
    assert epochs(written(tmp_path / "m.jsonl", 0, more=ROW.format(1))) == [0, 1]


@pytest.mark.parametrize("line, why", [
    ('{"epo', "no JSON"),
    ("", "no JSON"),
    ("[" * 100_000, "no JSON"),
    ("[1]", "valid dictionary"),
    ("{}", "neither an epoch nor a note"),
    ('{"epoch": "1"}', "epoch: "),
    ('{"epoch": -1}', "epoch: "),
    ('{"epoch": true}', "epoch: "),
    ('{"epoch": 1, "val_accuracy": "high"}', "val_accuracy: "),
    ('{"epoch": 1, "genotype": 3}', "genotype: "),
    ('{"note": [1]}', "note: "),
])  # fmt: skip
def test_a_damaged_line_is_named(tmp_path, line, why):
    path = written(tmp_path / "m.jsonl", 0, more=line + "\n" + ROW.format(2) + "\n")
    with pytest.raises(
        ValueError, match=rf"m\.jsonl, line 2: .*{why}.*archgrad resume {tmp_path} --repair"
    ) as error:
        records.read_measured(path)
    assert "\n" not in str(error.value)


def test_a_flipped_byte_is_named(tmp_path):
    path = written(tmp_path / "m.jsonl", 0, 1, 2)
    path.write_bytes(path.read_bytes().replace(b'"epoch": 1', b'"epoc\xff": 1'))
    with pytest.raises(ValueError, match="line 2: "):
        records.read_measured(path)


@pytest.mark.parametrize(
    "there, line", [((0, 2, 3), 2), ((0, 1, 1, 2), 3), ((1, 0, 2), 1), ((0, 1), 3), ((), 1)]
)
def test_each_epoch_has_one_row_in_order(tmp_path, there, line):
    with pytest.raises(ValueError, match=rf"m\.jsonl, line {line}: "):
        records.read_epochs(written(tmp_path / "m.jsonl", *there), 3)


def test_a_missing_file_is_named_where_epochs_ended(tmp_path):
    with pytest.raises(ValueError, match=r"m\.jsonl: it is missing, and 1 epoch ended"):
        records.read_epochs(tmp_path / "m.jsonl", 1)
    assert (
        records.read_epochs(tmp_path / "m.jsonl", 0) == []
        and records.read_decisions(tmp_path / "d.jsonl", 2) == []
    )


def test_a_repair_keeps_every_good_row_and_the_damaged_file(tmp_path):
    path = written(
        tmp_path / "m.jsonl",
        0,
        more="damaged\n" + ROW.format(2) + "\n" + ROW.format(2) + "\n" + ROW.format(4) + "\n",
    )
    (tmp_path / "m.jsonl.damaged").write_text("of another day")
    before, wanted = path.read_bytes(), [{"epoch": epoch} for epoch in range(4)]
    lost = records.repair(path, wanted, lambda row: row.get("epoch"))
    assert lost == [{"epoch": 1, "missing": True}, {"epoch": 3, "missing": True}]
    assert epochs(path) == [0, 1, 2, 3] and [
        row["epoch"] for row in records.read_measured(path)
    ] == [0, 2]
    assert (tmp_path / "m.jsonl.damaged").read_text() == "of another day"
    assert (tmp_path / "m.jsonl.damaged2").read_bytes() == before
    path.write_bytes(before)  # a kill between the copy and the repair
    records.repair(path, wanted, lambda row: row.get("epoch"))
    assert not (tmp_path / "m.jsonl.damaged3").exists()


def test_a_row_without_a_column_that_readers_need_is_damaged(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"epoch": 0, "genotype": "a"}\n{"epoch": 1}\n{"epoch": 2, "missing": true}\n{"epoch": 3, "genotype": "d"}\n'
    )
    with pytest.raises(ValueError, match=r"m\.jsonl, line 2: it has no genotype"):
        records.read_epochs(path, 4, *records.SEARCH)
    said = []
    repair_metrics(path, 4, said.append, "early", columns=records.SEARCH)
    assert said == [f"{path} is repaired: 2 of 4 rows were lost and are marked as missing"]
    assert [
        row["epoch"] for row in records.measured(records.read_epochs(path, 4, *records.SEARCH))
    ] == [
        0,
        3,
    ]
    repair_metrics(path, 5, said.append, "early", columns=records.SEARCH)
    assert records.read_epochs(path, 5)[-1] == {"epoch": 4, "stop": "early", "missing": True}


# A search.


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A search, and the same one stopped in its third epoch."""
    home = tmp_path_factory.mktemp("records")
    assert main(["search", *TINY, "--out", str(home / "whole")]) == 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            Method, "step", after(2 * STEPS + 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        )
        assert main(["search", *TINY, "--out", str(home / "stopped")]) == 130
    return home


def copied(home: Path, tmp_path: Path, name: str) -> RunFolder:
    shutil.copytree(home / name, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def damage(path: Path, kind: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    if kind == "file":
        path.unlink()
    else:
        path.write_text("".join([lines[0][:40] + "\n", *lines[1:]]))


def bytes_of(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.iterdir() if path.name != "lock"}


def refused(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("kind", ["line", "file"])
def test_a_search_with_a_damaged_row_is_not_touched_and_mended_when_asked(
    home, tmp_path, capsys, kind
):
    folder = copied(home, tmp_path, "stopped")
    damage(folder.metrics, kind)
    before = bytes_of(folder)
    for command in ("resume", "finish") if kind == "line" else ("resume",):
        said = refused(capsys, command, str(folder.path))
        assert str(folder.metrics) in said and f"archgrad resume {folder.path} --repair" in said
        assert "line 1: " in said or kind == "file"
    assert bytes_of(folder) == before
    assert main(["resume", str(folder.path), "--repair"]) == 0
    lost = 2 if kind == "file" else 1
    assert f"is repaired: {lost} of 2 rows were lost" in capsys.readouterr().out
    one, other = outcome(folder.path), outcome(home / "whole")
    assert one["metrics"][:lost] == [{"epoch": epoch, "missing": True} for epoch in range(lost)]
    assert same(one["metrics"][lost:], other["metrics"][lost:])
    assert same({**one, "metrics": 0, "genotype": 0}, {**other, "metrics": 0, "genotype": 0})
    assert json.loads(one["genotype"])["genotype"] == json.loads(other["genotype"])["genotype"]
    kept = folder.path / "metrics.jsonl.damaged"
    assert not kept.exists() if kind == "file" else kept.read_bytes() == before["metrics.jsonl"]


def test_readers_of_a_finished_search_refuse_damage_and_cope_with_what_is_missing(
    home, tmp_path, capsys
):
    folder = copied(home, tmp_path, "whole")
    damage(folder.metrics, "line")
    before = bytes_of(folder)
    for command in (
        ["show"],
        ["derive", "--budget", "macs=50%", "--out", str(tmp_path / "less.json")],
        ["retrain"],
    ):
        assert f"{folder.metrics}, line 1: " in refused(
            capsys, command[0], str(folder.path), *command[1:]
        )
    assert bytes_of(folder) == before and not (tmp_path / "less.json").exists()
    assert (
        main(["resume", str(folder.path), "--repair"]) == 0
        and main(["show", str(folder.path)]) == 0
    )
    after = bytes_of(folder)
    assert {name for name in after if after[name] != before.get(name)} == {
        "metrics.jsonl",
        "metrics.jsonl.damaged",
    }
    assert main(["resume", str(folder.path), "--repair"]) == 0 and bytes_of(folder) == after
    assert "is whole: nothing to repair" in capsys.readouterr().out
    found, whole = (
        summary.summarise(one, "darts", 1) for one in (folder, RunFolder(home / "whole"))
    )
    assert (
        found["missing"] == [0]
        and found["final"] == whole["final"]
        and "missing" not in found["epochs"]
    )
    assert found["epochs"]["genotype"] == [None, *whole["epochs"]["genotype"][1:]]
    assert "seconds" in measured(whole) and "seconds" not in measured(
        found
    )  # a part of the time is no measure
    from archgrad.tabular import nasbench201

    assert of_run(whole, nasbench201) and of_run(found, nasbench201) == []
    with pictures(DRAWN):
        curves_svg(records.read_all(folder.metrics), tmp_path / "curves.svg")


def test_a_finished_search_without_its_metrics_is_named_unless_it_is_cut_down(
    home, tmp_path, capsys
):
    folder = copied(home, tmp_path, "whole")
    folder.metrics.unlink()
    assert f"{folder.metrics}: it is missing" in refused(capsys, "show", str(folder.path))
    folder.checkpoint.unlink()  # a result without all that made it
    assert main(["show", str(folder.path)]) == 0
    folder.previous_checkpoint.unlink()
    assert main(["resume", str(folder.path), "--repair"]) == 0
    assert (
        "metrics.jsonl is missing, and no checkpoint tells which rows it had: nothing to repair"
        in capsys.readouterr().out
    )
    assert not folder.metrics.exists()


def test_a_lost_decision_has_its_note_from_the_checkpoint(tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        main(["search", *TINY, "--method", "random", "--random.draws", "2", "--out", str(out)]) == 0
    )
    folder = RunFolder(out)
    whole = records.read_all(folder.decisions)
    folder.decisions.write_text("damaged\n" + folder.decisions.read_text().partition("\n")[2])
    folder.genotype.unlink()
    assert f"{folder.decisions}, line 1: " in refused(capsys, "resume", str(out))
    assert main(["resume", str(out), "--repair"]) == 0
    found = records.read_all(folder.decisions)
    assert found[0] == {"note": whole[0]["note"], "missing": True} and found[1:] == whole[1:]
    assert summary.summarise(folder, "random", 1)["final"]["validation"] == pytest.approx(
        whole[-1]["note"]["accuracy"], rel=1e-5
    )


# A retraining.


def test_a_retraining_with_a_damaged_row_is_mended_when_asked(tmp_path, capsys):
    folder = RunFolder(tmp_path / "net")
    with pytest.raises(Interrupted):
        trained(folder.path, stopping=stop_at(7), epochs=3)
    folder.metrics.write_text("damaged\n" + ROW.format(1) + "\n")
    before = bytes_of(folder)
    assert f"{folder.metrics}, line 1: " in refused(capsys, "resume", str(folder.path))
    assert bytes_of(folder) == before
    assert main(["resume", str(folder.path), "--repair"]) == 0
    assert epochs(folder.metrics) == [0, 1, 2] and [
        row["epoch"] for row in records.read_measured(folder.metrics)
    ] == [1, 2]
    found = records.read_tested(folder.metrics, 3)
    assert found[-1]["test_accuracy"] > 0
    folder.metrics.write_text("".join(folder.metrics.read_text().splitlines(keepends=True)[:2]))
    assert main(["resume", str(folder.path), "--repair"]) == 0
    with pytest.raises(
        ValueError, match="lost the test accuracy of the last epoch: `archgrad evaluate"
    ):
        records.read_tested(folder.metrics, 3)
