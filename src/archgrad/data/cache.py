"""Every image is decoded once, into one file of bytes per split that later runs map into memory."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from rich.markup import escape
from rich.progress import track
from torch import Tensor

from archgrad import terminal
from archgrad.data.decode import GREY, RULE, decode, read
from archgrad.data.sources import Source

CHUNK = 64
T = TypeVar("T")


class Facts(NamedTuple):
    """What the headers of a source say: is every image grey, and the median of their short sides in pixels."""

    grey: bool
    side: float


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/archgrad``, by default ``~/.cache/archgrad``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archgrad"


def facts(source: Source, cache: Path) -> Facts:
    """Read from the header of every image, once."""
    file = _file(source, cache, "facts", "json")
    if file is not None and file.exists():
        return Facts(**json.loads(file.read_text()))
    headers = [header for chunk in _each(source, "looking at", _header) for header in chunk]
    found = Facts(all(grey for grey, _ in headers), float(median(side for _, side in headers)))
    if file is not None:
        with _atomic(file) as draft:
            draft.write_text(json.dumps(found._asdict()))
    return found


def pixels(source: Source, channels: int, side: int, cache: Path) -> Tensor:
    """uint8 (N, C, side, side): mapped from the cache file, which is written first if it is not there."""
    shape = (len(source), channels, side, side)
    file = _file(source, cache, f"{channels}x{side}", "npy")
    if file is None:
        out = np.empty(shape, np.uint8)
        _fill(out, source)
        return torch.from_numpy(out)
    if not file.exists():
        _check_room(cache, math.prod(shape))
        with _atomic(file) as draft:
            out = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
            _fill(out, source)
            out.flush()
    # copy-on-write: torch wants writable memory, the file stays as it is
    return torch.from_numpy(np.load(file, mmap_mode="c"))


def _fill(out: np.ndarray, source: Source) -> None:
    channels, side = out.shape[1:3]
    start = 0
    for chunk in _each(source, "decoding", lambda image: decode(image, channels, side)):
        out[start : start + len(chunk)] = np.stack(chunk)
        start += len(chunk)


def _header(image: Image.Image) -> tuple[bool, int]:
    return image.mode in GREY, min(image.size)


def _each(source: Source, doing: str, what: Callable[[Image.Image], T]) -> Iterator[list[T]]:
    """``what`` of every image, in order, in chunks; ValueError names an image that cannot be read."""

    def chunk(start: int) -> list[T]:
        indices = range(start, min(start + CHUNK, len(source)))
        return [read(source.where(index), partial(source.open, index), what) for index in indices]

    console = terminal.console(stderr=True)
    quiet = not console.is_terminal or len(source) < 2000
    starts = range(0, len(source), CHUNK)
    # Threads, not processes: decoding and resizing of photos release the interpreter lock, and nothing has to be pickled.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(chunk, starts)
        title = escape(terminal.visible(f"{doing} {source.name}"))
        yield from track(done, title, total=len(starts), console=console, transient=True, disable=quiet)


def _file(source: Source, cache: Path, what: str, suffix: str) -> Path | None:
    if source.key is None:
        return None
    key = hashlib.sha256(f"{RULE} {source.key}".encode()).hexdigest()[:20]
    return cache / f"{key}-{what}.{suffix}"


def _check_room(folder: Path, needed: int) -> None:
    """ValueError before the disk is full: writing to a mapped file beyond it would kill the process."""
    parent = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise ValueError(
            f"the decoded images take {needed / 2**30:.1f} GiB, {folder} has {free / 2**30:.1f} GiB free: choose another --data.cache"
        )


@contextmanager
def _atomic(file: Path) -> Iterator[Path]:
    """A draft that becomes ``file`` in one step at the end, or vanishes: two processes, or a killed one, leave no half file."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        os.replace(draft, file)
    except OSError as error:
        raise ValueError(f"cannot write the cache {file.parent}: {error.strerror}; choose another with --data.cache") from error
    finally:
        with suppress(OSError):
            draft.unlink()
