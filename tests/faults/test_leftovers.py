"""Leftovers of a kill before the beginning never block the same command, and files of others are never touched."""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from pathlib import Path

import pytest

from archgrad.cli import main
from archgrad.cli.comparing import recorded
from archgrad.compare.jobs import StudyFolder
from archgrad.retraining.card import CARD, check_free
from archgrad.run.folder import RunFolder
from archgrad.storage import files
from archgrad.storage.folder import leftovers
from faults.crashing import forked

LOCK = "pid 12 on here\n"


def put(folder: Path, *names: str, lock: str | None = LOCK) -> Path:
    folder.mkdir(exist_ok=True)
    if lock is not None:
        (folder / "lock").write_text(lock)
    for name in names:
        (folder / name).write_text("of the first try")
    return folder


def begin(folder: Path, latency: bool = False) -> None:
    """The beginning of a search, as `run.search` does it."""
    one = RunFolder(folder)
    with one.lock():
        one.begin(
            {"a": 1},
            {"b": 2},
            lambda path: files.write(path, "table") if latency else None,
            "method: darts\n",
        )


DRAFTS = (
    "config.yaml.part",
    "data.json.0123abcd.part",
    "latency.json.part",
)  # an earlier version's had no random part


@pytest.mark.parametrize(
    "there", [(), ("environment.json",), ("environment.json", "data.json", "latency.json"), DRAFTS]
)
def test_a_search_begins_over_the_leftovers_of_a_kill(tmp_path, there):
    """A table of latencies of the first try is gone: the second may have no such budget."""
    begin(put(tmp_path / "run", *there))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.yaml",
        "data.json",
        "environment.json",
        "lock",
    ]
    assert files.read_json(tmp_path / "run" / "data.json") == {"b": 2}


@pytest.mark.parametrize("lock", [None, "", "mine\n"])
@pytest.mark.parametrize("name", ["data.json", "latency.json", "environment.json"])
def test_a_stranger_s_folder_is_refused_and_stays(tmp_path, name, lock):
    folder = put(tmp_path / "run", name, lock=lock)
    with pytest.raises(
        ValueError, match=r"is not empty and holds no config\.yaml: choose another --out"
    ):
        RunFolder(folder).check_free()
    with pytest.raises(ValueError, match="is not empty"):
        RunFolder(folder).begin({}, {}, lambda path: None, "")
    assert (folder / name).read_text() == "of the first try"


@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg",
        "film.mkv.part",
        "film.0123abcd.part",
        "metrics.jsonl",
        "checkpoint.pt",
        "genotype.json",
    ],
)
def test_what_no_beginning_leaves_is_refused(tmp_path, name):
    """A result whose settings somebody removed is one of these."""
    folder = put(tmp_path / "run", name)
    for check in (
        RunFolder(folder).check_free,
        partial(check_free, folder),
        partial(recorded, StudyFolder(folder)),
    ):
        with pytest.raises(ValueError, match="is not empty"):
            check()
    assert (folder / name).exists()


def test_names_of_ours_that_are_no_files_are_refused(tmp_path):
    folder = put(tmp_path / "run")
    (folder / "data.json").mkdir()
    with pytest.raises(ValueError, match="is not empty"):
        RunFolder(folder).check_free()
    (folder / "data.json").rmdir()
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(put(tmp_path / "other") / "lock")
    with pytest.raises(ValueError, match="is not empty"):
        RunFolder(folder).check_free()


@pytest.mark.parametrize("words", ["", "pi", "pid 1", "pid 12 on he"])
def test_a_lock_that_a_kill_cut_is_no_obstacle(tmp_path, words):
    folder = put(tmp_path / "run", lock=words)
    assert leftovers(folder, folder / CARD) == []
    begin(folder)


def killed(work, last: int, folder: Path) -> int:
    """The exit code of a process that dies before its place of that number on the disk."""
    from faults.crashing import Disk

    disk = Disk(folder, last)
    return forked(lambda: (disk.watch(), work(folder)), folder.parent / "log")


def test_a_kill_at_any_place_before_the_settings_is_no_obstacle(tmp_path):
    place = 0
    while killed(partial(begin, latency=True), place, folder := tmp_path / f"run{place}"):
        if not (folder / "config.yaml").exists():
            begin(folder)
            assert sorted(path.name for path in folder.iterdir()) == [
                "config.yaml",
                "data.json",
                "environment.json",
                "lock",
            ]
        place += 1
    assert place > 25


def test_a_kill_at_any_place_before_the_card_is_no_obstacle(tmp_path):
    def card(folder: Path) -> None:
        with RunFolder(folder).lock():
            for left in check_free(folder):
                left.unlink()
            files.write(folder / CARD, "{}")

    place = 0
    while killed(card, place, folder := tmp_path / f"net{place}"):
        if not (folder / CARD).exists():
            card(folder)
            assert sorted(path.name for path in folder.iterdir()) == ["lock", CARD]
        place += 1
    assert place > 8


@pytest.mark.parametrize("name", ["study.yaml.part", "study.yaml.0123abcd.part"])
def test_a_study_begins_over_its_draft(tmp_path, name):
    home = StudyFolder(put(tmp_path / "study", name, lock=None))
    assert recorded(home) is None


def test_drafts_of_a_study_are_removed_by_whoever_comes_first(tmp_path):
    summaries, draft = put(tmp_path / "summaries", lock=None), "darts-seed1.json.0123abcd.part"
    put(summaries, draft, "film.mkv.part", lock=None)
    with files.sharing(tmp_path):
        assert [path.name for path in summaries.iterdir()] == ["film.mkv.part"]
        put(summaries, draft, lock=None)  # which is being written now
        with files.sharing(tmp_path):
            assert (summaries / draft).exists()


def test_a_draft_that_a_process_still_writes_stays(tmp_path):
    run = put(tmp_path / "run", "metrics.jsonl.0123abcd.part", lock=None)
    with files.draft(
        run / "checkpoint.pt"
    ) as file:  # by a process that resumes this run of a study
        file.write(b"half")
        with files.sharing(tmp_path):
            assert [re.sub(r"\.[0-9a-f]{8}\.", ".", path.name) for path in run.iterdir()] == [
                "checkpoint.pt.part"
            ]
    assert (run / "checkpoint.pt").read_bytes() == b"half"


def test_whoever_holds_the_lock_removes_drafts_of_ours_alone(tmp_path):
    names = ("checkpoint.pt.0123abcd.part", "checkpoint.pt.part", "film.mkv.part", "notes.part")
    folder = put(tmp_path / "run", *names)
    with RunFolder(folder).lock():
        assert sorted(path.name for path in folder.iterdir()) == [
            "film.mkv.part",
            "lock",
            "notes.part",
        ]
    assert (folder / "lock").read_text().startswith(f"pid {os.getpid()} on ")


def test_a_longer_line_in_the_lock_leaves_nothing_behind(tmp_path):
    folder = put(tmp_path / "run", lock="pid 1234567890 on " + 200 * "x" + "\n")
    with RunFolder(folder).lock():
        assert (folder / "lock").read_text().count("\n") == 1
    assert leftovers(folder, RunFolder(folder).config) == []


def test_a_stranger_s_folder_is_refused_by_the_commands(tmp_path, capsys):
    folder = put(tmp_path / "run", "metrics.jsonl", "weights.safetensors", lock=None)
    small = ["--data", "digits", "--space", "nasbench201"]
    for command in (
        ["search", *small],
        ["retrain", "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|", *small],
        ["compare", *small],
    ):
        assert main([*command, "--out", str(folder)]) == 2
        assert "is not empty" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"metrics.jsonl", "weights.safetensors"}


def test_a_signal_number_of_the_harness_is_that_of_a_kill(tmp_path):
    """The harness itself: a child that is killed is told from one that ends."""
    assert forked(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path / "log") == -signal.SIGKILL
    assert forked(lambda: None, tmp_path / "log") == 0
