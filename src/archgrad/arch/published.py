"""Published architectures by name: 242 entries of 12 repositories.

``NAME`` is enough if all repositories with that name have the same architecture for it.
``REPOSITORY:NAME`` is always enough, where the repository may also be ``OWNER/REPOSITORY``. Case,
``-`` and ``_`` make no difference in a name.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from archgrad.arch.links import Cells
from archgrad.arch.notation import from_mapping, parse
from archgrad.errors import unknown_name

SHORTEST = 3
"""The fewest characters of a part of a name that `find` searches for."""
MOST = 6
"""The most names that an error lists."""
ALIASES = {
    "PCDARTS": "PC-DARTS:PC_DARTS_cifar",
    "CDARTS": "Cream:CDARTS_cifar_0",
    "DrNAS": "DrNAS:DrNAS_cifar10",
}


class Published(NamedTuple):
    """A published architecture: its source, and the numbers that its authors give.

    Attributes:
        name: Name of the architecture.
        repository: The repository, ``OWNER/REPOSITORY``.
        path: File in the repository.
        commit: Commit of the repository.
        spelled: Content of that file. A chain, which has op numbers there, is in our notation.
        params_M: Millions of parameters, None if unknown.
        cifar10_test_error: Test error on CIFAR-10 in percent, None if unknown.
        numbers_source: Source of the two numbers.
    """

    name: str
    repository: str
    path: str
    commit: str
    spelled: dict[str, Any] | str
    params_M: float | None
    cifar10_test_error: float | None
    numbers_source: str | None

    @property
    def qualified_name(self) -> str:
        """Return ``REPOSITORY:NAME``."""
        return f"{self.repository.split('/')[1]}:{self.name}"

    @property
    def cells(self) -> Cells:
        """Return the cells; raise ValueError if the source does not contain them."""
        found = parse(self.spelled) if isinstance(self.spelled, str) else from_mapping(self.spelled)
        if found is None:
            raise ValueError(f"the source of {self.qualified_name} does not contain its cells")
        return found


@cache
def published() -> tuple[Published, ...]:
    """Return all entries, in the order of their repositories."""
    data = json.loads(files("archgrad.data_files").joinpath("genotypes.json").read_text("utf-8"))
    return tuple(_entry(entry, data["sources"][entry["source"]]) for entry in data["genotypes"])


@cache
def known() -> tuple[str, ...]:
    """Return the shortest name of each architecture, the best known first."""
    first = ("DARTS_V1", "DARTS_V2", "PDARTS", *ALIASES)
    rest = (
        entry.name if _is_settled(entry.name) else entry.qualified_name for entry in published()
    )
    return tuple(dict.fromkeys((*first, *rest)))


def find(name: str) -> Cells:
    """Return the published architecture of a name.

    Args:
        name: ``NAME``, ``REPOSITORY:NAME``, the beginning of a name, or a repository with one
            architecture.

    Returns:
        The cells.

    Raises:
        ValueError: No architecture has that name, or several different ones have it.
    """
    entries = _entries(name) or _meant(name)
    if not entries:
        raise unknown_name("genotype", name[:60], known())
    meant = {entry.cells: entry for entry in reversed(entries)}  # cells -> the first such entry
    if len(meant) > 1:
        names = [
            entry.name if _is_settled(entry.name) else entry.qualified_name
            for entry in reversed(meant.values())
        ]
        choice = " or ".join(names[:MOST]) + (
            f", ... ({len(names)} in all)" if len(names) > MOST else ""
        )
        raise ValueError(f"genotype {name!r} is published in more than one form: give {choice}")
    return entries[0].cells


def _meant(name: str) -> list[Published]:
    """Return the entries that a method's or a repository's name may mean.

    They are its versions, else the names that begin with it, else all entries of the repository.
    """
    wanted = _key(name)
    if len(wanted) < SHORTEST:
        return []
    versions = [
        entry
        for entry in published()
        if re.fullmatch(rf"{re.escape(wanted)}v\d+", _key(entry.name))
    ]
    begun = [entry for entry in published() if _key(entry.name).startswith(wanted)]
    return (
        versions
        or begun
        or [entry for entry in published() if _key(entry.repository).endswith(f"/{wanted}")]
    )


def _entry(entry: dict[str, Any], source: dict[str, str]) -> Published:
    numbers = (entry.get("params_M"), entry.get("cifar10_test_error"), entry.get("numbers_source"))
    return Published(
        entry["name"], source["repo"], source["path"], source["commit"], entry["genotype"], *numbers
    )


def _is_settled(name: str) -> bool:
    return len({entry.cells for entry in _entries(name)}) == 1


def _entries(name: str) -> list[Published]:
    aliases = {_key(alias): full for alias, full in ALIASES.items()}
    repository, _, short = aliases.get(_key(name), name).rpartition(":")
    return [
        e for e in published() if _key(e.name) == _key(short) and _is_in(e.repository, repository)
    ]


def _is_in(full: str, wanted: str) -> bool:
    return not wanted or wanted.casefold() in (full.casefold(), full.split("/")[1].casefold())


def _key(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
