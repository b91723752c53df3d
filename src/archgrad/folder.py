"""The run folder: what lies where, who may write, and in what surroundings it was made."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import archgrad
from archgrad import config, earlier, records, schemas
from archgrad.arch import Genotype
from archgrad.config import SearchConfig
from archgrad.errors import command, counted
from archgrad.files import content, is_draft, open_unlinked, previous, read_json, sweep, write, write_json

if TYPE_CHECKING:
    import torch

    from archgrad.loop import Row

LOCK = "lock"
OWNER = b"pid "  # how a lock of ours begins


@dataclass(frozen=True)
class RunFolder:
    """Paths only; a part may not be there yet. ``config`` marks a run that began, ``genotype`` one that ended."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def config(self) -> Path:
        """The search with everything resolved: ``archgrad search --config`` repeats it."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def data(self) -> Path:
        """`Data.summary`: classes, splits, preprocessing, fingerprint."""
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def alphas(self) -> Path:
        """Those at the end of every epoch: `archgrad.alphas` reads them."""
        return self.path / "alphas.safetensors"

    @property
    def decisions(self) -> Path:
        """One JSON line per decision of a finalisation; not there where there was none."""
        return self.path / "decisions.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Everything to go on from; the one before it lies beside it (`before`)."""
        return self.path / "checkpoint.pt"

    @property
    def before(self) -> Path:
        """The checkpoint before the last one."""
        return previous(self.checkpoint)

    @property
    def genotype(self) -> Path:
        """{"genotype": our JSON, "text": the field's notation, "budget": `archgrad.costing.kept`, "searched": `archgrad.judgement.Judgement`};
        and "finished": {"epochs", "of", "steps"} where `archgrad finish` ended the search there."""
        return self.path / "genotype.json"

    @property
    def latencies(self) -> Path:
        """The table of latencies that its budget was set by: another measurement would be another search. Not there without such a budget."""
        return self.path / "latency.json"

    @property
    def front(self) -> Path:
        """Cost against validation accuracy: {"cost": name, "unit": ..., "points": [...]}, each with what `archgrad.front.Point` has."""
        return self.path / "front.json"

    @property
    def estimate(self) -> Path:
        """What an unfinished run expects: {"left": seconds, "total": seconds, "when": of the epoch, in seconds}"""
        return self.path / "estimate.json"

    def expect(self, left: float, total: float) -> None:
        """Writes it down, for whoever waits for several runs."""
        write_json(self.estimate, {"left": left, "total": total, "when": time()})

    @property
    def cells(self) -> Path:
        return self.path / "cells.svg"

    @property
    def curves(self) -> Path:
        return self.path / "curves.svg"

    def check_free(self) -> list[Path]:
        """What a kill left of the `begin` of another run. ValueError if a new run would write over anything else."""
        if self.config.exists():
            raise ValueError(f"{self.path} holds a run already: go on with `{command('resume', self.path)}`, or choose another --out")
        return leftovers(self.path, self.config, (self.environment, self.data, self.latencies))

    def begin(self, environment: dict[str, Any], images: dict[str, Any], latencies: Callable[[Path], Any], settings: str) -> None:
        """Writes the first files of a new run, ``config`` last. Only for whoever holds the lock.

        Args:
            environment: What `environment` says.
            images: `Data.summary`.
            latencies: Writes the table of latencies to a path, if there is one.
            settings: The settings as YAML.

        Raises:
            ValueError: The folder holds anything but what a kill left of such a beginning.
            OSError: A file cannot be written.
        """
        for left in self.check_free():
            left.unlink()  # of a search that may have had other settings
        write_json(self.environment, environment)
        write_json(self.data, images)
        latencies(self.latencies)
        write(self.config, settings)

    def settings(self) -> SearchConfig:
        """ValueError if no run began here, or its settings were damaged."""
        if not self.config.is_file():
            raise ValueError(f"there is no run in {self.path} ({self.config.name} is missing)")
        where, given = config.read_yaml(self.config)
        settings = config.read((where, earlier.as_recorded(given)), recorded=True)
        # a run that named no validation images had none: half of its training images moved the alphas, whatever its folder holds
        return settings.model_copy(update={"data": settings.data.model_copy(update={"val": settings.data.val or "none"})})

    def found(self) -> Genotype:
        """What the search ended with. ValueError if it has not."""
        if not self.genotype.is_file():
            self.settings()
            more = f", or take what it has now by `{command('finish', self.path)}`" if self.checkpoint.exists() else ""
            raise ValueError(f"the search in {self.path} is not finished: go on with `{command('resume', self.path)}`{more}")
        return Genotype.from_json(self.result()["genotype"])

    def result(self) -> schemas.GenotypeFile:
        """What `genotype` holds. ValueError if it is damaged."""
        return schemas.read(self.genotype, schemas.GenotypeFile)

    def images(self) -> schemas.ImagesFile:
        """What `data` holds. ValueError if it is damaged."""
        return schemas.read(self.data, schemas.ImagesFile)

    def found_within(self) -> list[schemas.Kept]:
        """What the found network costs beside each budget of its search, `archgrad.costing.kept`."""
        return list(self.result().get("budget", []))

    def history(self) -> list[Row]:
        """The rows of a finished search, an epoch each, those marked as missing too; none of a run that was cut down to its result.

        Raises:
            ValueError: A line of the metrics is damaged, or the row of an epoch is missing.
        """
        if not self.metrics.exists() and not self.checkpoint.exists():
            return []
        return records.kept(self.metrics, self.epochs(), *records.SEARCH)

    def epochs(self) -> int:
        """How many epochs a finished search has, as far as a file says that may be damaged."""
        if place := read_json(self.genotype, "genotype").get("finished"):
            return int(place["epochs"])
        last = records.good(self.metrics)[-1:]
        stops = next((row["epoch"] + 1 for row in last if row.get("stop")), None)
        return stops or self.settings().search.epochs or 0

    def stopped(self) -> str | None:
        """Why the epochs ended early, and when; None where they did not. ValueError as `history`."""
        last = self.history()[-1:]
        return next((f"stopped early, after epoch {row['epoch'] + 1}: {row['stop']}" for row in last if row.get("stop")), None)

    def finished_by_hand(self) -> str | None:
        """``after epoch 2 of 3``, where `archgrad finish` ended the search there; None where it ended by itself, or not yet."""
        if not self.genotype.is_file() or not (place := self.result().get("finished")):
            return None
        steps = f" and {counted(place['steps'], 'step')}" if place["steps"] else ""
        return f"after epoch {place['epochs']} of {place['of']}{steps}"

    def ended(self) -> list[str]:
        """A line for each reason why a search ended before its last epoch: a rule, or `archgrad finish`."""
        by_hand = self.finished_by_hand()
        return [*filter(None, [self.stopped(), by_hand and f"a stopped search, finished {by_hand} as it was"])]

    def check_reopen(self) -> None:
        """ValueError if this run has no result of `archgrad finish`, or a network was trained of it."""
        self.settings()
        if not self.finished_by_hand():
            raise ValueError(f"the search in {self.path} was not ended by `archgrad finish`: leave out --reopen")
        network = self.path / "retrain"
        if network.exists():
            raise ValueError(f"{network} holds the network of what was found so far: move it elsewhere before --reopen")

    def reopen(self) -> None:
        """Removes the result that `archgrad finish` wrote, so that the search can go on as if it had never been there."""
        self.genotype.unlink()  # first: without it the run is a stopped one, whatever else is left of the result
        for path in (self.front, self.cells, self.curves):
            path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """ValueError while another process works here. The system lets go of a dead process's lock by itself."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open_unlinked(self.path / LOCK, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise ValueError(f"another process ({file.read().strip() or 'unknown'}) is working in {self.path}") from None
            file.write(f"{OWNER.decode()}{os.getpid()} on {platform.node()}\n")
            file.truncate()  # behind the line: at no moment is it a lock that nobody knows as ours
            os.fsync(file.fileno())
            sweep(self.path, self.names())
            yield

    def names(self) -> set[str]:
        """The names of all its files."""
        parts = (getattr(self, name) for name, kind in vars(RunFolder).items() if isinstance(kind, property))
        return {part.name for part in parts}


def leftovers(folder: Path, mark: Path, before: Collection[Path] = ()) -> list[Path]:
    """The files that a kill left in a folder before anything began there.

    Args:
        folder: The folder, which need not exist.
        mark: The file that says that something began.
        before: The files that are written before it, under a lock.

    Returns:
        Drafts of these files, and the files ``before`` themselves where there is a lock of ours.

    Raises:
        ValueError: The folder is a file, or anything else is in it.
    """
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"{folder} is a file: choose another --out")
        return []
    lock, found = folder / LOCK, []
    words = content(lock)[: len(OWNER)] if lock.is_file() and not lock.is_symlink() else None
    for item in folder.iterdir():
        if is_draft(item, [one.name for one in (mark, *before)]) or (words == OWNER and item in before and item.is_file()):
            found.append(item)
        elif item != lock or words is None or not OWNER.startswith(words):  # a kill may have cut the line
            raise ValueError(f"{folder} is not empty and holds no {mark.name}: choose another --out")
    return found


def default_out(config: SearchConfig) -> Path:
    """runs/METHOD-SPACE-DATA-seedN"""
    images = Path(config.data.path or "data").name
    return Path("runs") / re.sub(r"[^\w.+-]", "_", f"{config.method}-{config.space['name']}-{images}-seed{config.seed}")


def environment(device: torch.device | str) -> dict[str, Any]:
    """Versions, commit, machine, threads: what a result may depend on besides its settings."""
    import torch

    device = torch.device(device)
    return {
        "archgrad": archgrad.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "began": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def commit() -> str | None:
    """Of the checkout this package runs from, ``-dirty`` behind it where files were changed; None for an installed package."""
    root = Path(archgrad.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        git = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return git.stdout.strip() or None
