"""The alphas at the end of every epoch of a run, in one file that is written whole each time, and read by `alphas`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archgrad.data import places
from archgrad.errors import command
from archgrad.retraining.card import DIGEST, digest, read_weights
from archgrad.run.folder import RunFolder
from archgrad.searching.observer import Observer
from archgrad.storage import files, records

if TYPE_CHECKING:
    from torch import Tensor

    from archgrad.arch.edges import Alphas
    from archgrad.searching.types import Data, Method, State
    from archgrad.storage.records import Row
    from archgrad.terminal import Say


def alphas(run: str | Path) -> dict[int, Alphas]:
    """The alphas of a run, epoch by epoch.

    Args:
        run: The run folder.

    Returns:
        Epoch, counted from 0 as in its metrics -> name of a group -> (edges, ops) logits at the end of that epoch, on the CPU; further logits
        of a method under ``group/name``. Where a stage has other edges or ops, the shapes of its epochs are others. An epoch that ended before
        alphas were recorded is not there.

    Raises:
        ValueError: There is no run, no epoch of it has alphas, or their file is damaged.
    """
    folder = RunFolder(places.checked(run, "run"))
    folder.settings()
    if not folder.alphas.exists():
        raise ValueError(
            f"there is no {folder.alphas}: no epoch has ended, or the run was recorded before its alphas were"
        )
    return _read(folder.alphas)


class AlphaRecord(Observer):
    """Adds the alphas of each epoch. On resume those newer than the checkpoint are cut, as rows of the metrics are. ValueError where the file
    is damaged: then it stays as it is."""

    def __init__(self, path: Path, *, epoch: int = 0) -> None:
        self.path = path
        found = _read(path) if path.exists() else {}
        self.epochs = {number: own for number, own in found.items() if number < epoch}
        if len(self.epochs) < len(found):
            self._write()

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.epochs[row["epoch"]] = {
            name: own.detach().cpu().clone() for name, own in state.alphas.items()
        }
        self._write()

    def _write(self) -> None:
        from safetensors.torch import save

        plain = {
            f"{number}/{name}": own
            for number, one in self.epochs.items()
            for name, own in one.items()
        }
        with files.draft(self.path) as file:
            file.write(save(plain, metadata={DIGEST: digest(plain)}))


def set_aside(path: Path, say: Say) -> None:
    """Moves a damaged record beside itself, so that a search can go on without the alphas of its past epochs.

    Args:
        path: The record; it may be missing.
        say: Takes a line where it is damaged.

    Raises:
        OSError: It cannot be moved.
    """
    try:
        _read(path) if path.exists() else None
    except ValueError:
        records.keep(path)
        path.unlink()
        say(f"{path} is damaged and set aside: the alphas of the epochs so far are lost")


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
    for key, own in plain.items():
        number, _, name = key.partition("/")
        if not number.isdecimal() or not name:
            raise ValueError(
                f"{path} is damaged ({key!r} is no epoch and group): restore it from a copy"
            )
        found.setdefault(int(number), {})[name] = own
    return dict(sorted(found.items()))
