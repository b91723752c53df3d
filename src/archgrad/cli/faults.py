"""Faults of the machine, each as one line: a full disk, memory that has run out, a folder that cannot be written to any more.

They are told from mistakes of a user, and from bugs of ours, by the exception alone. So the places that write need not know them.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

from archgrad.errors import command, out_of_memory, words

MISTAKES = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""A path that cannot be what it should be: the command is to be mended, not the machine."""
WAYS_OUT = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "make the folder writable",
    errno.EACCES: "make it readable and its folder writable",
    errno.EPERM: "make it readable and its folder writable",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs",
    errno.EAGAIN: "raise the limit on processes (ulimit -u)",
    errno.EIO: "look after the disk",
    errno.ESTALE: "look after the network drive",
}
WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
WORDS = {
    os.strerror(number): number
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
} | {
    "can't start new thread": errno.EAGAIN,
    "failed to map segment": errno.ENOMEM,
}
"""How such a fault is told where only text is left of it: by the loader of compiled modules, by threads."""
STDOUT = "standard output"


def sentence(error: BaseException | None) -> str | None:
    """What an error says of the machine and the way out, on one line; None where it says nothing of it."""
    if error is None:
        return None
    if out_of_memory(error):
        return f"memory has run out ({words(error)}): close other programs, or take smaller batches or networks; what was saved is whole"
    number = error.errno if isinstance(error, OSError) else _told(error)
    if number is None or number in MISTAKES or (number not in WAYS_OUT and _place(error) is None):
        return None
    says, way = os.strerror(number), WAYS_OUT.get(number)
    return ": ".join(
        part
        for part in (_place(error), says, f"{way}, {_onward(error)}" if way else _onward(error))
        if part
    )


def behind(error: BaseException) -> bool:
    """Says whether a fault of the machine caused an error whose text names something else."""
    cause = error.__cause__
    return cause is not None and (sentence(cause) is not None or behind(cause))


def leave_stdout() -> None:
    """Nothing more is written to standard output, where what waits to be written would fail once more when the process ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush() -> None:
    """Writes what waits for standard output now, while its failure can be told. OSError where it cannot be written."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _place(error: BaseException) -> str | None:
    """The file that an error names. Writes to files of ours are all named, so one without a name went to standard output."""
    named = getattr(error, "filename", None)
    if named is None:
        return STDOUT if isinstance(error, OSError) and error.errno in WRITING else None
    return os.fsdecode(named) if isinstance(named, str | bytes) else str(named)


def _onward(error: BaseException) -> str:
    """What to type then."""
    place = _place(error)
    if place is not None and _of_a_run(Path(place)):
        return f"then go on by `{command('resume', Path(place).parent)}`; what it saved before is whole"
    return "then give the same command again; what was saved before is whole"


def _of_a_run(path: Path) -> bool:
    """Whether a search or a retraining writes this file: a picture or a table of another command may lie in its folder, too."""
    from archgrad.retraining.card import CARD, WEIGHTS
    from archgrad.run.folder import RunFolder

    folder = RunFolder(path.parent)
    return path.name in {*folder.names(), CARD, WEIGHTS} and (
        folder.config.exists() or (folder.path / CARD).exists()
    )


def _told(error: BaseException) -> int | None:
    if not isinstance(error, ImportError | RuntimeError):
        return None
    return next((number for told, number in WORDS.items() if told in str(error)), None)
