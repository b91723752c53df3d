"""The runs of a study, a few at a time.

Each run is an ordinary run folder and a separate process, so that the end of one leaves the others
alone.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

from archgrad.compare import retrained, summary
from archgrad.compare.study import Study
from archgrad.run.folder import RunFolder
from archgrad.storage import files

ATTEMPTS = 2
"""How often a step of a run is tried before the run counts as failed."""
PROGRAM = (sys.executable, "-P", "-m", "archgrad")
"""The command line that starts archgrad."""


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study.

    The summaries are small and may be committed; the run folders contain checkpoints and stay on
    the machine.
    """

    path: Path

    @property
    def study(self) -> Path:
        """The file with the settings of the study."""
        return self.path / "study.yaml"

    @property
    def summaries(self) -> Path:
        """The folder with one summary for each finished run."""
        return self.path / "summaries"

    @property
    def comparison_json(self) -> Path:
        """All numbers of the comparison as JSON."""
        return self.path / "compare.json"

    @property
    def comparison_csv(self) -> Path:
        """All numbers as CSV, one row for each arm, seed and measure."""
        return self.path / "compare.csv"

    @property
    def runs(self) -> Path:
        """The folder with the run folders, their settings and their logs."""
        return self.path / "runs"


@dataclass(frozen=True)
class Run:
    """One search of a study, and the retrainings of its genotype.

    Attributes:
        arm: The arm.
        seed: The seed of the search.
        study_folder: The folder of the study.
        blind: Whether no accuracy of a benchmark is looked up.
        retrain_seeds: Number of retrainings.
    """

    arm: str
    seed: int
    study_folder: StudyFolder
    blind: bool = False
    retrain_seeds: int = 0

    @property
    def name(self) -> str:
        """The name of the run, such as ``darts-seed1``."""
        return f"{self.arm}-seed{self.seed}"

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return RunFolder(self.study_folder.runs / self.name)

    @property
    def settings(self) -> Path:
        """The file with the settings of the search."""
        return self.study_folder.runs / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        """The file with the output of the processes."""
        return self.study_folder.runs / f"{self.name}.log"

    @property
    def summary(self) -> Path:
        """The file with the summary of the finished run."""
        return self.study_folder.summaries / f"{self.name}.json"

    @property
    def is_done(self) -> bool:
        """Whether there is a summary, with all retrainings."""
        return self.summary.exists() and (
            not self.retrain_seeds
            or len(retrained.tests_of(summary.read(self.summary))) >= self.retrain_seeds
        )

    @property
    def place_of_finish(self) -> str | None:
        """When `archgrad finish` ended the search, such as ``after epoch 1 of 2``; otherwise None.

        Such a run is neither done nor failed, because it is shorter than the others.
        """
        return None if self.is_done else self.folder.place_of_finish()

    def state(self) -> str:
        """Return ``done``, ``left out``, ``goes on`` or ``new``."""
        if self.is_done:
            return "done"
        if self.place_of_finish:
            return "left out"
        return "goes on" if self.folder.config.exists() else "new"

    def remaining_steps(self) -> list[list[str]]:
        """Return the words of each remaining step behind ``archgrad``, with absolute paths."""
        folder, settings = self.folder.path.resolve(), self.settings.resolve()
        begun = (
            ["resume", str(folder)]
            if self.folder.config.exists()
            else ["search", "--config", str(settings), "--out", str(folder)]
        )
        left = [one.arguments() for one in retrained.pending(self.folder, self.retrain_seeds)]
        return ([] if self.folder.genotype.exists() else [begun]) + left

    def next_arguments(self) -> list[str]:
        """Return the words of the next step behind ``archgrad``."""
        return next(iter(self.remaining_steps()), ["resume", str(self.folder.path)])

    def command(self) -> str:
        """Return the remaining steps as one line of a shell, which stops at the first failure."""
        return " && ".join(
            shlex.join([*PROGRAM, *arguments]) for arguments in self.remaining_steps()
        )

    def is_busy(self) -> bool:
        """Return whether another process works on this run.

        Such a process was started by an earlier call of the study and outlived it.
        """
        parts = [
            self.folder,
            *(one.folder for one in retrained.pending(self.folder, self.retrain_seeds)),
        ]
        return any(_locked(part) for part in parts if part.path.exists())

    def write_summary(self) -> bool:
        """Write the summary if the search is finished, and return whether the run is done.

        Raises:
            ValueError: A file of the run is damaged.
        """
        if self.folder.genotype.exists() and not self.folder.place_of_finish():
            found = summary.summarise(
                self.folder, self.arm, self.seed, blind=self.blind, retrain_seeds=self.retrain_seeds
            )
            summary.write(self.summary, found)
        return self.is_done

    def last_log_line(self) -> str:
        """Return the last line of the log that is not blank."""
        lines = (
            self.log.read_text("utf-8", errors="replace").splitlines() if self.log.exists() else []
        )
        return next(
            (line.strip() for line in reversed(lines) if line.strip()), "it printed nothing"
        )


def _locked(folder: RunFolder) -> bool:
    """Return whether another process holds the lock of a folder."""
    try:
        with folder.lock():
            return False
    except ValueError:
        return True


def runs_of(study: Study, home: StudyFolder) -> list[Run]:
    """Return the runs of a study: all arms of the first seed, then of the second, and so on.

    In this order a study that is cut short is balanced.
    """
    return [
        Run(arm, seed, home, study.blind, study.retrain_seeds)
        for seed in study.seeds
        for arm in study.arms
    ]


def write_settings(study: Study, runs: Iterable[Run]) -> None:
    """Write the settings of each search, with absolute paths of the images."""
    from archgrad.run import preparing

    for one in runs:
        one.settings.parent.mkdir(parents=True, exist_ok=True)
        settings = study.settings(one.arm, one.seed)
        whole = settings.model_copy(update={"data": preparing.with_absolute_paths(settings.data)})
        files.write(one.settings, whole.to_yaml())


def start(one: Run) -> subprocess.Popen[bytes]:
    """Start the next step of a run as a process.

    The process runs in a new session, so that Ctrl-C in the terminal does not reach it: a second
    signal beside ours would end it before it has saved.
    """
    with files.open_unlinked(one.log) as log:
        return subprocess.Popen(
            [*PROGRAM, *one.next_arguments()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )


@dataclass(frozen=True)
class Ending:
    """The end of a run; ``failure`` is the reason if it failed in every attempt."""

    run: Run
    failure: str | None = None


class Alive(NamedTuple):
    """A running process and the step that it executes."""

    process: subprocess.Popen[bytes]
    step: list[str]


def execute(
    runs: Sequence[Run],
    *,
    jobs: int,
    stopping: Callable[[], bool],
    ended: Callable[[Ending], Any],
    say: Callable[[str], Any],
    start: Callable[[Run], subprocess.Popen[bytes]] = start,
    pause: float = 0.2,
    tick: Callable[[list[Run]], Any] = lambda alive: None,
) -> None:
    """Execute all runs, each step by step, until they are done or the user stops them.

    A failed step is tried `ATTEMPTS` times and continues where it stopped.

    Args:
        runs: The runs.
        jobs: How many of them run at the same time.
        stopping: Returns whether to stop. After that no step begins, the running processes are
            asked to save, and this function returns once they have ended.
        ended: Is called with each run at its end.
        say: Prints a line.
        start: Starts the next step of a run.
        pause: Seconds between two looks at the processes.
        tick: Is called after each pause with the running runs.
    """
    queue = _Queue(deque(runs), jobs, start, ended, say)
    try:
        while queue.alive or (queue.waiting and not stopping()):
            if not queue.stopped and stopping():
                queue.stop()
            if not queue.stopped:
                queue.begin_steps()
            sleep(pause)
            tick(list(queue.alive))
            queue.collect()
    finally:  # after a second Ctrl-C or a bug the processes would go on alone
        queue.kill()


@dataclass
class _Queue:
    """The waiting runs and the running processes of `execute`."""

    waiting: deque[Run]
    jobs: int
    start: Callable[[Run], subprocess.Popen[bytes]]
    on_end: Callable[[Ending], Any]
    say: Callable[[str], Any]
    alive: dict[Run, Alive] = field(default_factory=dict)
    tries: Counter[Run] = field(default_factory=Counter)
    reported: set[Run] = field(default_factory=set)
    stopped: bool = False

    def stop(self) -> None:
        """Ask each running process to save and end."""
        self.stopped = True
        for each in self.alive.values():
            each.process.send_signal(signal.SIGINT)

    def begin_steps(self) -> None:
        """Start the next steps of the first waiting runs, as long as there is a free place."""
        for one in list(self.waiting):
            if len(self.alive) == self.jobs:
                return
            if one.is_busy():
                if one not in self.reported:
                    self.say(
                        f"{one.name}: another process works in {one.folder.path}; waiting for it"
                    )
                self.reported.add(one)
            else:
                self.waiting.remove(one)
                self._begin_step(one)

    def _begin_step(self, one: Run) -> None:
        try:
            done = one.write_summary()  # it may have ended after the study that started it
        except ValueError as error:  # a file of this run is damaged, but not those of the others
            self.on_end(Ending(one, str(error)))
            return
        if done:
            self.on_end(Ending(one))
            return
        self.tries[one] += 1
        step = one.next_arguments()
        self.alive[one] = Alive(self.start(one), step)

    def collect(self) -> None:
        """Handle each process that has ended."""
        for one, (process, step) in list(self.alive.items()):
            if process.poll() is not None:
                del self.alive[one]
                self._end_step(one, process.returncode, step)

    def _end_step(self, one: Run, code: int, step: list[str]) -> None:
        failure = _failure(one, code)
        if failure is None:
            self.on_end(Ending(one))
        elif self.stopped:
            return  # it has saved, and the next call of the study continues it
        elif not code and one.next_arguments() != step:
            # The search is done, and its retrainings follow.
            self.tries[one] = 0
            self.waiting.appendleft(one)
        elif self.tries[one] < ATTEMPTS:
            self.say(f"{one.name}: failed ({failure}); trying again")
            self.waiting.appendleft(one)
        else:
            self.on_end(Ending(one, failure))

    def kill(self) -> None:
        """Kill each process that still runs."""
        for each in self.alive.values():
            each.process.kill()
            each.process.wait()


def _failure(one: Run, code: int) -> str | None:
    """Return why a run is not done after one of its processes, or None if it is done."""
    try:
        if one.write_summary():
            return None
    except ValueError as error:
        return str(error)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}: {one.last_log_line()}"
