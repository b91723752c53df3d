"""Make the text of errors: one line that names the wrong value and the fix."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import takewhile
from reprlib import Repr
from typing import Any
from unicodedata import normalize

LONGEST = 300
"""Largest number of characters of a message, without its paths: few people read more lines."""
NAMED = 60
"""Largest number of characters of a name or value in a message."""
PATH = 1000
"""Largest number of characters of the paths in a message."""
WORD = re.compile(r"'[^']*/[^']*'|\S+")
"""A word of a message, or a path with spaces as `command` quotes it."""

NO_MEMORY = ("not enough memory", "out of memory", "bad_alloc", "cannot allocate memory")
"""Parts of torch's error messages where a GPU or the machine has no memory left."""

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, NAMED, NAMED, NAMED
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = _SHORT.maxfrozenset = 6


def short_repr(value: Any) -> str:
    """Return the ``repr`` of a value in at most 120 characters.

    >>> short_repr([1, [2, [3, [4]]], "x"])
    "[1, [2, [3, [...]]], 'x']"
    """
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        text = f"a {type(value).__name__}"
        if isinstance(value, int):
            text += f" of {value.bit_length():,} bits"
    return shortened(text, 2 * NAMED)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text without its middle where it is longer than ``longest`` characters.

    The beginning of a message names the fault, and its end names the fix.

    >>> shortened("unknown method 'x': choose darts", 24)
    'unknown metho ...  darts'
    """
    if len(text) <= longest:
        return text
    end = (longest - 5) // 3
    return f"{text[: longest - 5 - end]} ... {text[-end:]}"


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line of at most 120 characters, or else its type."""
    return shortened(" ".join(str(error).split()), 2 * NAMED) or type(error).__name__


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "epoch"), counted(2000, "epoch")
    ('1 epoch', '2,000 epochs')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def command(*words: Any) -> str:
    """Return a command line of archgrad, quoted for a shell.

    >>> command("resume", "my runs/a")
    "archgrad resume 'my runs/a'"
    """
    return shlex.join(["archgrad", *map(str, words)])


def error_line(text: str) -> str:
    """Return a message on one line of at most `LONGEST` characters, not counting its paths.

    Paths stay whole, because a command with a shortened path does not work.
    """
    line = " ".join(text.split())
    paths = sum(len(word) for word in WORD.findall(line) if "/" in word and len(word) <= PATH)
    return shortened(line, LONGEST + min(paths, PATH))


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return names separated by commas: the first ``most`` ones and the number of the others.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, 1 more'
    """
    shown_names = list(names[:most])
    if len(names) > most:
        shown_names.append(f"{len(names) - most:,} more")
    return ", ".join(shown_names)


def unknown_name(kind: str, name: Any, choices: Iterable[str]) -> ValueError:
    """Return the error of an unknown name, with the nearest choice and a list of the choices.

    Args:
        kind: Noun for the name, such as ``method``.
        name: The unknown name.
        choices: The valid names.

    >>> unknown_name("method", "dart", ["darts", "random"])
    ValueError("unknown method 'dart': did you mean 'darts'? (there are: darts, random)")
    """
    choices = list(choices)
    close = nearest(str(name), choices)
    hint = f": did you mean {close!r}?" if close is not None else ""
    text = f"unknown {kind} {short_repr(name)}{hint}"
    there: list[str] = []
    for choice in choices[:24]:
        # 40 characters are left for the name of a file before the message.
        if len(text) + len(", ".join([*there, choice])) > LONGEST - 40:
            break
        there.append(choice)
    if len(there) < len(choices):
        there.append("...")
    return ValueError(f"{text} (there are: {', '.join(there)})")


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is most similar to a mistyped name; None where none is similar.

    A choice is similar if at most a third of the letters differ, or if it begins like the name.
    """
    typed = name[:NAMED].casefold()
    found = [(edit_distance(typed, choice[:NAMED].casefold()), choice) for choice in choices]
    close = [
        (count, choice)
        for count, choice in found
        if _is_slip(typed, choice[:NAMED].casefold(), count)
    ]
    if not close:
        return None
    # Of equally similar names the later one in the alphabet: DARTS_V2 before DARTS_V1.
    return min(sorted(close, reverse=True), key=lambda one: one[0])[1]


def _is_slip(typed: str, choice: str, count: int) -> bool:
    length = max(len(typed), len(choice))
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(typed, choice)))
    return count <= max(1, length // 3) < length or shared >= max(
        3, 0.75 * min(len(typed), len(choice))
    )


def edit_distance(one: str, other: str) -> int:
    """Return the distance of two texts by optimal string alignment, in Unicode's composed form.

    It is the number of letters to insert, delete, replace or swap with their neighbour.

    >>> edit_distance("drats", "darts")
    1
    """
    one, other = composed_unicode(one), composed_unicode(other)
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


def find_name(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice with a name; None where there is none.

    The form of Unicode does not count, because macOS decomposes accented letters.
    """
    choices = list(choices)
    if name in choices:
        return name
    return next(
        (choice for choice in choices if composed_unicode(choice) == composed_unicode(name)), None
    )


def composed_unicode(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), in which names are compared."""
    return normalize("NFC", name)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that no memory is left.

    On the CPU torch raises plain RuntimeErrors.
    """
    if isinstance(error, RuntimeError):
        return any(part in str(error).lower() for part in NO_MEMORY)
    return isinstance(error, MemoryError)
