"""Print to a terminal or write spreadsheet cells; names of users are text, never instructions."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

CONTROL = re.compile(
    "\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal executes: control characters except the tab and the end of a line,
marks that change the direction of writing, and bytes of file names that are no text."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that a spreadsheet executes."""


def escape_controls(text: str) -> str:
    r"""Return a text with each control character written as its escape.

    The text ``\x1b[2J`` is then printed and does not clear the screen.
    """
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


QUIET = ContextVar("QUIET", default=False)
"""Whether a command prints only errors and output for programs."""


def console(**options: Any) -> Console:
    """Return a rich `Console` that prints all control characters as escapes.

    Args:
        options: Arguments of `Console`.
    """
    made = Console(**{"highlight": False, "quiet": QUIET.get(), **options})
    made.push_render_hook(_Visibly())
    return made


def say(text: str, *, error: bool = False) -> None:
    """Print a text for people.

    Args:
        text: The text. Control characters are printed as escapes.
        error: Print on stderr. Other texts are printed on stdout, and not by a quiet command.
    """
    if QUIET.get() and not error:
        return
    print(escape_controls(text), file=sys.stderr if error else sys.stdout)


def say_aside(text: str) -> None:
    """Print a text for people on stderr, beside output for programs on stdout.

    A quiet command prints nothing.
    """
    if not QUIET.get():
        say(text, error=True)


def print_output(text: str, end: str = "\n") -> None:
    """Print a text for programs on stdout, unchanged and in UTF-8, also in a quiet command.

    On a terminal control characters are printed as escapes.
    """
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        print(escape_controls(text) if sys.stdout.isatty() else text, end=end)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write((text + end).encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def escape_unprintable() -> None:
    """Print characters that the console's encoding lacks as escapes from now on.

    Without this such a character would raise an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def cell(text: str) -> str:
    """Return a text as the cell of a spreadsheet, in which it is no formula.

    >>> cell("=1+1"), cell("cat")
    ("'=1+1", 'cat')
    """
    return f"'{text}" if text.startswith(FORMULA) else text


@dataclass(frozen=True)
class _Visibly(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Visible(one) for one in renderables]


@dataclass(frozen=True)
class _Visible:
    inner: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield (
                segment if segment.control else segment._replace(text=escape_controls(segment.text))
            )


Say = Callable[[str], Any]
"""Function that prints a line."""


def say_on(console: Console) -> Say:
    """Return a function that prints plain lines on a console, without markup."""
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
