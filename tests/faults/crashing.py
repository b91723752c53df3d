"""This module kills a command in a forked process at any place where it touches the disk, and continues it in another process.

`Disk` stands before ``os`` in such a process and counts the places: each file that is made, the first write into it (half of the bytes arrive),
each flush to the disk, before and after each rename and each removal. At one of them the process ends by ``os._exit``, so that nothing of ours
runs any more. A file below the folder that is opened for writing in another way ends the process with an error: that place would be missed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archgrad.searching import checkpoint
from running import same

DIED, BYPASSED = 77, 78
UNTIMED = ("seconds", "cpu_seconds", "began")
Work = Callable[[Path], object]


@dataclass(frozen=True)
class Command:
    """``begin`` writes into a folder, and ``again`` continues there after a kill. The file ``mark`` exists once the command has finished."""

    begin: Work
    again: Work
    mark: str


@dataclass
class Disk:
    """Counts the places at which files below ``root`` are touched, and dies at the one of number ``last``, counted from 0."""

    root: Path
    last: int = -1
    places: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    ours: bool = False

    def at(self, place: str) -> bool:
        """Return whether the process dies here. It ends at once unless the caller has something to do first (`torn`)."""
        self.places.append(place)
        return len(self.places) - 1 == self.last

    def pass_by(self, place: str) -> None:
        if self.at(place):
            os._exit(DIED)

    def watch(self) -> None:
        """Replace the functions of ``os`` in this process from now on."""
        real = {
            name: getattr(os, name) for name in ("open", "fdopen", "fsync", "replace", "unlink")
        }

        def opened(path: Any, flags: int, mode: int = 0o777, **given: Any) -> int:
            self.ours = True
            found = real["open"](path, flags, mode, **given)
            self.ours = False
            if name := self.name(path):
                self.names[found] = name
                if flags & os.O_CREAT:
                    self.pass_by(f"made {name}")
            return int(found)

        def wrapped(descriptor: int, *given: Any, **named: Any) -> Any:
            file = real["fdopen"](descriptor, *given, **named)
            return (
                Written(file, torn(self.names[descriptor], self))
                if descriptor in self.names
                else file
            )

        def flushed(descriptor: int) -> None:
            if descriptor in self.names:
                self.pass_by(f"before fsync of {self.names[descriptor]}")
            real["fsync"](descriptor)

        def around(kind: str) -> Callable[..., None]:
            def act(path: Any, *more: Any, **given: Any) -> None:
                name = self.name(more[0] if more else path)
                if name and (more or os.path.lexists(path)):
                    self.pass_by(f"before {kind} of {name}")
                real[kind](path, *more, **given)
                if name:
                    self.pass_by(f"after {kind} of {name}")

            return act

        os.open, os.fdopen, os.fsync = opened, wrapped, flushed  # type: ignore[assignment]
        os.replace, os.unlink = around("replace"), around("unlink")  # type: ignore[assignment]
        sys.addaudithook(self.hear)

    def hear(self, event: str, given: tuple[Any, ...]) -> None:
        """Receive every file that Python opens. The count misses a file for writing that ``os.open`` did not open."""
        if (
            event == "open"
            and not self.ours
            and self.name(given[0])
            and given[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            print("opened past the count:", given, file=sys.stderr, flush=True)
            os._exit(BYPASSED)

    def name(self, path: Any) -> str | None:
        """Of a file below the root, without what is random in a draft's; None for any other."""
        if not isinstance(path, str | os.PathLike) or not Path(path).is_relative_to(self.root):
            return None
        return re.sub(r"\.[0-9a-f]{8}\.part$", " (draft)", str(Path(path).relative_to(self.root)))


def torn(name: str, disk: Disk) -> Callable[[Any, Any], int]:
    """Return a write that may be cut in the middle, and a line that may be cut before its end."""
    written = False

    def write(file: Any, data: Any) -> int:
        nonlocal written
        if not written:
            written = True
            for place, length in (
                ("half of", len(data) // 2),
                ("all but the end of", len(data) - 1),
            ):
                if disk.at(f"{place} {name} written"):
                    file.write(data[:length])
                    file.flush()
                    os._exit(DIED)
        return int(file.write(data))

    return write


class Written:
    """A file that is written to by another function: ``write(file, data)`` takes the place of ``file.write(data)``."""

    def __init__(self, file: Any, write: Callable[[Any, Any], int]) -> None:
        self.file, self.instead = file, write

    def write(self, data: Any) -> int:
        return self.instead(self.file, data)

    def __enter__(self) -> Written:
        self.file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def forked(work: Callable[[], object], log: Path) -> int:
    """The exit code of ``work`` in a process of its own; what it prints is appended to ``log``."""
    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        sys.stdout = sys.stderr = log.open("a")
        work()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


@dataclass(frozen=True)
class Whole:
    """The files that an undisturbed run left, and the places at which it touched the disk."""

    command: Command
    home: Path
    content: dict[str, Any]
    places: list[str]

    def fault(self, last: int) -> str | None:
        """Return the difference after a kill at that place and a second run that continues; None if there is none."""
        folder, log = self.home / "run", self.home / "log"
        shutil.rmtree(folder, ignore_errors=True)
        log.write_text("")
        place = f"killed at {last}: {self.places[last]}"
        disk = Disk(folder, last)
        if (code := forked(lambda: (disk.watch(), self.command.begin(folder)), log)) != DIED:
            return f"{place}: ended with {code}\n{log.read_text()}"
        if (folder / self.command.mark).exists() and (
            different := differences(self.content, contents(folder, drafts=False))
        ):
            return f"{place}: {self.command.mark} is there, but not all is whole: {different}"
        if code := forked(lambda: self.command.again(folder), log):
            return f"{place}: going on ended with {code}\n{log.read_text()}"
        different = differences(self.content, contents(folder))
        return f"{place}: {different}" if different else None


def whole(command: Command, home: Path) -> Whole:
    """Run a command undisturbed in ``home``."""
    folder, log, counted = home / "run", home / "log", home / "places.json"
    disk = Disk(folder)

    def work() -> None:
        disk.watch()
        command.begin(folder)
        counted.write_text(json.dumps(disk.places))

    code = forked(work, log)
    assert code == 0, log.read_text()
    return Whole(command, home, contents(folder), json.loads(counted.read_text()))


def contents(folder: Path, *, drafts: bool = True) -> dict[str, Any]:
    """Return all files of a folder without locks and without values of a clock; with ``drafts`` unfinished files too."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {
        str(path.relative_to(folder)): content(path)
        for path in paths
        if drafts or path.suffix != ".part"
    }


def content(path: Path) -> Any:
    if path.suffix == ".pt":
        return checkpoint.read(path)
    if path.suffix == ".json":
        return untimed(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [untimed(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        return [line for line in path.read_text().splitlines() if "seconds" not in line]
    return path.read_bytes()


def untimed(value: Any) -> Any:
    """A JSON value without the entries that a clock decides."""
    if isinstance(value, dict):
        return {
            key: untimed(one)
            for key, one in value.items()
            if key not in UNTIMED and not key.endswith("seconds_times")
        }
    return [untimed(one) for one in value] if isinstance(value, list) else value


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the files that only one of two folders has, or that differ."""
    return sorted(
        name
        for name in one.keys() | other.keys()
        if name not in one or name not in other or not same(one[name], other[name])
    )
