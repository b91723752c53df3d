"""What reaches a terminal or a spreadsheet: names that users gave are text there, whatever characters they have."""

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
"""Characters that act instead of being shown: control characters but the tab and the end of a line, those that turn the direction of a line,
and bytes of file names that are no text."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str) -> str:
    r"""The text with every control character written as its escape: ``\x1b[2J`` instead of a cleared screen."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


QUIET = ContextVar("QUIET", default=False)
"""Whether a command prints only errors, and what a program reads."""


def console(**options: Any) -> Console:
    """A rich `Console` on which all text is `visible`. ``options`` are those of `Console`; names of users are no markup in any case."""
    made = Console(**{"highlight": False, "quiet": QUIET.get(), **options})
    made.push_render_hook(_Visibly())
    return made


def say(text: str, *, error: bool = False) -> None:
    """Prints `visible` lines, on stderr where they are an ``error``. Those that are none are left out of a quiet command."""
    if QUIET.get() and not error:
        return
    print(visible(text), file=sys.stderr if error else sys.stdout)


def remark(text: str) -> None:
    """Prints `visible` lines on stderr, beside an answer that programs may read. A quiet command leaves them out."""
    if not QUIET.get():
        say(text, error=True)


def say_exactly(text: str, end: str = "\n") -> None:
    """Prints text that a program may read, of a quiet command too: as it is and in UTF-8, and `visible` where stdout is a terminal."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        print(visible(text) if sys.stdout.isatty() else text, end=end)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write((text + end).encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def escape_unprintable() -> None:
    """From now on a character that the console's encoding does not have is printed as its escape, where it would end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def cell(text: str) -> str:
    """A text as the cell of a spreadsheet, which would compute what begins like a formula: such a text begins with an apostrophe there."""
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
            yield segment if segment.control else segment._replace(text=visible(segment.text))


Say = Callable[[str], Any]


def say_on(console: Console) -> Say:
    """Plain lines: what users named is no markup."""
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
