"""Methods, spaces and primitives of other packages.

A plugin is a module that adds lines to the tables ``METHODS``, ``SPACES`` and ``PRIMITIVES`` when it is imported. Settings name it
(``plugins: [mypackage.nas]``), and so does ``--plugin``. An installed package may instead have entry points in the groups ``archgrad.methods``
and ``archgrad.spaces``, one for each name, which are found by themselves. A plugin is written down as ``mypackage.nas==1.2``.
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
from typing import Any

from archgrad import errors, terminal
from archgrad.errors import shown, words

TABLES = {
    "method": ("archgrad.methods", "METHODS"),
    "space": ("archgrad.spaces", "SPACES"),
    "primitive": ("archgrad.spaces.primitives", "PRIMITIVES"),
}
GROUPS = {"method": "archgrad.methods", "space": "archgrad.spaces"}
NAME = re.compile(r"[A-Za-z]\w*")
"""A method's name is a flag and a section of the settings, a ``+`` joins several."""

_loaded: dict[str, str] = {}  # the modules that are imported, each as it is written down
_missing: dict[
    str, str
] = {}  # those that a record names and that are not here, each with the reason
_found: dict[
    tuple[str, str], str
] = {}  # (kind, name) of an entry point -> its module, as it is written down
_searched: list[bool] = []  # whether the entry points were looked for


def load(named: Iterable[str], *, recorded: bool = False) -> None:
    """Imports plugins, once each. The folder in which the program was started counts as importable.

    Args:
        named: The plugins, each a module's name, or ``name==version``. Another version than that is said, and used.
        recorded: A record names them, so one that is not here is noted: `unknown` names it where something of it is asked for.

    Raises:
        ValueError: A plugin is missing (unless ``recorded``), fails when it is imported, or takes a name that is there already.
    """
    for text in named:
        name, _, version = text.partition("==")
        if name in _loaded:
            continue
        try:
            _import(name)
        except ValueError as error:
            if not recorded:
                raise
            _missing[name] = str(error)
            continue
        _missing.pop(name, None)
        _loaded[name] = _written(name, _version(name))
        here = _loaded[name].partition("==")[2]
        if version and version != here:
            terminal.remark(
                f"plugin {name} is of version {here or 'unknown'} here; what is recorded was made with {version}"
            )


def find() -> None:
    """Enters the methods and spaces that installed packages have as entry points into the tables, once. One that fails is left out, which is
    said."""
    if _searched:
        return
    _searched.append(True)
    for kind, group in GROUPS.items():
        for point in metadata.entry_points(group=group):
            try:
                with _guarded(point.module):
                    _table(kind)[point.name] = _entry(kind, point)
            except ValueError as error:
                terminal.remark(f"{kind} {point.name} is left out: {error}")
                continue
            _found[kind, point.name] = _written(
                point.module, point.dist.version if point.dist else None
            )


def loaded() -> tuple[str, ...]:
    """The plugins that this process was told to import, as they are written down."""
    return tuple(_loaded.values())


def recorded(named: Iterable[str], *, methods: Iterable[str] = (), space: str) -> tuple[str, ...]:
    """What a record names: plugins with their versions here, and those whose entry points the methods and the space are."""
    used = [
        _found[key]
        for key in (*(("method", name) for name in methods), ("space", space))
        if key in _found
    ]
    return joined((_loaded.get(text.partition("==")[0], text) for text in named), used)


def joined(*several: Iterable[str]) -> tuple[str, ...]:
    """The plugins of several lists, once each; of two versions the later one."""
    return tuple({text.partition("==")[0]: text for texts in several for text in texts}.values())


def missing() -> bool:
    """Whether a record named a plugin that is not here."""
    return bool(_missing)


def unknown(kind: str, name: Any, choices: Iterable[str]) -> ValueError:
    """As `errors.unknown`; where a plugin is missing, it is the cause."""
    if not _missing:
        return errors.unknown(kind, name, choices)
    return ValueError(f"{kind} {shown(name)} is not known here, for {'; '.join(_missing.values())}")


def _import(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"plugin {shown(name)}: the name of a module is expected, such as mypackage.nas"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(
            os.getcwd()
        )  # behind all else: a file here must not stand for a module of Python's
    with suppress(ModuleNotFoundError):
        if find_spec(name.partition(".")[0]) is not None:
            with _guarded(name):
                importlib.import_module(name)
            return
    raise ValueError(
        f"plugin {name} is missing: install its package, or give the command in the folder that holds it"
    )


@contextmanager
def _guarded(name: str) -> Iterator[None]:
    """The tables are as before where what is done inside fails. ValueError then, and where it replaces a line or adds an unusable name."""
    tables = {kind: _table(kind) for kind in TABLES}
    before = {kind: dict(table) for kind, table in tables.items()}
    try:
        try:
            yield
        except ModuleNotFoundError as error:
            top = name.partition(".")[0]
            if error.name and error.name.partition(".")[0] == top:
                raise  # the plugin itself
            raise ValueError(
                f"plugin {name} needs a package that is missing ({words(error)}): install it"
            ) from None
        except Exception as error:
            raise ValueError(
                f"plugin {name} fails when it is imported ({type(error).__name__}: {words(error)}, {_place(error)})"
            ) from error
        for kind, table in tables.items():
            if replaced := [
                key for key, line in before[kind].items() if table.get(key) is not line
            ]:
                raise ValueError(
                    f"plugin {name} replaces the {kind} {replaced[0]!r}: give it another name"
                )
            if odd := [key for key in table if key not in before[kind] and not NAME.fullmatch(key)]:
                raise ValueError(
                    f"plugin {name}: a {kind} is named by letters, digits and _, not {shown(odd[0])}"
                )
    except BaseException:
        for kind, table in tables.items():
            table.clear()
            table.update(before[kind])
        raise


def _table(kind: str) -> dict[str, Any]:
    module, table = TABLES[kind]
    found: dict[str, Any] = getattr(importlib.import_module(module), table)
    return found


def _entry(kind: str, point: metadata.EntryPoint) -> Any:
    """A line of a table: what the entry point names is one, or the function that a line begins with."""
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


def _version(name: str) -> str | None:
    """Of a module: its own or its package's ``__version__``, else that of the distribution it is of."""
    top = name.partition(".")[0]
    for module in (name, top):
        if own := getattr(sys.modules.get(module), "__version__", None):
            return str(own)
    homes = metadata.packages_distributions().get(top, [])
    return metadata.version(homes[0]) if homes else None


def _written(name: str, version: str | None) -> str:
    return f"{name}=={version}" if version else name


def _place(error: BaseException) -> str:
    """``nas.py, line 3``: where an import went wrong."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)}, line {error.lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(last.filename)}, line {last.lineno}"
