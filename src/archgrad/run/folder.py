"""The run folder: what lies where, who may write, and in what surroundings it was made."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import archgrad
from archgrad.arch.genotype import Genotype
from archgrad.data.schemas import ImagesFile
from archgrad.errors import command, counted
from archgrad.run import config, earlier
from archgrad.run.config import SearchConfig
from archgrad.run.schemas import BudgetResult, GenotypeFile
from archgrad.storage import records, typed_json
from archgrad.storage.files import previous, read_json, write, write_json
from archgrad.storage.folder import (
    CHECKPOINT,
    ESTIMATE,
    METRICS,
    SETTINGS,
    expect,
    leftovers,
    locked,
)

if TYPE_CHECKING:
    import torch

    from archgrad.storage.records import Row


@dataclass(frozen=True)
class RunFolder:
    """Paths only; a part may not be there yet. ``config`` marks a run that began, ``genotype`` one that ended."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def config(self) -> Path:
        """The search with everything resolved: ``archgrad search --config`` repeats it."""
        return self.path / SETTINGS

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
        return self.path / METRICS

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
        return self.path / CHECKPOINT

    @property
    def before(self) -> Path:
        """The checkpoint before the last one."""
        return previous(self.checkpoint)

    @property
    def genotype(self) -> Path:
        """{"genotype": our JSON, "text": the field's notation, "budget": `archgrad.run.budgets.kept`, "searched": `archgrad.run.judgement.Judgement`};
        and "finished": {"epochs", "of", "steps"} where `archgrad finish` ended the search there."""
        return self.path / "genotype.json"

    @property
    def latencies(self) -> Path:
        """The table of latencies that its budget was set by: another measurement would be another search. Not there without such a budget."""
        return self.path / "latency.json"

    @property
    def front(self) -> Path:
        """Cost against validation accuracy: {"cost": name, "unit": ..., "points": [...]}, each with what `archgrad.run.front.Point` has."""
        return self.path / "front.json"

    @property
    def estimate(self) -> Path:
        """What an unfinished run expects: {"left": seconds, "total": seconds, "when": of the epoch, in seconds}"""
        return self.path / ESTIMATE

    def expect(self, left: float, total: float) -> None:
        """Writes it down, for whoever waits for several runs."""
        expect(self.path, left, total)

    @property
    def cells(self) -> Path:
        return self.path / "cells.svg"

    @property
    def curves(self) -> Path:
        return self.path / "curves.svg"

    def check_free(self) -> list[Path]:
        """What a kill left of the `begin` of another run. ValueError if a new run would write over anything else."""
        if self.config.exists():
            raise ValueError(
                f"{self.path} holds a run already: go on with `{command('resume', self.path)}`, or choose another --out"
            )
        return leftovers(self.path, self.config, (self.environment, self.data, self.latencies))

    def begin(
        self,
        environment: dict[str, Any],
        images: dict[str, Any],
        latencies: Callable[[Path], Any],
        settings: str,
    ) -> None:
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
        return settings.model_copy(
            update={"data": settings.data.model_copy(update={"val": settings.data.val or "none"})}
        )

    def found(self) -> Genotype:
        """What the search ended with. ValueError if it has not."""
        if not self.genotype.is_file():
            self.settings()
            more = (
                f", or take what it has now by `{command('finish', self.path)}`"
                if self.checkpoint.exists()
                else ""
            )
            raise ValueError(
                f"the search in {self.path} is not finished: go on with `{command('resume', self.path)}`{more}"
            )
        return Genotype.from_json(self.result()["genotype"])

    def result(self) -> GenotypeFile:
        """What `genotype` holds. ValueError if it is damaged."""
        return typed_json.read(self.genotype, GenotypeFile)

    def images(self) -> ImagesFile:
        """What `data` holds. ValueError if it is damaged."""
        return typed_json.read(self.data, ImagesFile)

    def found_within(self) -> list[BudgetResult]:
        """What the found network costs beside each budget of its search, `archgrad.run.budgets.kept`."""
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
        return next(
            (
                f"stopped early, after epoch {row['epoch'] + 1}: {row['stop']}"
                for row in last
                if row.get("stop")
            ),
            None,
        )

    def finished_by_hand(self) -> str | None:
        """``after epoch 2 of 3``, where `archgrad finish` ended the search there; None where it ended by itself, or not yet."""
        if not self.genotype.is_file() or not (place := self.result().get("finished")):
            return None
        steps = f" and {counted(place['steps'], 'step')}" if place["steps"] else ""
        return f"after epoch {place['epochs']} of {place['of']}{steps}"

    def ended(self) -> list[str]:
        """A line for each reason why a search ended before its last epoch: a rule, or `archgrad finish`."""
        by_hand = self.finished_by_hand()
        return [
            *filter(
                None,
                [self.stopped(), by_hand and f"a stopped search, finished {by_hand} as it was"],
            )
        ]

    def check_reopen(self) -> None:
        """ValueError if this run has no result of `archgrad finish`, or a network was trained of it."""
        self.settings()
        if not self.finished_by_hand():
            raise ValueError(
                f"the search in {self.path} was not ended by `archgrad finish`: leave out --reopen"
            )
        network = self.path / "retrain"
        if network.exists():
            raise ValueError(
                f"{network} holds the network of what was found so far: move it elsewhere before --reopen"
            )

    def reopen(self) -> None:
        """Removes the result that `archgrad finish` wrote, so that the search can go on as if it had never been there."""
        self.genotype.unlink()  # first: without it the run is a stopped one, whatever else is left of the result
        for path in (self.front, self.cells, self.curves):
            path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """ValueError while another process works here. The system lets go of a dead process's lock by itself."""
        with locked(self.path, self.names()):
            yield

    def names(self) -> set[str]:
        """The names of all its files."""
        parts = (
            getattr(self, name)
            for name, kind in vars(RunFolder).items()
            if isinstance(kind, property)
        )
        return {part.name for part in parts}


def default_out(config: SearchConfig) -> Path:
    """runs/METHOD-SPACE-DATA-seedN"""
    images = Path(config.data.path or "data").name
    return Path("runs") / re.sub(
        r"[^\w.+-]", "_", f"{config.method}-{config.space['name']}-{images}-seed{config.seed}"
    )


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
        git = subprocess.run(
            ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return git.stdout.strip() or None
