"""Errors a user can act on: one line that names the wrong value and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr

NO_MEMORY = ("not enough memory", "out of memory", "bad_alloc", "cannot allocate memory")
"""Words of torch's errors where memory has run out, of a GPU's or of the machine's."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> ValueError:
    """``unknown method 'dart': did you mean 'darts'? (there are: darts, random)``"""
    choices = list(choices)
    folded = {choice.casefold(): choice for choice in choices}
    close = get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f": did you mean {folded[close[0]]!r}?" if close else "."
    listed = ", ".join(choices[:24]) + (", ..." if len(choices) > 24 else "")
    return ValueError(f"unknown {kind} {name!r}{hint} (there are: {listed})")


def clipped(value: object, most: int = 60) -> str:
    """A value as one line of at most ``most`` characters, however large and deep it is."""
    short = Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, most, most, most
    try:
        text = short.repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        text = f"a {type(value).__name__}"
    return shortened(text, most)


def shortened(text: str, most: int = 120) -> str:
    """The first ``most`` characters of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out: Python's own, or one of torch's, which are plain RuntimeErrors on the CPU."""
    if isinstance(error, RuntimeError):
        return any(words in str(error).lower() for words in NO_MEMORY)
    return isinstance(error, MemoryError)
