"""The record of the alphas at the end of every epoch of a run, in one file.

The file is written whole after each epoch, and `alphas` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archgrad.arguments import named_if_wrong
from archgrad.data import places
from archgrad.errors import command
from archgrad.retraining.card import DIGEST, digest, read_weights
from archgrad.run.folder import RunFolder
from archgrad.searching.observer import Observer
from archgrad.storage import files, records

if TYPE_CHECKING:
    from torch import Tensor

    from archgrad.arch.edges import Alphas
    from archgrad.searching.types import Method, SearchData, State
    from archgrad.storage.records import Row
    from archgrad.terminal import Say


@named_if_wrong
def alphas(run: str | Path) -> dict[int, Alphas]:
    """Read the alphas of a run, epoch by epoch.

    Args:
        run: The run folder.

    Returns:
        Epoch, counted from 0 as in its metrics -> name of a group -> (edges, ops) logits at the
        end of that epoch, on the CPU. Further logits of a method are under ``group/name``. A stage
        with other edges or ops has other shapes. Epochs that ended before alphas were recorded are
        missing.

    Raises:
        ValueError: There is no run, no epoch of it has alphas, or their file is damaged.
    """
    folder = RunFolder(places.as_path(run, "run"))
    folder.read_settings()
    if not folder.alphas.exists():
        raise ValueError(
            f"there is no {folder.alphas}: no epoch has ended, or the run is older than "
            "the records of alphas"
        )
    return _read(folder.alphas)


class AlphaRecord(Observer):
    """An observer that adds the alphas of each epoch to the record."""

    def __init__(self, path: Path, *, epoch: int = 0) -> None:
        """Open the record, and cut alphas that are newer than the checkpoint.

        Args:
            path: The file; it may be missing.
            epoch: The number of epochs that ended before the checkpoint.

        Raises:
            ValueError: The file is damaged. It stays as it is.
        """
        self.path = path
        found = _read(path) if path.exists() else {}
        self.epochs = {number: alphas for number, alphas in found.items() if number < epoch}
        if len(self.epochs) < len(found):
            self._write()

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> None:
        self.epochs[row["epoch"]] = {
            name: logits.detach().cpu().clone() for name, logits in state.alphas.items()
        }
        self._write()

    def _write(self) -> None:
        from safetensors.torch import save

        plain = {
            f"{number}/{name}": logits
            for number, alphas in self.epochs.items()
            for name, logits in alphas.items()
        }
        with files.draft(self.path) as file:
            file.write(save(plain, metadata={DIGEST: digest(plain)}))


def set_aside(path: Path, say: Say) -> None:
    """Rename a damaged record, so that a search can go on without the alphas of its past epochs.

    Args:
        path: The record; it may be missing.
        say: Takes a line if it is damaged.

    Raises:
        OSError: The file cannot be renamed.
    """
    try:
        if path.exists():
            _read(path)
    except ValueError:
        records.keep_damaged(path)
        path.unlink()
        say(f"{path} is damaged and was renamed: the alphas of the epochs so far are lost")


def _read(path: Path) -> dict[int, Alphas]:
    try:
        return _by_epoch(path, read_weights(path))
    except ValueError as error:
        way = command("resume", path.parent, "--repair")
        raise ValueError(
            f"{error}, or go on without the alphas of the epochs so far by `{way}`"
        ) from None


def _by_epoch(path: Path, plain: Mapping[str, Tensor]) -> dict[int, Alphas]:
    found: dict[int, Alphas] = {}
    for key, logits in plain.items():
        number, _, name = key.partition("/")
        if not number.isdecimal() or not name:
            raise files.damaged(path, f"{key!r} is not EPOCH/GROUP")
        found.setdefault(int(number), {})[name] = logits
    return dict(sorted(found.items()))
