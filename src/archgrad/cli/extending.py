"""``--plugin``, for every command: what it names is imported before the command's flags are made, of which some may be the plugin's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from archgrad import plugins

FLAG, LONG = "--plugin", "--plugins"
"""``--plugin`` takes a plugin, or several with commas between them. ``--plugins`` takes several with spaces, too."""


def extended(tokens: Sequence[str], *, settings: Sequence[str]) -> list[str]:
    """The tokens of a command line, its plugins imported.

    Args:
        tokens: What was typed behind ``archgrad``.
        settings: The commands whose flags are settings: for them the plugins stand at the end, as one setting.

    Returns:
        The tokens without ``--plugin``.

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
    """The values of ``--plugin``, and the other tokens."""
    named: list[str] = []
    rest: list[str] = []
    place = 0
    while place < len(tokens):
        flag, equals, value = tokens[place].partition("=")
        place += 1
        if flag not in (FLAG, LONG):
            rest.append(tokens[place - 1])
            continue
        values = (
            [value]
            if equals
            else list(takewhile(lambda token: not token.startswith("-"), tokens[place:]))[
                : 1 if flag == FLAG else None
            ]
        )
        place += 0 if equals else len(values)
        names = [name for one in values for name in one.split(",")]
        if not all(names) or not names:
            raise ValueError(
                f"{flag}: the name of a module is expected behind it, such as mypackage.nas"
            )
        named += names
    return named, rest


def _values(tokens: Sequence[str], flag: str) -> Iterator[str]:
    for token, following in zip(tokens, [*tokens[1:], ""]):
        name, equals, value = token.partition("=")
        if name == flag:
            yield value if equals else following


def _of_file(path: Path) -> list[str]:
    """The plugins that settings name; none where the command itself will say what is wrong with the file."""
    from archgrad.run import config

    with suppress(ValueError, OSError):
        named = config.read_yaml(path)[1].get("plugins")
        return (
            [named]
            if isinstance(named, str)
            else [one for one in named or () if isinstance(one, str)]
        )
    return []
