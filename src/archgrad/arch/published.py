"""The architectures the field has published: 242 entries of 12 repositories, by name.

``NAME`` is enough where every repository that carries it spells the same architecture; ``REPOSITORY:NAME`` always is, with the
repository's name alone or as ``OWNER/REPOSITORY``. Upper and lower case, ``-`` and ``_`` make no difference in a name.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from archgrad.arch.links import Cells
from archgrad.arch.notation import from_mapping, parse
from archgrad.errors import unknown

SHORTEST = 3
"""Characters of a part of a name that is looked for."""
MOST = 6
"""Names that an error lists."""
ALIASES = {
    "PCDARTS": "PC-DARTS:PC_DARTS_cifar",
    "CDARTS": "Cream:CDARTS_cifar_0",
    "DrNAS": "DrNAS:DrNAS_cifar10",
}


class Published(NamedTuple):
    """One entry: where it stands and, where its authors say so, what it reached."""

    name: str
    repository: str  # "owner/repository"
    path: str
    commit: str
    spelled: (
        dict[str, Any] | str
    )  # as in that file; a chain, which has op numbers there, in our notation
    params_M: float | None
    cifar10_test_error: float | None  # percent
    numbers_source: str | None

    @property
    def qualified(self) -> str:
        """``REPOSITORY:NAME``"""
        return f"{self.repository.split('/')[1]}:{self.name}"

    @property
    def cells(self) -> Cells:
        """The architecture. ValueError where the source itself does not spell one."""
        found = parse(self.spelled) if isinstance(self.spelled, str) else from_mapping(self.spelled)
        if found is None:
            raise ValueError(f"{self.qualified} is not spelled out by its source")
        return found


@cache
def published() -> tuple[Published, ...]:
    """Every entry, in the order of its repositories."""
    data = json.loads(files("archgrad.data_files").joinpath("genotypes.json").read_text("utf-8"))
    return tuple(_entry(entry, data["sources"][entry["source"]]) for entry in data["genotypes"])


@cache
def known() -> tuple[str, ...]:
    """Every name that `find` answers to, each architecture's short one: the best known first."""
    first = ("DARTS_V1", "DARTS_V2", "PDARTS", *ALIASES)
    rest = (entry.name if _is_settled(entry.name) else entry.qualified for entry in published())
    return tuple(dict.fromkeys((*first, *rest)))


def find(name: str) -> Cells:
    """Return the architecture of that name. ValueError if there is none, or if repositories differ about it."""
    entries = _entries(name) or _meant(name)
    if not entries:
        raise unknown("genotype", name[:60], known())
    meant = {entry.cells: entry for entry in reversed(entries)}  # the first that spells it
    if len(meant) > 1:
        names = [
            entry.name if _is_settled(entry.name) else entry.qualified
            for entry in reversed(meant.values())
        ]
        said = " or ".join(names[:MOST]) + (
            f", ... ({len(names)} in all)" if len(names) > MOST else ""
        )
        raise ValueError(f"genotype {name!r} is published in more than one form: say {said}")
    return entries[0].cells


def _meant(name: str) -> list[Published]:
    """What a method's or a repository's name could mean: its versions, else the names that begin with it, else all of the repository."""
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
