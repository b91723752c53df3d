"""Faults of the machine: each is one line and exit code 1, what was saved before is whole, and the run goes on bit for bit.

Faults are injected into the one place that writes files, at the k-th write; others are real, in processes of their own with limits of their own.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
import torch

from archgrad.cli import faults, main
from archgrad.run import execute
from archgrad.searching import checkpoint
from archgrad.searching.method import Method
from archgrad.searching.progress import SignsOfLife
from archgrad.storage import files
from faults.crashing import Written
from running import outcome, same
from studying import here

TINY = [
    "--data",
    "digits",
    "--space",
    "nasbench201",
    "--space.channels",
    "2",
    "--space.cells",
    "1",
    "--search.limit",
    "20",
]
TINY += [
    "--search.batch",
    "10",
    "--search.epochs",
    "2",
    "--threads",
    "1",
    "--alphas.lr",
    "0.05",
    "--seed",
    "3",
]
TINY += ["--diagnostics.no-front", "--diagnostics.no-gap", "--search.checkpoint-seconds", "1e-9"]
NETWORK = [
    "retrain",
    "DARTS_V2",
    "--data",
    "digits",
    "--threads",
    "1",
    "--retrain.preset",
    "quick",
    "--retrain.epochs",
    "2",
]
NETWORK += [
    "--retrain.limit",
    "50",
    "--retrain.batch",
    "25",
    "--retrain.channels",
    "2",
    "--retrain.cells",
    "3",
]
STUDY = ["compare", *TINY[:-6], "--methods", "darts", "--no-controls", "--seeds", "1"]
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG]


def half(number: int) -> Callable[[Any, Any], int]:
    """A write of which some bytes arrive, as on a disk that fills."""

    def write(file: Any, data: Any) -> int:
        file.write(data[: len(data) // 2])
        raise OSError(number, os.strerror(number))

    return write


@contextmanager
def failing(place: int, number: int, step: str = "write") -> Iterator[list[str]]:
    """The file of that place, counted from 0 over all that is opened for writing, fails in this ``step``; yields what was opened."""
    opened: list[str] = []
    real_open, real_fdopen, real_fsync = os.open, os.fdopen, os.fsync
    bad: set[int] = set()

    def error() -> OSError:
        return OSError(number, os.strerror(number))

    def open_(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT and not str(path).endswith("lock"):
            opened.append(str(path))
            if len(opened) - 1 == place and step == "open":
                raise OSError(number, os.strerror(number), str(path))
        descriptor = real_open(path, flags, *more, **named)
        bad.discard(descriptor)
        if flags & os.O_CREAT and len(opened) - 1 == place and not str(path).endswith("lock"):
            bad.add(descriptor)
        return descriptor

    def fdopen(descriptor: int, *given: Any, **named: Any) -> Any:
        file = real_fdopen(descriptor, *given, **named)
        return Written(file, half(number)) if descriptor in bad and step == "write" else file

    def fsync(descriptor: int) -> None:
        if descriptor in bad and step == "fsync":
            raise error()
        real_fsync(descriptor)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files.os, "open", open_)
        patched.setattr(files.os, "fdopen", fdopen)
        patched.setattr(files.os, "fsync", fsync)
        yield opened


def line(capsys) -> str:
    """Return the text on stderr, which is the one line of a fault."""
    error = capsys.readouterr().err
    assert error.startswith("archgrad: ") and error.count("\n") == 1 and len(error) < 400, error
    return error


def left(folder: Path) -> dict[str, Any]:
    """Return the files of a run without values of a clock."""
    if (folder / "weights.safetensors").exists():
        return {"weights": (folder / "weights.safetensors").read_bytes()}
    return {**outcome(folder), "config": None}


def whole_files(folder: Path) -> None:
    """Each checkpoint that is there can be read, and no draft was left."""
    for path in folder.glob("**/checkpoint*.pt"):
        checkpoint.read(path)
    assert not list(folder.glob("**/*.part"))


class Command:
    """A command, what it leaves undisturbed, and how many files it opens for writing."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.arguments = arguments
        with failing(-1, 0) as opened:
            assert main([*arguments, "--out", str(folder)]) == 0
        self.count, self.left = len(opened), left(folder)

    def fault(self, folder: Path, place: int, number: int, step: str, capsys) -> None:
        """One fault: the line, the state of the folder, and the end of the run that goes on."""
        shutil.rmtree(folder, ignore_errors=True)
        capsys.readouterr()
        with failing(place, number, step) as opened:
            assert main([*self.arguments, "--out", str(folder)]) == 1, (place, number, step)
        said = line(capsys)
        name = Path(opened[place]).name.split(".")[0]
        assert os.strerror(number) in said and f"{folder / name}" in said and "intact" in said, said
        whole_files(folder)
        assert (f"archgrad resume {folder}" in said) == begun(folder)
        self.go_on(folder)

    def go_on(self, folder: Path) -> None:
        """Continue as the printed line says, and compare with the undisturbed run."""
        assert (
            main(
                ["resume", str(folder)]
                if begun(folder)
                else [*self.arguments, "--out", str(folder)]
            )
            == 0
        )
        assert same(left(folder), self.left)


def begun(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in ("config.yaml", "network.json"))


@pytest.fixture(scope="module")
def search(tmp_path_factory) -> Command:
    return Command(["search", *TINY], tmp_path_factory.mktemp("search") / "run")


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Command:
    return Command(NETWORK, tmp_path_factory.mktemp("network") / "run")


def sampled(count: int, tries: int, seed: int) -> list[tuple[int, int, str]]:
    """Places, errors and steps: the places are spread over all of them."""
    draw = Random(seed)
    places = [
        draw.randrange(k * count // tries, max((k + 1) * count // tries, k * count // tries + 1))
        for k in range(tries)
    ]
    return [
        (place, draw.choice(NUMBERS), draw.choice(["open", "write", "fsync"])) for place in places
    ]


@pytest.mark.parametrize("name", ["search", "network"])
def test_a_disk_that_fails_at_some_write(request, tmp_path, capsys, name):
    command = request.getfixturevalue(name)
    for place, number, step in sampled(command.count, 2, seed=1):
        command.fault(tmp_path / "run", place, number, step, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["search", "network"])
@pytest.mark.parametrize("step", ["open", "write", "fsync"])
def test_a_disk_that_fails_at_any_write(request, tmp_path, capsys, name, step):
    command = request.getfixturevalue(name)
    for place in range(command.count):
        command.fault(tmp_path / "run", place, NUMBERS[place % len(NUMBERS)], step, capsys)


def study_fault(tmp_path, capsys, monkeypatch, place: int) -> bool:
    """Check that a study whose disk fills at that place continues by the same command; return whether the place was reached."""
    here(monkeypatch)
    folder = tmp_path / f"study{place}"
    with failing(place, errno.ENOSPC) as opened:
        code = main([*STUDY, "--out", str(folder)])
    if len(opened) <= place:
        return False
    assert code == 1 or (folder / "compare.csv").exists()  # a search that fails is tried twice
    assert "Traceback" not in capsys.readouterr().err
    whole_files(folder)
    assert main([*STUDY, "--out", str(folder)]) == 0 and (folder / "compare.csv").exists()
    assert not list(folder.glob("**/*.part"))
    return True


def test_a_study_on_a_full_disk_goes_on_by_the_same_command(tmp_path, capsys, monkeypatch):
    assert study_fault(tmp_path, capsys, monkeypatch, 9)


@pytest.mark.slow
def test_a_study_on_a_disk_that_fills_at_any_write(tmp_path, capsys, monkeypatch):
    place = 0
    while study_fault(tmp_path, capsys, monkeypatch, place):
        place += 1
    assert place > 10


@pytest.mark.parametrize("error, says", [
    (MemoryError(), "memory has run out (MemoryError)"), (MemoryError("Unable to allocate 3 GiB"), "memory has run out (Unable to"),
    (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"), "memory has run out (Default"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), "memory has run out (CUDA"),
    (RuntimeError("std::bad_alloc"), "memory has run out (std"), (OSError(errno.ENOMEM, "x"), "Cannot allocate memory: close other programs"),
    (RuntimeError("can't start new thread"), "Resource temporarily unavailable: raise the limit on processes"),
    (OSError(errno.EMFILE, "x"), "Too many open files: raise the limit"), (OSError(errno.ENFILE, "x"), "Too many open files in system: close"),
    (ImportError("libx.so: cannot open shared object file: Too many open files"), "Too many open files: raise the limit"),
    (ImportError("libx.so: failed to map segment from shared object"), "Cannot allocate memory: close"),
    (OSError(errno.ENOSPC, "x", "a/b"), "a/b: No space left on device: make room, then give the same command again"),
    (OSError(errno.EDQUOT, "x", b"a/b"), "a/b: Disk quota exceeded: make room within the quota"),
    (OSError(errno.EROFS, "x", "a/b"), "a/b: Read-only file system: make the folder writable"),
    (OSError(errno.EACCES, "x", "a/b"), "a/b: Permission denied: make it readable"),
    (OSError(errno.ENOTCONN, "x", "a/b"), "a/b: Transport endpoint is not connected"),
    (OSError(errno.ENOENT, "x", "a/b"), None), (OSError("of no number"), None), (ValueError("x"), None), (RuntimeError("a bug"), None),
])  # fmt: skip
def test_what_an_error_says_of_the_machine(error, says):
    found = faults.fault_line(error)
    assert (
        found is None
        if says is None
        else found.startswith(says) and "intact" in found and "\n" not in found and len(found) < 300
    )


def test_only_the_files_of_a_run_are_gone_on_with_by_resume(tmp_path):
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "config.yaml").touch()
    for name, onward in (
        ("metrics.jsonl", f"archgrad resume '{tmp_path / 'my run'}'"),
        ("picture.svg", "the same command again"),
    ):
        assert onward in faults.fault_line(
            OSError(errno.ENOSPC, "x", str(tmp_path / "my run" / name))
        )


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("not enough memory")])
def test_memory_that_runs_out_in_a_step_costs_that_step_alone(
    search, tmp_path, capsys, monkeypatch, error
):
    folder, real, count = tmp_path / "run", Method.step, [0]

    def step(*given):
        count[0] += 1
        if count[0] == 2:
            raise error
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(Method, "step", step)
        assert main([*search.arguments, "--out", str(folder)]) == 1
    assert (
        "memory has run out" in line(capsys)
        and checkpoint.read(folder / "checkpoint.pt")["step"] == 1
    )


def test_a_fault_behind_a_complaint_has_the_code_of_a_fault(monkeypatch, capsys):
    """The code that reads images names the image, and not the fault of the machine."""

    def read(cause: Exception) -> None:
        raise ValueError("cannot read the image x.png") from cause

    for cause, code in (
        (OSError(errno.EMFILE, "Too many open files"), 1),
        (OSError(errno.ENOENT, "no"), 2),
        (KeyError("x"), 2),
    ):
        monkeypatch.setattr(Method, "check_space", lambda self, cause=cause: read(cause))
        assert main(["search", "--dry-run", "--data", "digits"]) == code and "x.png" in line(capsys)


def test_a_sign_of_life_that_cannot_be_printed_is_no_traceback():
    """It comes from a thread of its own; the main thread's next line says what is wrong."""
    tried = Event()

    def say(line: str) -> None:
        tried.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patched:
        seen: list[Any] = []
        patched.setattr(threading, "excepthook", seen.append)
        with SignsOfLife(say, seconds=0.01) as alive:
            alive.set_place("reading")
            assert tried.wait(10)
            tried.clear()
            assert tried.wait(10) and not seen


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a bug"), OSError("of no number"), KeyError("x"), ImportError("no module")],
)
def test_bugs_keep_their_tracebacks(monkeypatch, error):
    def broken(*given):
        raise error

    monkeypatch.setattr(Method, "check_space", broken)
    with pytest.raises(type(error)):
        main(["search", "--dry-run", "--data", "digits"])


def test_mistakes_keep_their_code(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert (
        main(
            [
                "latency",
                "--space",
                "nasbench201",
                "--out",
                str(tmp_path / "file" / "x"),
                "--nets",
                "1",
            ]
        )
        == 2
    )
    assert main(["search", "--data", "digits", "--config", str(tmp_path / "none")]) == 2


def full(room: int) -> Callable[[Any, Any], int]:
    """A write onto a disk with ``room`` for so many bytes."""

    def write(file: Any, data: Any) -> int:
        nonlocal room
        room -= len(data)
        return int(file.write(data)) if room >= 0 else half(errno.ENOSPC)(file, data)

    return write


def test_torch_does_not_hide_the_error_of_a_write(tmp_path):
    """In the middle of an archive it raises a RuntimeError of its own instead."""
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"version": 3})
    before = path.read_bytes()
    content = {str(k): torch.zeros(1000) for k in range(20)}
    for room in range(0, 90_000, 9_000):
        real = os.fdopen
        with pytest.MonkeyPatch.context() as patched, pytest.raises(OSError) as error:
            patched.setattr(
                os, "fdopen", lambda *given, real=real, room=room: Written(real(*given), full(room))
            )
            checkpoint.save(path, content)
        assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
        assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == [
            "checkpoint.pt"
        ]


# Real ones, in processes of their own.


def forked(
    log: Path, arguments: list[str], *, limit: str = "", more: int = 0, stdout: str = "/dev/null"
) -> tuple[int, str]:
    """Exit code and stderr of a command in a process of its own. From its first step on it may have ``more`` of what is limited than now."""
    import resource

    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text()
    code = 99
    try:
        for descriptor, place in ((1, stdout), (2, str(log))):
            os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT), descriptor)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        begin = execute.begin

        def limited(*given: Any) -> Any:
            state = begin(*given)
            free = os.dup(0)
            os.close(free)
            used = {
                "RLIMIT_NOFILE": free,
                "RLIMIT_AS": int(Path("/proc/self/statm").read_text().split()[0])
                * resource.getpagesize(),
            }
            kind = getattr(resource, limit)
            resource.setrlimit(kind, (used.get(limit, 0) + more, resource.getrlimit(kind)[1]))
            return state

        if limit:
            execute.begin = limited
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
@pytest.mark.parametrize(
    "command",
    [["count", "DARTS_V2"], ["methods"], ["--help"], ["search", *TINY]],
    ids=lambda command: command[0],
)
def test_standard_output_that_is_full(tmp_path, command):
    more = ["--out", str(tmp_path / "run")] if command[0] == "search" else []
    code, error = forked(tmp_path / "log", [*command, *more], stdout="/dev/full")
    assert (
        code == 1
        and error.startswith("archgrad: standard output: No space left on device")
        and error.count("\n") == 1
    ), error


@pytest.mark.skipif(sys.platform != "linux", reason="limits differ")
@pytest.mark.parametrize(("kind", "more", "says"), [
    ("RLIMIT_FSIZE", 30_000, "checkpoint.pt: File too large: raise the limit"), ("RLIMIT_NOFILE", 1, "Too many open files: raise the limit"),
    ("RLIMIT_AS", 2**16, "memory has run out"),
])  # fmt: skip
def test_limits_of_a_process(search, tmp_path, kind, more, says):
    folder = tmp_path / "run"
    code, error = forked(
        tmp_path / "log", [*search.arguments, "--out", str(folder)], limit=kind, more=more
    )
    assert (
        code == 1 and says in error and error.count("\n") == 1 and error.startswith("archgrad: ")
    ), error
    whole_files(folder)
    search.go_on(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits differ")
@pytest.mark.parametrize("megabytes", [900, 1100, 1300, 1500, 2000, 2500])
def test_address_space_that_runs_out(tmp_path, megabytes):
    """Wherever it runs out: in an import, in a step, in the writing of a checkpoint."""
    large = [
        "search",
        "--data",
        "digits",
        "--space",
        "darts",
        "--space.channels",
        "48",
        "--space.cells",
        "3",
        "--search.epochs",
        "1",
    ]
    large += [
        "--search.limit",
        "600",
        "--search.batch",
        "300",
        "--threads",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    command = [
        "bash",
        "-c",
        f'ulimit -v {megabytes * 1000}; exec "$@"',
        "bash",
        sys.executable,
        "-m",
        "archgrad",
        *large,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "memory" in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 300 kB; skipped where it cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(place)], capture_output=True
    ).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full(search, small_disk, capsys):
    """A real one: what was saved is whole, and once there is room the run goes on."""
    folder, ballast = small_disk / "run", small_disk / "ballast"
    ballast.write_bytes(bytes(150_000))
    assert main([*search.arguments, "--out", str(folder)]) == 1
    assert (
        f"No space left on device: make room, then continue with `archgrad resume {folder}`"
        in line(capsys)
    )
    whole_files(folder)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    assert main(["resume", str(folder)]) == 0 and same(left(folder), search.left)
