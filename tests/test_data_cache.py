"""The cache of decoded images: whose it is, what is believed of it, and what a kill or a stranger left in it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from archgrad import terminal
from archgrad.compare import jobs
from archgrad.compare.jobs import Run, StudyFolder
from archgrad.cost import process_memory
from archgrad.data import load, load_labelled
from archgrad.data.cache import Facts, _checksum
from archgrad.latency import profile
from archgrad.run.folder import RunFolder
from archgrad.storage import cache_folder, files
from archgrad.storage.cache_folder import default_cache
from image_sets import folder, parquet, silent

SECRET = "somebody's letter"


@pytest.fixture
def root(tmp_path):
    return folder(tmp_path / "set", (40, 40), size=(8, 8))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def only(cache: Path, ending: str) -> Path:
    [path] = cache.glob(f"*.{ending}")
    return path


def said(root: Path, cache: Path | None = None) -> list[str]:
    """Loads the images, and gives the lines about the cache."""
    lines: list[str] = []
    load(root, size=8, cache=cache, report=lines.append)
    return [line for line in lines if "cached" in line]


# damage


@pytest.mark.parametrize("place", [0, 3, 40, 127, 128, 9000, -33 - 32 * 80, -33, -1])
def test_a_flipped_bit_is_found_and_the_images_decoded_again(root, cache, place):
    said(root, cache)
    path = only(cache, "npy")
    whole = path.read_bytes()
    content = bytearray(whole)
    content[place] ^= 1
    path.write_bytes(content)
    assert said(root, cache) == [
        f"the cached images of {root} were damaged: they are decoded again"
    ]
    assert path.read_bytes() == whole and said(root, cache) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:500],
        lambda content: b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000,
        lambda content: content.replace(b"80", b"81", 1),
    ],
)
def test_a_file_of_another_form_is_damaged(root, cache, damage):
    said(root, cache)
    path = only(cache, "npy")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert (
        "were damaged: they are decoded again" in said(root, cache)[0]
        and path.read_bytes() == whole
    )


def test_images_of_an_earlier_version_are_decoded_again(root, cache):
    said(root, cache)
    path = only(cache, "npy")
    whole = path.read_bytes()
    with path.open("wb") as file:
        np.save(file, np.zeros((80, 3, 8, 8), np.uint8))
    assert said(root, cache) == [
        f"the cached images of {root} have no checksum (an earlier version wrote them): they are decoded again"
    ]
    assert path.read_bytes() == whole and np.load(path).shape == (
        80,
        3,
        8,
        8,
    )  # an earlier version reads it still


def test_images_of_another_set_do_not_pass(root, cache, tmp_path):
    said(root, cache)
    path = only(cache, "npy")
    said(folder(tmp_path / "other", (41, 39), size=(8, 8)), tmp_path / "others")
    shutil.copy(only(tmp_path / "others", "npy"), path)
    assert "were damaged" in said(root, cache)[0] and said(root, cache) == []


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{", "[" * 100_000, '{"grey": true}', '{"grey": true, "side": 12.0}', '{"grey": true, "side": 12.0, "checksum": "0"}',
        '{"grey": 1, "side": 12.0, "checksum": "CHECKSUM"}', '{"grey": true, "side": NaN, "checksum": "CHECKSUM"}',
        '{"grey": true, "side": -1.0, "checksum": "CHECKSUM"}', '{"grey": true, "side": "x", "more": 0, "checksum": []}',
    ],
)  # fmt: skip
def test_damaged_facts_are_read_again(root, cache, content):
    said(root, cache)
    path = only(cache, "json")
    whole = path.read_text()
    side = json.loads(content)["side"] if "CHECKSUM" in content else 12.0
    path.write_text(
        content.replace("CHECKSUM", _checksum(path, Facts('"grey": true' in content or 1, side)))
    )
    assert said(root, cache) == [
        f"the cached facts about {root} were damaged: the images are read again"
    ]
    assert path.read_text() == whole and said(root, cache) == []


def test_a_pipe_does_not_hang(root, cache):
    said(root, cache)
    for path in list(cache.iterdir()):
        path.unlink()
        os.mkfifo(path)
    assert len(said(root, cache)) == 2 and said(root, cache) == []
    os.mkfifo(root / "a" / "pipe.png")
    with pytest.raises(ValueError, match=r"a/pipe\.png is no plain file"):
        said(root, cache)


def test_an_evaluation_decodes_damaged_images_again_and_says_so(root, cache, capsys):
    preprocess = load(root, size=8, cache=cache, report=silent).preprocess
    path = only(cache, "npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    load_labelled(root, preprocess, cache=cache)
    said = f"the cached images of {root} were damaged: they are decoded again\n"
    assert path.read_bytes() == whole and capsys.readouterr() == ("", said)
    path.write_bytes(whole[:-1])
    load(root, size=8, cache=cache, report=silent, warn=terminal.say_aside)
    assert capsys.readouterr() == ("", said)


# links and leftovers


def test_planted_links_are_never_written_through(root, cache, tmp_path):
    said(root, cache)
    names, target = [path.name for path in cache.iterdir()], tmp_path / "letter"
    target.write_text(SECRET)
    shutil.rmtree(cache)
    cache.mkdir()
    for name in names:
        for planted in (name, f"{name}.{os.getpid()}.tmp", f"{name}.part"):
            (cache / planted).symlink_to(target)
    said(root, cache)
    assert target.read_text() == SECRET and not any((cache / name).is_symlink() for name in names)
    (cache / names[0]).unlink()
    (cache / names[0]).symlink_to(tmp_path / "nowhere")
    said(root, cache)
    assert not (tmp_path / "nowhere").exists()


def test_links_in_a_run_folder_are_never_written_through(tmp_path):
    run, target = RunFolder(tmp_path / "run"), tmp_path / "letter"
    run.path.mkdir()
    target.write_text(SECRET)
    for name in (
        "lock",
        "environment.json",
        "environment.json.part",
        "metrics.jsonl",
        "checkpoint.pt",
        "checkpoint.pt.part",
    ):
        (run.path / name).symlink_to(target)
    with pytest.raises(OSError, match="lock"), run.lock():
        pass
    files.write_json(run.environment, {"a": 1})
    with pytest.raises(OSError, match=r"metrics\.jsonl"):
        files.append(run.metrics, "{}")
    with files.draft(run.checkpoint) as file:
        file.write(b"state")
    assert target.read_text() == SECRET and run.checkpoint.read_bytes() == b"state"


def test_a_link_as_log_of_a_study_is_refused(tmp_path):
    one, target = Run("darts", 1, StudyFolder(tmp_path / "study")), tmp_path / "letter"
    one.log.parent.mkdir(parents=True)
    target.write_text(SECRET)
    one.log.symlink_to(target)
    with pytest.raises(OSError, match="darts-seed1"):
        jobs.start(one)
    assert target.read_text() == SECRET


def test_what_killed_processes_left_is_removed(root, cache):
    said(root, cache)
    path = only(cache, "npy")
    hour, old = time.time() - 3600, time.time() - 2 * 24 * 3600

    def left(name: str, when: float) -> Path:
        draft = cache / name
        draft.write_bytes(b"half")
        os.utime(draft, (when, when))
        return draft

    gone = [left(f"{path.name}.0123abcd.part", hour), left(f"{path.name}.77.tmp", old)]
    new, earlier = (
        left(f"{path.name}.11111111.part", time.time()),
        left(f"{path.name}.78.tmp", hour),
    )
    strange = [
        left("film.mkv.part", old),
        left("notes.0123abcd.part", old),
        left("notes.77.tmp", old),
    ]
    written = left(f"{path.name}.22222222.part", hour)
    path.unlink()
    with written.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said(root, cache)
    assert not any(draft.exists() for draft in gone) and all(
        draft.exists() for draft in [new, earlier, written, *strange]
    )
    path.unlink()
    said(root, cache)
    assert not written.exists()


def test_a_draft_is_held_while_it_is_written(tmp_path):
    with files.draft(tmp_path / "file"):
        [draft] = tmp_path.iterdir()
        assert files.is_held(draft)
    assert not files.is_held(tmp_path / "file")


# whose it is


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return default_cache()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_default_cache_is_the_user_s_alone(root, home):
    said(root)
    assert mode(home) == 0o700 and mode(home.parent) & 0o055
    shutil.rmtree(home)
    home.mkdir(0o755)  # as an earlier version made it
    said(root)
    assert mode(home) == 0o700 and only(home, "npy").exists()


def test_the_default_cache_may_be_a_link_of_the_user(root, home, tmp_path):
    (tmp_path / "large").mkdir()
    home.parent.mkdir()
    home.symlink_to(tmp_path / "large")
    said(root)
    assert only(tmp_path / "large", "npy").exists() and mode(tmp_path / "large") == 0o700


@pytest.fixture
def stranger(monkeypatch):
    """Makes this process one of another user, as far as it can see."""
    uid = os.getuid()
    return lambda: monkeypatch.setattr(os, "getuid", lambda: uid + 1)


def test_a_default_cache_of_another_user_is_refused(root, home, stranger):
    said(root)
    stranger()
    with pytest.raises(
        ValueError,
        match=r"the cache .*archgrad belongs to another user.*: choose another with --data\.cache",
    ):
        said(root)
    with pytest.raises(ValueError, match="belongs to another user"):
        profile.default_file(profile.Setting("darts", {}, 8, 1, "cpu", "cpu", 1, "2"))
    assert load("digits", report=silent)  # keeps nothing


def test_a_default_cache_behind_a_link_of_another_user_is_refused(
    root, home, tmp_path, monkeypatch
):
    home.parent.mkdir()
    home.symlink_to(tmp_path)
    real = os.stat
    uid = os.getuid() + 1

    def stat(path, *arguments, **options):
        found = real(path, *arguments, **options)
        return (
            found
            if path != home or options.get("follow_symlinks", True)
            else os.stat_result((*found[:4], uid, *found[5:]))
        )

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(ValueError, match="belongs to another user"):
        said(root)


def test_a_cache_that_was_chosen_may_be_another_user_s(root, cache, stranger):
    stranger()
    assert said(root, cache) == said(root, cache) == []


@pytest.fixture
def read_only(monkeypatch):
    """Lets nothing be written any more, as to a disk that is mounted to be read."""

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    return lambda: monkeypatch.setattr(files, "draft", refuse)


def test_without_leave_to_write_images_are_decoded_into_memory(root, cache, read_only):
    whole = load(root, size=8, cache=cache, report=silent)
    pixels, path = whole.train.store.clone(), only(cache, "npy")
    with path.open("wb") as file:
        np.save(file, np.zeros((80, 3, 8, 8), np.uint8))  # of the version before
    only(cache, "json").unlink()
    read_only()
    lines: list[str] = []
    again = load(root, size=8, cache=cache, report=lines.append)
    assert again.fingerprint == whole.fingerprint and again.train.store.equal(pixels)
    said = f"cannot write the cache {cache}: Read-only file system: the images of {root} are decoded into memory, in each run anew"
    assert lines[:2] == [
        f"the cached images of {root} have no checksum (an earlier version wrote them): they are decoded again",
        said,
    ]
    assert load(root, size=8, cache=cache / "new", report=silent).fingerprint == whole.fingerprint


def test_images_too_many_for_the_memory_need_another_cache(root, cache, read_only, monkeypatch):
    read_only()
    monkeypatch.setattr(
        process_memory, "available_bytes", lambda: process_memory.used_bytes() + 20_000
    )
    with pytest.raises(
        ValueError,
        match=r"cannot write the cache .*: Read-only file system; choose another with --data\.cache",
    ):
        said(root, cache)


def test_digits_keep_nothing(home):
    load("digits", report=silent)
    assert not home.exists()


def test_tables_of_the_library_are_the_user_s_alone_even_in_a_shared_cache(
    tmp_path, cache, stranger, monkeypatch
):
    path = parquet(tmp_path / "set.parquet", [0, 1] * 5, ["cat", "dog"])
    own = cache / f"datasets-{os.getuid()}"
    first = load(path, cache=cache, report=silent)
    assert mode(own) == 0o700 and mode(cache) & 0o055
    stranger()
    other = cache / f"datasets-{os.getuid()}"
    with pytest.raises(
        ValueError, match=rf"{other.name} belongs to another user"
    ):  # here one user makes all folders
        load(path, cache=cache, report=silent)
    monkeypatch.setattr(
        cache_folder, "_check_owner", lambda folder: None
    )  # as if it were the second user's
    assert (
        load(path, cache=cache, report=silent).fingerprint == first.fingerprint
        and any(other.iterdir())
        and other != own
    )
