"""The flag ``--plugin`` of every command.

Plugins are imported before the flags of the command are made, because a plugin may add flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from archgrad import plugins

FLAG, LONG = "--plugin", "--plugins"
"""``--plugin`` takes plugins separated by commas; ``--plugins`` also allows spaces."""


def import_plugins(tokens: Sequence[str], *, settings: Sequence[str]) -> list[str]:
    """Import the plugins of a command line and return its other words.

    Args:
        tokens: The words behind ``archgrad``.
        settings: The commands whose flags are settings. For these commands the plugins are added
            at the end as the setting ``--plugins``.

    Returns:
        The words without ``--plugin``.

    Raises:
        ValueError: ``--plugin`` has no value, or a plugin cannot be imported.
    """
    named, rest = _taken(tokens)
    plugins.load(named)
    for file in _values(rest, "--config"):
        plugins.load(_of_file(Path(file)))
    ends = [LONG, *named] if named and rest and rest[0] in settings else []
    return rest + ends


def _taken(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the values of ``--plugin``, and the other words."""
    named: list[str] = []
    rest: list[str] = []
    place = 0
    while place < len(tokens):
        flag, equals, value = tokens[place].partition("=")
        place += 1
        if flag not in (FLAG, LONG):
            rest.append(tokens[place - 1])
            continue
        values = [value]
        if not equals:
            values = list(takewhile(lambda token: not token.startswith("-"), tokens[place:]))
            values = values[:1] if flag == FLAG else values
            place += len(values)
        names = [name for one in values for name in one.split(",")]
        if not all(names) or not names:
            raise ValueError(f"{flag} needs the name of a module, such as {flag} mypackage.nas")
        named += names
    return named, rest


def _values(tokens: Sequence[str], flag: str) -> Iterator[str]:
    for token, following in zip(tokens, [*tokens[1:], ""]):
        name, equals, value = token.partition("=")
        if name == flag:
            yield value if equals else following


def _of_file(path: Path) -> list[str]:
    """Return the plugins that a file of settings names.

    Of an unreadable file the result is empty: the command itself will print the error.
    """
    from archgrad.run import config

    with suppress(ValueError, OSError):
        named = config.read_yaml(path)[1].get("plugins")
        return (
            [named]
            if isinstance(named, str)
            else [one for one in named or () if isinstance(one, str)]
        )
    return []
