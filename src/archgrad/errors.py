"""Errors a user can act on: one line that names the wrong value and the fix."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import takewhile
from reprlib import Repr
from typing import Any
from unicodedata import normalize

LONGEST = 300
"""Characters of a complaint: more than a few lines of a terminal are not read."""
NAMED = 60
"""Characters of a name or a value in it."""
PATH = 1000
"""Characters of paths in it."""
WORD = re.compile(r"'[^']*/[^']*'|\S+")
"""A word of a complaint, or a path with spaces as `command` quotes it."""

NO_MEMORY = ("not enough memory", "out of memory", "bad_alloc", "cannot allocate memory")
"""Words of torch's errors where memory has run out, of a GPU's or of the machine's."""

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, NAMED, NAMED, NAMED
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = _SHORT.maxfrozenset = 6


def shown(value: Any) -> str:
    """A value as a complaint shows it: its ``repr``, in at most 120 characters, however large or deep it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python writes out no whole number of thousands of digits
        text = (
            f"a {type(value).__name__} of {value.bit_length():,} bits"
            if isinstance(value, int)
            else f"a {type(value).__name__}"
        )
    return shortened(text, 2 * NAMED)


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text without its middle where it is longer: what is wrong stands at its beginning, the way out at its end."""
    if len(text) <= longest:
        return text
    end = (longest - 5) // 3
    return f"{text[: longest - 5 - end]} ... {text[-end:]}"


def words(error: BaseException) -> str:
    """The words of an error on one line, in at most 120 characters; its kind where it has none."""
    return shortened(" ".join(str(error).split()), 2 * NAMED) or type(error).__name__


def counted(count: int, noun: str) -> str:
    """``1 epoch``, ``2 epochs``"""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def command(*words: Any) -> str:
    """An archgrad command as a shell takes it: ``archgrad resume 'my runs/a'``. ``words`` follow the program's name."""
    return shlex.join(["archgrad", *map(str, words)])


def complaint(text: str) -> str:
    """One line for people, in `LONGEST` characters beside its paths: a command whose path is cut cannot be typed."""
    line = " ".join(text.split())
    paths = sum(len(word) for word in WORD.findall(line) if "/" in word and len(word) <= PATH)
    return shortened(line, LONGEST + min(paths, PATH))


def listed(names: Sequence[str], most: int = 5) -> str:
    """``a, b, c``; of more than ``most`` names the first ones, and how many more there are."""
    more = len(names) - most
    return ", ".join([*names[:most], *([f"{more:,} more"] if more > 0 else [])])


def unknown(kind: str, name: Any, choices: Iterable[str]) -> ValueError:
    """``unknown method 'dart': did you mean 'darts'? (there are: darts, random)``"""
    choices = list(choices)
    close = nearest(str(name), choices)
    hint = f": did you mean {close!r}?" if close is not None else ""
    said = f"unknown {kind} {shown(name)}{hint}"
    listed: list[str] = []
    for choice in choices[:24]:
        if (
            len(said) + len(", ".join([*listed, choice])) > LONGEST - 40
        ):  # a file's name comes before it
            break
        listed.append(choice)
    return ValueError(
        f"{said} (there are: {', '.join(listed)}{', ...' * (len(listed) < len(choices))})"
    )


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that a name may be a slip of: a third of its letters differ at most, or one of the two is as good as the beginning of the
    other. None where there is no such choice: a hint that is far from what was typed misleads."""
    typed = name[:NAMED].casefold()
    found = [(edits(typed, choice[:NAMED].casefold()), choice) for choice in choices]
    close = [
        (count, choice)
        for count, choice in found
        if _is_slip(typed, choice[:NAMED].casefold(), count)
    ]
    return (
        min(sorted(close, reverse=True), key=lambda one: one[0])[1] if close else None
    )  # of two alike the later name: DARTS_V2


def _is_slip(typed: str, choice: str, count: int) -> bool:
    length = max(len(typed), len(choice))
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(typed, choice)))
    return count <= max(1, length // 3) < length or shared >= max(
        3, 0.75 * min(len(typed), len(choice))
    )


def edits(one: str, other: str) -> int:
    """Letters to insert, delete, replace or swap with their neighbour until one text is the other; both in Unicode's composed form.

    Optimal string alignment.
    """
    one, other = composed(one), composed(other)
    before, row = [0] * (len(other) + 1), list(range(len(other) + 1))
    for i, letter in enumerate(one):
        new = [i + 1]
        for j, wanted in enumerate(other):
            count = min(row[j + 1] + 1, new[j] + 1, row[j] + (letter != wanted))
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                count = min(count, before[j - 1] + 1)
            new.append(count)
        before, row = row, new
    return row[-1]


def match(name: str, choices: Iterable[str]) -> str | None:
    """The choice of that name, in whatever form Unicode writes it (a Mac takes its accents apart); None where there is none."""
    choices = list(choices)
    return (
        name
        if name in choices
        else next((choice for choice in choices if composed(choice) == composed(name)), None)
    )


def composed(name: str) -> str:
    """A name in the one form of Unicode by which names are compared."""
    return normalize("NFC", name)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out: Python's own, or one of torch's, which are plain RuntimeErrors on the CPU."""
    if isinstance(error, RuntimeError):
        return any(words in str(error).lower() for words in NO_MEMORY)
    return isinstance(error, MemoryError)
