"""The run folder: its files, its lock, and the environment in which the run was made."""

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
from archgrad.run import config, legacy_defaults
from archgrad.run.budgets import BudgetResult
from archgrad.run.config import SearchConfig
from archgrad.run.schemas import GenotypeFile
from archgrad.storage import records, typed_json
from archgrad.storage.files import previous_path, read_json, write, write_json
from archgrad.storage.folder import (
    CHECKPOINT,
    ESTIMATE,
    METRICS,
    SETTINGS,
    leftovers,
    locked,
    write_estimate,
)

if TYPE_CHECKING:
    import torch

    from archgrad.storage.records import Row


@dataclass(frozen=True)
class RunFolder:
    """The files of a run by their paths. A file need not exist yet.

    A run has begun if ``config`` exists, and it has ended if ``genotype`` exists.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def config(self) -> Path:
        """Return the resolved settings, which ``archgrad search --config`` repeats."""
        return self.path / SETTINGS

    @property
    def environment(self) -> Path:
        """Return the versions and the machine, from `environment`."""
        return self.path / "environment.json"

    @property
    def data(self) -> Path:
        """Return the description of the images, from `Data.summary`."""
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        """Return the metrics, a JSON object on a line for each epoch."""
        return self.path / METRICS

    @property
    def alphas(self) -> Path:
        """Return the alphas at the end of every epoch, which `archgrad.alphas` reads."""
        return self.path / "alphas.safetensors"

    @property
    def decisions(self) -> Path:
        """Return the decisions after the epochs, one on a line. Without any there is no file."""
        return self.path / "decisions.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Return the state from which the search can go on."""
        return self.path / CHECKPOINT

    @property
    def previous_checkpoint(self) -> Path:
        """Return the checkpoint before the last one."""
        return previous_path(self.checkpoint)

    @property
    def genotype(self) -> Path:
        """Return the result (`archgrad.run.schemas.GenotypeFile`).

        It has the genotype as JSON and as text, its cost beside each budget, and the judgement of
        the search. If `archgrad finish` ended the search, it has the place of that end too.
        """
        return self.path / "genotype.json"

    @property
    def latencies(self) -> Path:
        """Return the latency table of a budget of latency. Without such a budget there is no file.

        The run keeps the table because another measurement would make another search of it.
        """
        return self.path / "latency.json"

    @property
    def front(self) -> Path:
        """Return cost and validation accuracy of the networks that the search saw (`FrontFile`)."""
        return self.path / "front.json"

    @property
    def estimate(self) -> Path:
        """Return the seconds that an unfinished run expects to take (`EstimateFile`)."""
        return self.path / ESTIMATE

    def write_estimate(self, left: float, total: float) -> None:
        """Write the expected seconds to `estimate`, where studies of several runs read them."""
        write_estimate(self.path, left, total)

    @property
    def cells(self) -> Path:
        """Return the picture of the genotype."""
        return self.path / "cells.svg"

    @property
    def curves(self) -> Path:
        """Return the picture of the metrics."""
        return self.path / "curves.svg"

    def check_free(self) -> list[Path]:
        """Check that a new run would overwrite nothing.

        Returns:
            The files that an earlier `begin` wrote before it was killed. They may be removed.

        Raises:
            ValueError: The folder holds a run or other files.
        """
        if self.config.exists():
            raise ValueError(
                f"{self.path} holds a run already: go on with `{command('resume', self.path)}`, "
                "or choose another --out"
            )
        return leftovers(self.path, self.config, (self.environment, self.data, self.latencies))

    def begin(
        self,
        environment: dict[str, Any],
        images: dict[str, Any],
        latencies: Callable[[Path], Any],
        settings: str,
    ) -> None:
        """Write the first files of a new run, ``config`` last. The caller must hold the lock.

        Args:
            environment: The content of `environment`.
            images: The content of `data`.
            latencies: Writes the latency table to a path, if there is one.
            settings: The settings as YAML.

        Raises:
            ValueError: The folder holds a run or other files.
            OSError: A file cannot be written.
        """
        for left in self.check_free():
            left.unlink()  # they may belong to other settings
        write_json(self.environment, environment)
        write_json(self.data, images)
        latencies(self.latencies)
        write(self.config, settings)

    def read_settings(self) -> SearchConfig:
        """Read the settings. A ValueError says that there is no run, or that they are damaged."""
        if not self.config.is_file():
            raise ValueError(f"there is no run in {self.path} ({self.config.name} is missing)")
        where, given = config.read_yaml(self.config)
        settings = config.read((where, legacy_defaults.as_recorded(given)), recorded=True)
        # A record that names no validation images had none: half of its training images trained
        # the alphas, even if there is a validation split in the folder of images now.
        return settings.model_copy(
            update={"data": settings.data.model_copy(update={"val": settings.data.val or "none"})}
        )

    def read_genotype(self) -> Genotype:
        """Return the genotype. A ValueError says that the search has not ended."""
        if not self.genotype.is_file():
            self.read_settings()
            more = (
                f", or make its present state the result with `{command('finish', self.path)}`"
                if self.checkpoint.exists()
                else ""
            )
            raise ValueError(
                f"the search in {self.path} is not finished: "
                f"go on with `{command('resume', self.path)}`{more}"
            )
        return Genotype.from_json(self.read_result()["genotype"])

    def read_result(self) -> GenotypeFile:
        """Read the content of `genotype`. A ValueError says that it is damaged."""
        return typed_json.read(self.genotype, GenotypeFile)

    def read_images(self) -> ImagesFile:
        """Read the content of `data`. A ValueError says that it is damaged."""
        return typed_json.read(self.data, ImagesFile)

    def read_budget_results(self) -> tuple[BudgetResult, ...]:
        """Return the cost of the found network beside each budget of its search."""
        return tuple(map(BudgetResult.from_json, self.read_result().get("budget", [])))

    def read_history(self) -> list[Row]:
        """Read the rows of a finished search, one for each epoch, also those marked as missing.

        A run folder that keeps only the result has no rows.

        Raises:
            ValueError: A line of the metrics is damaged, or the row of an epoch is missing.
        """
        if not self.metrics.exists() and not self.checkpoint.exists():
            return []
        return records.read_epochs(self.metrics, self.count_epochs(), *records.SEARCH)

    def count_epochs(self) -> int:
        """Return the number of epochs of a finished search. Damaged metrics are allowed."""
        if place := read_json(self.genotype, "genotype").get("finished"):
            return int(place["epochs"])
        last = records.undamaged(self.metrics)[-1:]
        stops = next((row["epoch"] + 1 for row in last if row.get("stop")), None)
        return stops or self.read_settings().search.epochs or 0

    def early_stop_line(self) -> str | None:
        """Return when and why a rule ended the search early, or None.

        Raises:
            ValueError: As `read_history`.
        """
        last = self.read_history()[-1:]
        return next(
            (
                f"stopped early, after epoch {row['epoch'] + 1}: {row['stop']}"
                for row in last
                if row.get("stop")
            ),
            None,
        )

    def place_of_finish(self) -> str | None:
        """Return where `archgrad finish` ended the search, ``after epoch 2 of 3``, or None."""
        if not self.genotype.is_file() or not (place := self.read_result().get("finished")):
            return None
        steps = f" and {counted(place['steps'], 'step')}" if place["steps"] else ""
        return f"after epoch {place['epochs']} of {place['of']}{steps}"

    def early_end_lines(self) -> list[str]:
        """Return a line for each reason for an early end: a rule, or `archgrad finish`."""
        by_hand = self.place_of_finish()
        reasons = [
            self.early_stop_line(),
            by_hand and f"a stopped search, finished {by_hand} as it was",
        ]
        return [reason for reason in reasons if reason]

    def check_reopen(self) -> None:
        """Check that `archgrad finish` wrote the result, and that no network was trained of it.

        Raises:
            ValueError: One of the two does not hold.
        """
        self.read_settings()
        if not self.place_of_finish():
            raise ValueError(
                f"the search in {self.path} was not ended by `archgrad finish`: leave out --reopen"
            )
        network = self.path / "retrain"
        if network.exists():
            raise ValueError(
                f"{network} holds the network of the present result: "
                "move it elsewhere before --reopen"
            )

    def reopen(self) -> None:
        """Remove the result that `archgrad finish` wrote, so that the search can go on."""
        self.genotype.unlink()  # first, because without it the run counts as stopped
        for path in (self.front, self.cells, self.curves):
            path.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder, or raise a ValueError if another process has locked it.

        The operating system releases the lock of a dead process.
        """
        with locked(self.path, self.file_names()):
            yield

    def file_names(self) -> set[str]:
        """Return the names of all files of a run."""
        parts = (
            getattr(self, name)
            for name, kind in vars(RunFolder).items()
            if isinstance(kind, property)
        )
        return {part.name for part in parts}


def default_out(config: SearchConfig) -> Path:
    """Return the default run folder, ``runs/METHOD-SPACE-DATA-seedN``."""
    images = Path(config.data.path or "data").name
    return Path("runs") / re.sub(
        r"[^\w.+-]", "_", f"{config.method}-{config.space['name']}-{images}-seed{config.seed}"
    )


def environment(device: torch.device | str) -> dict[str, Any]:
    """Return versions, commit, machine and threads: a result may depend on them too."""
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
    """Return the commit of the checkout that this package runs from, or None if it is installed.

    ``-dirty`` at its end means that files were changed.
    """
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
