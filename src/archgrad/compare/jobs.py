"""Many searches, a few at a time, each an ordinary run folder and a process of its own: one that dies takes no other with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from archgrad.compare import summary
from archgrad.compare.study import Study
from archgrad.folder import RunFolder
from archgrad.observers import write_atomically

ATTEMPTS = 2


@dataclass(frozen=True)
class Home:
    """A study's folder. Summaries are small and may be committed; run folders hold checkpoints and stay where they are."""

    path: Path

    @property
    def study(self) -> Path:
        return self.path / "study.yaml"

    @property
    def summaries(self) -> Path:
        return self.path / "summaries"

    @property
    def numbers(self) -> Path:
        return self.path / "compare.json"

    @property
    def runs(self) -> Path:
        return self.path / "runs"


@dataclass(frozen=True)
class Run:
    """One search of a study."""

    arm: str
    seed: int
    home: Home
    blind: bool = False

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}"

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.home.runs / self.name)

    @property
    def settings(self) -> Path:
        return self.home.runs / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        return self.home.runs / f"{self.name}.log"

    @property
    def summary(self) -> Path:
        return self.home.summaries / f"{self.name}.json"

    @property
    def done(self) -> bool:
        return self.summary.exists()

    def state(self) -> str:
        """``done``, ``goes on`` or ``new``"""
        return "done" if self.done else "goes on" if self.folder.config.exists() else "new"

    def arguments(self) -> list[str]:
        """Of the command line ``archgrad``."""
        if self.folder.config.exists():
            return ["resume", str(self.folder.path)]
        return ["search", "--config", str(self.settings), "--out", str(self.folder.path)]

    def busy(self) -> bool:
        """Whether another process is at it: one that outlived the study that started it."""
        if not self.folder.path.exists():
            return False
        try:
            with self.folder.locked():
                return False
        except ValueError:
            return True

    def record(self) -> bool:
        """Writes the summary if the search is finished; whether it is."""
        if self.folder.genotype.exists():
            summary.write(self.summary, summary.summarise(self.folder, self.arm, self.seed, blind=self.blind))
        return self.done

    def last_words(self) -> str:
        """The last line of the log that says something."""
        lines = self.log.read_text("utf-8", errors="replace").splitlines() if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def runs_of(study: Study, home: Home) -> list[Run]:
    """All arms of the first seed, then of the second, and so on: a study cut short is balanced."""
    return [Run(arm, seed, home, study.blind) for seed in study.seeds for arm in study.arms]


def prepared(study: Study, runs: Iterable[Run]) -> None:
    """Writes what each search is told."""
    for one in runs:
        one.settings.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(one.settings, study.settings(one.arm, one.seed).to_yaml())


def start(one: Run) -> subprocess.Popen[bytes]:
    """The search as a process. It hears no Ctrl-C of the terminal, only ours: a second one would stop it before it has saved."""
    with one.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "archgrad", *one.arguments()], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"}, start_new_session=True,
        )  # fmt: skip


@dataclass(frozen=True)
class Ending:
    """How a search ended: well, or for good with ``failure``."""

    run: Run
    failure: str | None = None
    seconds: float = 0.0


def execute(
    runs: Sequence[Run], *, jobs: int, stopping: Callable[[], bool], ended: Callable[[Ending], Any], say: Callable[[str], Any],
    start: Callable[[Run], subprocess.Popen[bytes]] = start, pause: float = 0.2,
) -> None:  # fmt: skip
    """Runs all, ``jobs`` at a time; each that fails is tried `ATTEMPTS` times, from where it stopped.

    ``ended`` hears of each at its end. When ``stopping`` says so nothing is begun, what runs is asked to save, and this returns once it has.
    """
    waiting, alive, tries, asked = deque(runs), dict[Run, tuple[subprocess.Popen[bytes], float]](), Counter[Run](), False
    told: set[Run] = set()
    try:
        while alive or (waiting and not stopping()):
            if stopping() and not asked:
                asked = True
                for process, _ in alive.values():
                    process.send_signal(signal.SIGINT)
            for one in [] if asked else list(waiting):
                if len(alive) == jobs:
                    break
                if one.busy():
                    if one not in told:
                        say(f"{one.name}: another process is working in {one.folder.path}; waiting for it")
                    told.add(one)
                    continue
                waiting.remove(one)
                if one.record():  # it ended when nobody watched
                    ended(Ending(one))
                    continue
                tries[one] += 1
                alive[one] = start(one), monotonic()
            sleep(pause)
            for one, (process, began) in list(alive.items()):
                if process.poll() is None:
                    continue
                del alive[one]
                failure = _failure(one, process.returncode)
                if failure is None:
                    ended(Ending(one, seconds=monotonic() - began))
                elif asked:
                    continue  # it saved and goes on the next time
                elif tries[one] < ATTEMPTS:
                    say(f"{one.name}: failed ({failure}); once more")
                    waiting.appendleft(one)
                else:
                    ended(Ending(one, failure))
    finally:  # a second Ctrl-C, or an error of ours
        for process, _ in alive.values():
            process.kill()
            process.wait()


def _failure(one: Run, code: int) -> str | None:
    try:
        if one.record():
            return None
    except ValueError as error:
        return str(error)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}: {one.last_words()}"
