"""The smallest studies, whose searches run in the process of the test, because a process of their own takes seconds to start."""

from __future__ import annotations

import os
import signal
from functools import partial

from archgrad.cli import comparing, main
from archgrad.compare.jobs import Run, execute
from running import after

SHARED = [
    "--data",
    "digits",
    "--space.channels",
    "2",
    "--space.cells",
    "1",
    "--search.limit",
    "60",
    "--search.batch",
    "20",
]
SHARED += ["--diagnostics.front-points", "2"]
SHARED += ["--search.epochs", "2", "--alphas.lr", "0.05", "--random.draws", "2"]
TWO = ["--methods", "darts,random", "--seeds", "2", *SHARED]
STEPS = 3 * 2 * 2 * 2  # of all searches of `TWO`: three an epoch


class Here:
    """A stand-in for a process, with the methods that `execute` calls."""

    def __init__(self, one: Run) -> None:
        self.returncode = main(one.next_arguments())

    def poll(self) -> int:
        return self.returncode


def here(patched, start=Here) -> None:
    """The searches of ``archgrad compare`` run in this process, or as ``start`` says."""
    patched.setattr(comparing, "execute", partial(execute, start=start, pause=0))


def refused(capsys, *arguments: str) -> str:
    """The one line on stderr of a command that ends with code 2."""
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("archgrad: ") and error.count("\n") == 1
    return error


def dying(place: int, arguments: list[str]) -> int:
    """Runs a study in this process, which dies by SIGKILL after so many steps, or before it writes its n-th summary (-n)."""
    from archgrad.compare import summary
    from archgrad.searching.method import Method

    def die(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dies_at(count: int, write=summary.write):
        left = iter(range(count))

        def written(*arguments: object) -> None:
            die() if next(left, None) == count - 1 else write(*arguments)

        return written

    if place > 0:
        Method.step = after(place, lambda: die())  # type: ignore[method-assign]
    else:
        summary.write = dies_at(-place)
    comparing.execute = partial(execute, start=Here, pause=0)
    return main(["compare", *arguments])
