"""All methods and spaces with their options, as plain data.

The command line lists them and checks options with them before torch is imported.
``python -m archgrad.cli.tabulate`` writes ``data_files/catalogue.json`` from the tables `METHODS`
and `SPACES`, and a test compares the two.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, create_model

from archgrad import options, plugins
from archgrad.arch.genotype import Genotype
from archgrad.bounds import check_option
from archgrad.errors import short_repr, unknown_name
from archgrad.run import field_types

if TYPE_CHECKING:
    from archgrad.arch.space import Space

FILE = "catalogue.json"


class MethodListing(NamedTuple):
    """A method as the command line shows it.

    Attributes:
        summary: One line about the method, as `archgrad methods` shows it.
        paper: Its source.
        about: The text above its section of the help.
        presets: The names of its sets of options.
        options: Its options as plain data (`archgrad.run.field_types.field_data`).
    """

    summary: str
    paper: str
    about: str
    presets: tuple[str, ...]
    options: Mapping[str, Any]


class SpaceListing(NamedTuple):
    """A space as the command line shows it.

    Attributes:
        paper: Its source.
        cells: A line for each edge group, as `archgrad spaces` shows it.
        stems: The names of its stems, none if it has only one.
        options: The names of its options.
        least: Name of an option -> its smallest whole number.
        primitives: The names of all primitives that its edges may have, none if it has other
            primitives than those of the table.
        used: The names of the primitives on its edges without any option.
    """

    paper: str
    cells: tuple[str, ...]
    stems: tuple[str, ...]
    options: tuple[str, ...]
    least: Mapping[str, int]
    primitives: tuple[str, ...]
    used: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the names of its edge groups."""
        return tuple(cell.partition(":")[0] for cell in self.cells)

    def check(self, given: Mapping[str, Any]) -> None:
        """Check options of the space, with the messages of `Space.resized`.

        Raises:
            ValueError: The space does not have an option, or a value is out of range.
        """
        for name, value in given.items():
            if name not in self.options:
                raise unknown_name("option", name, self.options)
            if name in self.least and isinstance(value, int) and value < self.least[name]:
                raise ValueError(
                    f"{name} must be a whole number of at least {self.least[name]}, "
                    f"not {short_repr(value)}"
                )
            if isinstance(value, int):
                check_option(name, value)
            if name == "stem" and self.stems and value not in self.stems:
                raise unknown_name("stem", value, self.stems)
            if name == "primitives" and self.primitives and not isinstance(value, Mapping):
                _check_primitives(value or (), self.primitives)


def _check_primitives(given: Iterable[Any], known: Collection[str]) -> None:
    if unknowns := [one for one in given if one not in known]:
        raise plugins.unknown("primitive", unknowns[0], known)


class Count(NamedTuple):
    """The size of a derived network.

    Attributes:
        params: The number of parameters.
        macs: The number of multiply-adds for one image.
        channels: Its width, None for a module of the user's own.
        cells: Its depth, None for a chain or such a module.
        classes: The number of classes.
        size: The side of the image, in pixels.
    """

    params: int
    macs: int
    channels: int | None
    cells: int | None
    classes: int = 10
    size: int = 32


def methods() -> dict[str, MethodListing]:
    """Return all methods by name, with those of plugins."""
    return {
        **_methods(),
        **{name: _listed(entry) for name, entry in _own("methods", _methods()).items()},
    }


def spaces() -> dict[str, SpaceListing]:
    """Return all spaces by name, with those of plugins."""
    own = _own("spaces", _spaces())
    return {**_with_primitives(), **{name: space_listing(entry) for name, entry in own.items()}}


def method_options(name: str) -> type[BaseModel]:
    """Return the options of a method, as `archgrad.methods.Entry.options_model` does."""
    own = _own("methods", _methods())
    return own[name].options_model() if name in own else _method_options(name)


def space_options() -> type[BaseModel]:
    """Return the options of all spaces in one model."""
    own = _own("spaces", _spaces())
    return (
        joined_model(_space_options(), *(model_of(entry) for entry in own.values()))
        if own
        else _space_options()
    )


def check_space(name: str, options: Mapping[str, Any]) -> None:
    """Check the name of a space and its options, as far as possible without building the space.

    Raises:
        ValueError: There is no such space or option, or a value is out of range.
    """
    plugins.load_space(name)
    if name not in spaces():
        raise plugins.unknown("space", name, spaces())
    try:
        spaces()[name].check(options)
    except ValueError as error:
        raise ValueError(f"space {name}: {error}") from None


def counted(genotype: Genotype) -> Count | None:
    """Return the size of a published architecture without any option, None for any other one.

    The network is the one that `archgrad count` builds.
    """
    from archgrad.arch.published import published

    known = _content()["counts"]
    return next(
        (
            Count(**known[one.qualified_name])
            for one in published()
            if one.qualified_name in known and one.cells == genotype.cells
        ),
        None,
    )


def method_listing(entry: Any) -> MethodListing:
    """Return the listing of an entry of `METHODS`.

    Raises:
        TypeError: The type of an option has no form in the catalogue.
    """
    described = field_types.field_data(entry.options_model())
    return MethodListing(
        entry.summary,
        entry.paper,
        options.description(entry.patch),
        tuple(entry.presets),
        described,
    )


def _listed(entry: Any) -> MethodListing:
    """Return the listing of an entry of a plugin, without the types of its options."""
    names = dict.fromkeys(entry.options_model().model_fields, None)
    return MethodListing(
        entry.summary, entry.paper, options.description(entry.patch), tuple(entry.presets), names
    )


def space_listing(entry: Any) -> SpaceListing:
    """Return the listing of an entry of `SPACES`.

    The bounds of its options come from the messages in which the space refuses wrong values.
    """
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
        if refusal(space, primitives=("?",)) == str(unknown_name("primitive", "?", PRIMITIVES))
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
    """Return the message in which a space refuses an option, empty if it takes the option."""
    try:
        space.resized(**changes)
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


def model_of(entry: Any) -> type[BaseModel]:
    """Return the options of an entry of `SPACES`."""
    return options.model(getattr(entry.build, "func", entry.build))


def joined_model(*models: type[BaseModel]) -> type[BaseModel]:
    """Return one model with the fields of all. If a name occurs twice, the later field wins."""
    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for model in models
        for name, field in model.model_fields.items()
    }
    return create_model("Space", **fields)


def _own(module: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that plugins have added to a table.

    A table that no plugin has imported has no such entries, and is not imported here.
    """
    plugins.load_entry_points()
    table: Mapping[str, Any] = getattr(sys.modules.get(f"archgrad.{module}"), module.upper(), {})
    return {name: entry for name, entry in table.items() if name not in known}


def _with_primitives() -> dict[str, SpaceListing]:
    """Return archgrad's spaces. If a space takes any primitive, it takes those of plugins too."""
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
        **field_types.fields_of(_methods()[name].options),
    )


@cache
def _space_options() -> type[BaseModel]:
    return create_model("Space", **field_types.fields_of(_content()["space_options"]))


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        files("archgrad.data_files").joinpath(FILE).read_text("utf-8")
    )
    return content
