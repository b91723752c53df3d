"""All methods and spaces with their options, as plain data: what the command line reads, lists and refuses before torch is imported.

``data_files/catalogue.json`` is written by ``python -m archgrad.cli.tabulate`` from the tables `METHODS` and `SPACES`, and a test compares them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, create_model

from archgrad import options, plugins
from archgrad.arch.genotype import Genotype
from archgrad.bounds import check_option
from archgrad.errors import shown, unknown
from archgrad.run import field_types

if TYPE_CHECKING:
    from archgrad.arch.space import Space

FILE = "catalogue.json"


class MethodListing(NamedTuple):
    """A method: ``summary`` and ``paper`` as `archgrad methods` shows them, ``about`` as its section of the help, the names of its presets."""

    summary: str
    paper: str
    about: str
    presets: tuple[str, ...]
    options: Mapping[str, Any]  # as `field_types.described`


class SpaceListing(NamedTuple):
    """A space: ``paper`` and ``cells`` as `archgrad spaces` shows them, and what its options may be."""

    paper: str
    cells: tuple[str, ...]
    stems: tuple[str, ...]
    options: tuple[str, ...]
    least: Mapping[str, int]  # option -> its smallest whole number
    primitives: tuple[str, ...]  # all that are known there; empty where they are no list
    used: tuple[str, ...]  # those that stand on its edges without any option

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of its edge groups."""
        return tuple(cell.partition(":")[0] for cell in self.cells)

    def check(self, given: Mapping[str, Any]) -> None:
        """ValueError for an option that the space does not have, or a value out of range: what `Space.resized` says of it."""
        for name, value in given.items():
            if name not in self.options:
                raise unknown("option", name, self.options)
            if name in self.least and isinstance(value, int) and value < self.least[name]:
                raise ValueError(
                    f"{name} must be a whole number of at least {self.least[name]}, not {shown(value)}"
                )
            if isinstance(value, int):
                check_option(name, value)
            if name == "stem" and self.stems and value not in self.stems:
                raise unknown("stem", value, self.stems)
            if name == "primitives" and self.primitives and not isinstance(value, Mapping):
                for one in (one for one in value or () if one not in self.primitives):
                    raise plugins.unknown("primitive", one, self.primitives)


class Count(NamedTuple):
    """What a derived network has: parameters, multiply-adds of one image, and the size it was counted at."""

    params: int
    macs: int
    channels: int
    cells: int | None  # of a chain there are none
    classes: int = 10
    size: int = 32


def methods() -> dict[str, MethodListing]:
    return {
        **_methods(),
        **{name: _listed(entry) for name, entry in _own("methods", _methods()).items()},
    }


def spaces() -> dict[str, SpaceListing]:
    own = _own("spaces", _spaces())
    return {**_with_primitives(), **{name: space_listing(entry) for name, entry in own.items()}}


def method_options(name: str) -> type[BaseModel]:
    """The options of a method, as its `Entry.model` has them."""
    own = _own("methods", _methods())
    return own[name].model() if name in own else _method_options(name)


def space_options() -> type[BaseModel]:
    """The options of all spaces together."""
    own = _own("spaces", _spaces())
    return (
        together(_space_options(), *(model_of(entry) for entry in own.values()))
        if own
        else _space_options()
    )


def check_space(name: str, options: Mapping[str, Any]) -> None:
    """ValueError for an unknown space, or an option that it cannot have, as far as that is known without building it."""
    if name not in spaces():
        raise plugins.unknown("space", name, spaces())
    try:
        spaces()[name].check(options)
    except ValueError as error:
        raise ValueError(f"space {name}: {error}") from None


def counted(genotype: Genotype) -> Count | None:
    """The count of a published architecture as `archgrad count` builds it without any option; None for any other."""
    from archgrad.arch.published import published

    known = _content()["counts"]
    return next(
        (
            Count(**known[one.qualified])
            for one in published()
            if one.qualified in known and one.cells == genotype.cells
        ),
        None,
    )


def method_listing(entry: Any) -> MethodListing:
    """Of an entry of `METHODS`. TypeError for an option whose type has no form in the catalogue."""
    described = field_types.described(entry.model())
    return MethodListing(
        entry.summary, entry.paper, options.about(entry.patch), tuple(entry.presets), described
    )


def _listed(entry: Any) -> MethodListing:
    """Of an entry that a user has added: its options by name, for their types are its function's own."""
    names = dict.fromkeys(entry.model().model_fields, None)
    return MethodListing(
        entry.summary, entry.paper, options.about(entry.patch), tuple(entry.presets), names
    )


def space_listing(entry: Any) -> SpaceListing:
    """Of an entry of `SPACES`: what its options may be is asked of the space itself."""
    from archgrad.spaces.primitives import PRIMITIVES

    space = entry.build()
    least = {}
    for option in space.spec():
        if found := re.match(
            rf"{option} must be a whole number of at least (\d+), not -1",
            refusal(space, **{option: -1}),
        ):
            least[option] = int(found[1])
    return SpaceListing(
        entry.paper,
        tuple(
            f"{group.name}: {len(group.edges)} edges of {group.width} primitives at most"
            for group in space.groups.values()
        ),
        tuple(entry.stems),
        tuple(space.spec()),
        least,
        tuple(PRIMITIVES)
        if refusal(space, primitives=("?",)) == str(unknown("primitive", "?", PRIMITIVES))
        else (),
        tuple(
            dict.fromkeys(
                name
                for group in space.groups.values()
                for edge in group.edges
                for name in edge.primitives
            )
        ),
    )


def refusal(space: Space, **changes: Any) -> str:
    """The words in which a space refuses an option; none where it takes it."""
    try:
        space.resized(**changes)
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


def model_of(entry: Any) -> type[BaseModel]:
    """The options of an entry of `SPACES`."""
    return options.model(getattr(entry.build, "func", entry.build))


def together(*models: type[BaseModel]) -> type[BaseModel]:
    """One model with the fields of all; of a name that stands twice the later."""
    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for model in models
        for name, field in model.model_fields.items()
    }
    return create_model("Space", **fields)


def _own(module: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that a user or a plugin has added to the table ``METHODS`` or ``SPACES``, which is imported then."""
    plugins.find()
    table: Mapping[str, Any] = getattr(sys.modules.get(f"archgrad.{module}"), module.upper(), {})
    return {name: entry for name, entry in table.items() if name not in known}


def _with_primitives() -> dict[str, SpaceListing]:
    """Returns the spaces of the library. A space that takes any primitive takes those of plugins as well."""
    table: Mapping[str, Any] = getattr(
        sys.modules.get("archgrad.spaces.primitives"), "PRIMITIVES", {}
    )
    return {
        name: one._replace(primitives=tuple(dict.fromkeys([*one.primitives, *table])))
        if one.primitives
        else one
        for name, one in _spaces().items()
    }


@cache
def _methods() -> dict[str, MethodListing]:
    return {
        name: MethodListing(**{**one, "presets": tuple(one["presets"])})
        for name, one in _content()["methods"].items()
    }


@cache
def _spaces() -> dict[str, SpaceListing]:
    lists = ("cells", "stems", "options", "primitives", "used")
    return {
        name: SpaceListing(**{**one, **{part: tuple(one[part]) for part in lists}})
        for name, one in _content()["spaces"].items()
    }


@cache
def _method_options(name: str) -> type[BaseModel]:
    return create_model(
        "Options",
        __config__=ConfigDict(extra="forbid"),
        **field_types.fields(_methods()[name].options),
    )


@cache
def _space_options() -> type[BaseModel]:
    return create_model("Space", **field_types.fields(_content()["space_options"]))


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        files("archgrad.data_files").joinpath(FILE).read_text("utf-8")
    )
    return content
