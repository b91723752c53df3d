"""``--plugin``, for every command: what it names is imported before the command's flags are made, of which some may be the plugin's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from archgrad import plugins

FLAG, LONG = "--plugin", "--plugins"


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
    named, rest, left = [], [], iter(tokens)
    for token in left:
        if token == FLAG or token.startswith(f"{FLAG}="):
            value = token.partition("=")[2] or next(left, "")
            if not value or value.startswith("-"):
                raise ValueError(f"{FLAG}: the name of a module is expected behind it, such as mypackage.nas")
            named.append(value)
        else:
            rest.append(token)
    return named, rest


def _values(tokens: Sequence[str], flag: str) -> Iterator[str]:
    for token, following in zip(tokens, [*tokens[1:], ""]):
        name, equals, value = token.partition("=")
        if name == flag:
            yield value if equals else following


def _of_file(path: Path) -> list[str]:
    """The plugins that settings name; none where the command itself will say what is wrong with the file."""
    from archgrad import config

    with suppress(ValueError, OSError):
        named = config.read_yaml(path)[1].get("plugins")
        return [named] if isinstance(named, str) else [one for one in named or () if isinstance(one, str)]
    return []
