"""Many runs, a few at a time, each an ordinary run folder and processes of its own: one that dies takes no other with it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

from archgrad.compare import retrained, summary
from archgrad.compare.study import Study
from archgrad.run.folder import RunFolder
from archgrad.storage import files

ATTEMPTS = 2
PROGRAM = (sys.executable, "-P", "-m", "archgrad")


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
    def table(self) -> Path:
        return self.path / "compare.csv"

    @property
    def runs(self) -> Path:
        return self.path / "runs"


@dataclass(frozen=True)
class Run:
    """One search of a study, and the retrainings of what it finds."""

    arm: str
    seed: int
    home: Home
    blind: bool = False
    retrain_seeds: int = 0

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
        return self.summary.exists() and (
            not self.retrain_seeds
            or len(retrained.tests_of(summary.read(self.summary))) >= self.retrain_seeds
        )

    @property
    def left_out(self) -> str | None:
        """Where `archgrad finish` ended its search: it is neither done nor has it failed, for it is shorter than the others."""
        return None if self.done else self.folder.finished_by_hand()

    def state(self) -> str:
        """``done``, ``left out``, ``goes on`` or ``new``"""
        return (
            "done"
            if self.done
            else "left out"
            if self.left_out
            else "goes on"
            if self.folder.config.exists()
            else "new"
        )

    def steps(self) -> list[list[str]]:
        """All that is left to do, each as arguments of the command line ``archgrad``; paths whole, so that they work from anywhere."""
        folder, settings = self.folder.path.resolve(), self.settings.resolve()
        begun = (
            ["resume", str(folder)]
            if self.folder.config.exists()
            else ["search", "--config", str(settings), "--out", str(folder)]
        )
        left = [one.arguments() for one in retrained.pending(self.folder, self.retrain_seeds)]
        return ([] if self.folder.genotype.exists() else [begun]) + left

    def arguments(self) -> list[str]:
        """The next of its `steps`."""
        return next(iter(self.steps()), ["resume", str(self.folder.path)])

    def command(self) -> str:
        """All its steps as one line of a shell, each if the one before it ended well."""
        return " && ".join(shlex.join([*PROGRAM, *arguments]) for arguments in self.steps())

    def busy(self) -> bool:
        """Whether another process is at it: one that outlived the study that started it."""
        parts = [
            self.folder,
            *(one.folder for one in retrained.pending(self.folder, self.retrain_seeds)),
        ]
        return any(_locked(part) for part in parts if part.path.exists())

    def record(self) -> bool:
        """Writes the summary if the search is finished, with the retrainings that are; whether nothing is left to do."""
        if self.folder.genotype.exists() and not self.folder.finished_by_hand():
            found = summary.summarise(
                self.folder, self.arm, self.seed, blind=self.blind, retrain_seeds=self.retrain_seeds
            )
            summary.write(self.summary, found)
        return self.done

    def last_words(self) -> str:
        """The last line of the log that says something."""
        lines = (
            self.log.read_text("utf-8", errors="replace").splitlines() if self.log.exists() else []
        )
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _locked(folder: RunFolder) -> bool:
    try:
        with folder.locked():
            return False
    except ValueError:
        return True


def runs_of(study: Study, home: Home) -> list[Run]:
    """All arms of the first seed, then of the second, and so on: a study cut short is balanced."""
    return [
        Run(arm, seed, home, study.blind, study.retrain_seeds)
        for seed in study.seeds
        for arm in study.arms
    ]


def prepared(study: Study, runs: Iterable[Run]) -> None:
    """Writes what each search is told, its images by their whole path."""
    from archgrad.run import preparing

    for one in runs:
        one.settings.parent.mkdir(parents=True, exist_ok=True)
        told = study.settings(one.arm, one.seed)
        files.write(
            one.settings, told.model_copy(update={"data": preparing.settled(told.data)}).to_yaml()
        )


def start(one: Run) -> subprocess.Popen[bytes]:
    """The next step of a run as a process. It hears no Ctrl-C of the terminal, only ours: a second one would stop it before it has saved."""
    with files.open_unlinked(one.log) as log:
        return subprocess.Popen(
            [*PROGRAM, *one.arguments()], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"}, start_new_session=True,
        )  # fmt: skip


@dataclass(frozen=True)
class Ending:
    """How a run ended: well, or for good with ``failure``."""

    run: Run
    failure: str | None = None


class Alive(NamedTuple):
    process: subprocess.Popen[bytes]
    step: list[str]


def execute(
    runs: Sequence[Run], *, jobs: int, stopping: Callable[[], bool], ended: Callable[[Ending], Any], say: Callable[[str], Any],
    start: Callable[[Run], subprocess.Popen[bytes]] = start, pause: float = 0.2,
    tick: Callable[[list[Run]], Any] = lambda alive: None,
) -> None:  # fmt: skip
    """Runs all, ``jobs`` at a time, each step by step; a step that fails is tried `ATTEMPTS` times, from where it stopped.

    ``ended`` hears of each at its end, ``tick`` of those that run, every ``pause`` seconds. When ``stopping`` says so nothing is begun,
    what runs is asked to save, and this returns once it has.
    """
    waiting, alive, tries, asked = deque(runs), dict[Run, Alive](), Counter[Run](), False
    told: set[Run] = set()
    try:
        while alive or (waiting and not stopping()):
            if stopping() and not asked:
                asked = True
                for each in alive.values():
                    each.process.send_signal(signal.SIGINT)
            for one in [] if asked else list(waiting):
                if len(alive) == jobs:
                    break
                if one.busy():
                    if one not in told:
                        say(
                            f"{one.name}: another process is working in {one.folder.path}; waiting for it"
                        )
                    told.add(one)
                    continue
                waiting.remove(one)
                try:
                    done = one.record()  # it ended when nobody watched
                except ValueError as error:  # a file of this run is damaged: the others go on
                    ended(Ending(one, str(error)))
                    continue
                if done:
                    ended(Ending(one))
                    continue
                tries[one] += 1
                step = one.arguments()
                alive[one] = Alive(start(one), step)
            sleep(pause)
            tick(list(alive))
            for one, (process, step) in list(alive.items()):
                if process.poll() is None:
                    continue
                del alive[one]
                failure = _failure(one, process.returncode)
                if failure is None:
                    ended(Ending(one))
                elif asked:
                    continue  # it saved and goes on the next time
                elif (
                    not process.returncode and one.arguments() != step
                ):  # the search is done, now its retrainings
                    tries[one] = 0
                    waiting.appendleft(one)
                elif tries[one] < ATTEMPTS:
                    say(f"{one.name}: failed ({failure}); once more")
                    waiting.appendleft(one)
                else:
                    ended(Ending(one, failure))
    finally:  # a second Ctrl-C, or an error of ours
        for each in alive.values():
            each.process.kill()
            each.process.wait()


def _failure(one: Run, code: int) -> str | None:
    try:
        if one.record():
            return None
    except ValueError as error:
        return str(error)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}: {one.last_words()}"
