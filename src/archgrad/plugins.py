"""Import methods, spaces and primitives of other packages.

A plugin is a module that adds entries to the tables ``METHODS``, ``SPACES`` and ``PRIMITIVES``
when it is imported. Settings name it (``plugins: [mypackage.nas]``), and so does ``--plugin``. An
installed package may instead declare entry points in the groups ``archgrad.methods`` and
``archgrad.spaces``, one for each name; archgrad finds them without a setting. Records write a
plugin as ``mypackage.nas==1.2``.

The space ``mypackage.nets:Net`` is the user's own module ``Net``. It joins the table when a
setting, a record or a command names it, and records write ``mypackage.nets`` like a plugin.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.util import find_spec
from types import FrameType
from typing import Any

from archgrad import errors, terminal
from archgrad.errors import one_line, short_repr

TABLES = {
    "method": ("archgrad.methods", "METHODS"),
    "space": ("archgrad.spaces", "SPACES"),
    "primitive": ("archgrad.spaces.primitives", "PRIMITIVES"),
}
GROUPS = {"method": "archgrad.methods", "space": "archgrad.spaces"}
NAME = re.compile(r"[A-Za-z]\w*")
"""Form of a name. A method's name is a flag and a section of settings, and ``+`` joins names."""

# Imported modules -> their written form, NAME==VERSION.
_loaded: dict[str, str] = {}
# Modules that a record names and that are missing here -> the reason.
_missing: dict[str, str] = {}
# (kind, name) of an entry point -> the written form of its module.
_found: dict[tuple[str, str], str] = {}
# Not empty once the entry points were read.
_searched: list[bool] = []


class Broken(Exception):
    """Report in one line that the code of a plugin raised an error, in another process."""


def load(named: Iterable[str], *, recorded: bool = False, noun: str = "plugin") -> None:
    """Import plugins, once each. Modules of the current folder are importable.

    Args:
        named: Names of modules, or ``name==version``. Another version is used with a remark.
        recorded: The names come from a record. A missing plugin is then no error here; `unknown`
            names it where a method, space or primitive of it is needed.
        noun: Noun for a plugin in errors.

    Raises:
        ValueError: A plugin is missing (unless ``recorded``), its import fails, or it uses a name
            that exists already.
    """
    for text in named:
        name, _, version = text.partition("==")
        if name in _loaded:
            continue
        try:
            _import_plugin(name, noun)
        except ValueError as error:
            if not recorded:
                raise
            _missing[name] = str(error)
            continue
        _missing.pop(name, None)
        _loaded[name] = _written_form(name, _version_of(name))
        here = _loaded[name].partition("==")[2]
        if version and version != here:
            terminal.say_aside(
                f"{noun} {name} has version {here or 'unknown'} here; "
                f"the record was made with version {version}"
            )


def load_entry_points() -> None:
    """Add the methods and spaces of installed packages' entry points to the tables, once.

    An entry point that fails is left out, and a remark is printed.
    """
    if _searched:
        return
    _searched.append(True)
    for kind, group in GROUPS.items():
        for point in metadata.entry_points(group=group):
            try:
                with _restoring_tables(point.module):
                    _table_of(kind)[point.name] = _make_entry(kind, point)
            except ValueError as error:
                terminal.say_aside(f"{kind} {point.name} is left out: {error}")
                continue
            _found[kind, point.name] = _written_form(
                point.module, point.dist.version if point.dist else None
            )


def load_space(name: str) -> None:
    """Add the space of a module of the user's own to the table; do nothing for another name.

    Args:
        name: Name of a space. That of a user's module is ``mypackage.nets:Net``.

    Raises:
        ValueError: The module is missing, its import fails, or it makes no module with choices.
    """
    where, colon, _ = name.partition(":")
    if not colon or name in _table_of("space"):
        return
    try:
        if not all(part.isidentifier() for part in name.replace(":", ".", 1).split(".")):
            raise ValueError("the name of a module of your own is package.module:Name")
        if where != "__main__":
            load([where], noun="module")
        made = importlib.import_module("archgrad.modules.named")
        _table_of("space")[name] = made.entry_of(name, sys.modules[where])
    except ValueError as error:
        raise ValueError(str(error) if name in str(error) else f"space {name}: {error}") from error


def loaded() -> tuple[str, ...]:
    """Return the imported plugins in their written form."""
    return tuple(_loaded.values())


def to_record(named: Iterable[str], *, methods: Iterable[str] = (), space: str) -> tuple[str, ...]:
    """Return the plugins to record for a run.

    Args:
        named: Plugins of the settings.
        methods: Methods of the run.
        space: Space of the run.

    Returns:
        The named plugins with their installed versions, the packages whose entry points are the
        methods and the space, and the module of a user's own space.
    """
    used = [
        _found[key]
        for key in (*(("method", name) for name in methods), ("space", space))
        if key in _found
    ]
    used += [
        _loaded[name] for name in [space.partition(":")[0]] if ":" in space and name in _loaded
    ]
    return join((_loaded.get(text.partition("==")[0], text) for text in named), used)


def join(*several: Iterable[str]) -> tuple[str, ...]:
    """Return the plugins of several lists, once each; the last mentioned version counts.

    >>> join(["a==1", "b"], ["a==2"])
    ('a==2', 'b')
    """
    return tuple({text.partition("==")[0]: text for texts in several for text in texts}.values())


def are_missing() -> bool:
    """Return whether a record named a plugin that is missing here."""
    return bool(_missing)


def unknown(kind: str, name: Any, choices: Iterable[str]) -> ValueError:
    """Return the error of `unknown_name`, or one that names a missing plugin as the cause."""
    if not _missing:
        return errors.unknown_name(kind, name, choices)
    reasons = "; ".join(_missing.values())
    return ValueError(f"{kind} {short_repr(name)} is not known here, because {reasons}")


def blame(error: BaseException) -> str | None:
    """Return one line with the plugin whose code raised an error, its file and its line.

    The result is None if no code of a plugin was running. It is None also for a ValueError that
    archgrad raised for the plugin, because its message is written for the user already.
    """
    if isinstance(error, Broken):
        return str(error)
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        if name := _owner_of(frame):
            place = f"{frame.f_code.co_filename}, line {line}"
            return f"plugin {name} fails ({type(error).__name__}: {one_line(error)}, {place})"
        if isinstance(error, ValueError) and _top_of(frame) == "archgrad":
            return None
    return None


def _owner_of(frame: FrameType) -> str | None:
    """Return the name of the plugin whose module, or package, runs in a frame."""
    named = [*_loaded, *(text.partition("==")[0] for text in _found.values())]
    module = frame.f_globals.get("__name__")
    by_package = (name for name in named if name.partition(".")[0] == _top_of(frame) != "archgrad")
    return next((name for name in named if name == module), next(by_package, None))


def _top_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _import_plugin(name: str, noun: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"{noun} {short_repr(name)}: the name of a module is expected, such as mypackage.nas"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that no file here replaces a module of Python
    with suppress(ModuleNotFoundError):
        if find_spec(name.partition(".")[0]) is not None:
            with _restoring_tables(name, noun):
                importlib.import_module(name)
            return
    raise ValueError(
        f"{noun} {name} is missing: install its package, "
        "or give the command in the folder that holds it"
    )


@contextmanager
def _restoring_tables(name: str, noun: str = "plugin") -> Iterator[None]:
    """Run the import of a plugin, and restore the tables where it fails.

    Raises:
        ValueError: The import fails, replaces an entry or adds an invalid name.
    """
    tables = {kind: _table_of(kind) for kind in TABLES}
    before = {kind: dict(table) for kind, table in tables.items()}
    try:
        try:
            yield
        except ModuleNotFoundError as error:
            top = name.partition(".")[0]
            if error.name and error.name.partition(".")[0] == top:
                raise  # the plugin itself is missing
            raise ValueError(
                f"{noun} {name} needs a package that is missing ({one_line(error)}): install it"
            ) from None
        except Exception as error:
            raise ValueError(
                f"{noun} {name} fails when it is imported "
                f"({type(error).__name__}: {one_line(error)}, {place_of(error)})"
            ) from error
        for kind, table in tables.items():
            if replaced := [
                key for key, entry in before[kind].items() if table.get(key) is not entry
            ]:
                raise ValueError(
                    f"plugin {name} replaces the {kind} {replaced[0]!r}: give it another name"
                )
            if odd := [key for key in table if key not in before[kind] and not NAME.fullmatch(key)]:
                raise ValueError(
                    f"plugin {name}: the name of a {kind} has letters, digits and _, "
                    f"not {short_repr(odd[0])}"
                )
    except BaseException:
        for kind, table in tables.items():
            table.clear()
            table.update(before[kind])
        raise


def _table_of(kind: str) -> dict[str, Any]:
    module, table = TABLES[kind]
    found: dict[str, Any] = getattr(importlib.import_module(module), table)
    return found


def _make_entry(kind: str, point: metadata.EntryPoint) -> Any:
    """Return the entry that an entry point names, or one made of the function that it names."""
    made, line = point.load(), importlib.import_module(TABLES[kind][0]).Entry
    if isinstance(made, line):
        return made
    if not callable(made):
        raise TypeError(f"{point.value} is no function")
    where = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
    return (
        line(made, where, (inspect.getdoc(made) or "").partition("\n")[0])
        if kind == "method"
        else line(made, where)
    )


def _version_of(name: str) -> str | None:
    """Return ``__version__`` of a module or its package, else the version of its distribution."""
    top = name.partition(".")[0]
    for module in (name, top):
        if own := getattr(sys.modules.get(module), "__version__", None):
            return str(own)
    homes = metadata.packages_distributions().get(top, [])
    return metadata.version(homes[0]) if homes else None


def _written_form(name: str, version: str | None) -> str:
    return f"{name}=={version}" if version else name


def place_of(error: BaseException) -> str:
    """Return the place of an import's error, such as ``nas.py, line 3``."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)}, line {error.lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(last.filename)}, line {last.lineno}"
