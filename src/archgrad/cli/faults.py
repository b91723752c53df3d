"""Faults of the machine, each as one line: a full disk, exhausted memory, a read-only folder.

The exception alone tells them from mistakes of a user and from bugs of archgrad, so the code that
writes files needs no handling of its own.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

from archgrad.errors import command, is_out_of_memory, one_line

MISTAKES = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""Errors of a wrong path: the user must correct the command, not the machine."""
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
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network drive",
}
WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
WORDS = {
    os.strerror(number): number
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
} | {
    "can't start new thread": errno.EAGAIN,
    "failed to map segment": errno.ENOMEM,
}
"""Texts of such faults in errors without a number: those of the dynamic loader and of threads."""
STDOUT = "standard output"


def fault_line(error: BaseException | None) -> str | None:
    """Return one line with the fault of the machine and its remedy.

    The result is None if the error is no fault of the machine.
    """
    if error is None:
        return None
    if is_out_of_memory(error):
        return (
            f"memory has run out ({one_line(error)}): close other programs, or use smaller batches "
            "or networks; the saved files are intact"
        )
    number = error.errno if isinstance(error, OSError) else _number_in_text(error)
    if number is None or number in MISTAKES or (number not in WAYS_OUT and _place(error) is None):
        return None
    remedy, next_step = WAYS_OUT.get(number), _next_step(error)
    parts = (_place(error), os.strerror(number), f"{remedy}, {next_step}" if remedy else next_step)
    return ": ".join(part for part in parts if part)


def caused_by_fault(error: BaseException) -> bool:
    """Return whether a fault of the machine caused an error whose text names something else."""
    cause = error.__cause__
    return cause is not None and (fault_line(cause) is not None or caused_by_fault(cause))


def leave_stdout() -> None:
    """Redirect standard output to the null device.

    Otherwise the rest of the buffer would raise the same error again when the process ends.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush() -> None:
    """Write the buffer of standard output now, while its failure can still be reported.

    Raises:
        OSError: The buffer cannot be written.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def _place(error: BaseException) -> str | None:
    """Return the file that an error names.

    Every write of archgrad to a file names it, so a write without a name went to standard output.
    """
    named = getattr(error, "filename", None)
    if named is None:
        return STDOUT if isinstance(error, OSError) and error.errno in WRITING else None
    return os.fsdecode(named) if isinstance(named, str | bytes) else str(named)


def _next_step(error: BaseException) -> str:
    """Return the command to type after the fault is removed."""
    place = _place(error)
    if place is not None and _of_a_run(Path(place)):
        resume = command("resume", Path(place).parent)
        return f"then continue with `{resume}`; the files saved before are intact"
    return "then give the same command again; the files saved before are intact"


def _of_a_run(path: Path) -> bool:
    """Return whether a search or a retraining writes this file.

    A run folder may also hold files of other commands, such as pictures and tables.
    """
    from archgrad.retraining.card import CARD, WEIGHTS
    from archgrad.run.folder import RunFolder

    folder = RunFolder(path.parent)
    return path.name in {*folder.file_names(), CARD, WEIGHTS} and (
        folder.config.exists() or (folder.path / CARD).exists()
    )


def _number_in_text(error: BaseException) -> int | None:
    """Return the number of a fault that an error names only in its text."""
    if not isinstance(error, ImportError | RuntimeError):
        return None
    return next((number for text, number in WORDS.items() if text in str(error)), None)
