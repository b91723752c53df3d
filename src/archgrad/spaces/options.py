"""The options that spaces share: their help texts, their checks, and their forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from archgrad.arch.edges import Primitives
from archgrad.bounds import check_option
from archgrad.errors import short_repr, unknown_name
from archgrad.spaces import primitives as table

S = TypeVar("S")
PrimitiveSets = tuple[str, ...] | Primitives | None
"""The option ``primitives``: None for those of the space, names for all edges, or names by edge."""

HELP = {
    "name": (
        "name of the space, as `archgrad spaces` lists it, or package.module:Name of a module of "
        "your own"
    ),
    "channels": "number of channels of the first cell of the supernet, or of a chain's stem",
    "cells": "number of cells of the supernet (in NAS-Bench-201, of each of its three stages)",
    "primitives": "names of the primitives on every edge; the default is the space's own",
    "extras": "names of primitives on every edge beside the searched ones; they are never selected",
    "in_channels": "number of channels of an image; a search reads it from the images",
    "classes": "number of classes; a search reads it from the images",
    "stem": (
        "form of the first layers (cifar, imagenet, and small in mbconv); "
        "a search chooses it by the image size"
    ),
    "affine": "learned scale and shift in the BatchNorms of cells, or of a chain's layers",
    "track": "running statistics in the BatchNorms of cells, or of a chain's layers",
    "auxiliary": "second classifier at two thirds of the depth, for training",
    "partial_channels": (
        "divisor K of a node's channels: 1/K of them go through the ops (PC-DARTS), and 1 is off"
    ),
}
"""Help of the options that several spaces share. `archgrad.options.model` reads it as the attribute
``option_help`` of a space; the docstring of a space describes only its own options."""


def names(space: Any) -> tuple[str, ...]:
    """Return the options of a space: the names of its fields except ``name``."""
    return tuple(field.name for field in fields(space) if field.name != "name")


def with_changes(space: S, changes: Mapping[str, Any]) -> S:
    """Return a space with other options.

    Args:
        space: The space, a dataclass.
        changes: The options to change.

    Returns:
        The space.

    Raises:
        ValueError: An option is unknown (the message has the nearest name) or out of range.
    """
    for option in changes:
        if option not in names(space):
            raise unknown_name("option", option, names(space))
    return replace(space, **changes)  # type: ignore[type-var]


def evaluated(space: S, published: Mapping[str, Any], given: Mapping[str, Any]) -> S:
    """Return a space in the form of its derived networks, as `Space.evaluation`.

    Args:
        space: The space.
        published: The published options of its derived networks.
        given: Options that replace the published ones; None replaces nothing.

    Returns:
        The space.
    """
    return with_changes(
        space,
        {**published, **{option: value for option, value in given.items() if value is not None}},
    )


def spec(space: Any) -> dict[str, Any]:
    """Return all options of a space as values for JSON."""
    return {option: _plain(getattr(space, option)) for option in names(space)}


def check_whole(space: Any, least: int, *options: str) -> None:
    """Raise ValueError for options that are no whole numbers of at least ``least``."""
    for option in options:
        value = getattr(space, option)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"{option} must be a whole number of at least {least}, not {short_repr(value)}"
            )
        check_option(option, value)


def check_flags(space: Any, *options: str) -> None:
    """Raise ValueError for options that are neither true nor false."""
    for option in options:
        if not isinstance(getattr(space, option), bool):
            raise ValueError(
                f"{option} must be true or false, not {short_repr(getattr(space, option))}"
            )


def primitive_sets(
    value: Any, edges: Mapping[str, int], check: Callable[[Iterable[str]], None] = table.check
) -> PrimitiveSets:
    """Check the option ``primitives`` (or ``extras``) of a space.

    Args:
        value: The value of the option, a `PrimitiveSets` with lists or tuples.
        edges: Group name -> number of its edges.
        check: Raises ValueError for names that are not allowed on an edge.

    Returns:
        The value with tuples.

    Raises:
        ValueError: The value has another form, or a name is not allowed.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        given = _by_group(value, edges, "primitives")
        if odd := [group for group, sets in given.items() if not isinstance(sets, list | tuple)]:
            raise ValueError(
                f"primitives of {odd[0]!r} must be a list with a list of names for each edge, "
                f"not {short_repr(given[odd[0]])}"
            )
        per_edge = {
            group: tuple(_names(one, group, check) for one in sets) for group, sets in given.items()
        }
        for group, sets in per_edge.items():
            if len(sets) != edges[group]:
                raise ValueError(
                    f"primitives of {group!r} must be {edges[group]} tuples, one per edge; "
                    f"there are {len(sets)}"
                )
        return {group: per_edge[group] for group in edges}
    everywhere = _names(value, "every edge", check)
    if not everywhere:
        raise ValueError(
            "primitives must name at least one primitive "
            "(an empty tuple for a single edge removes that edge)"
        )
    return everywhere


def concats(
    value: Any, groups: Mapping[str, int], nodes: range
) -> dict[str, tuple[int, ...]] | None:
    """Check the option ``concat`` of a space.

    Args:
        value: A list of nodes for all groups, or group name -> list of nodes, or None.
        groups: The names of the groups, as keys.
        nodes: The inner nodes of a cell.

    Returns:
        Group name -> tuple of nodes; None for None.

    Raises:
        ValueError: A list is empty, or it contains other nodes.
    """
    if value is None:
        return None
    found = (
        _by_group(value, groups, "concat")
        if isinstance(value, Mapping)
        else dict.fromkeys(groups, value)
    )
    for group, chosen in found.items():
        if (
            not isinstance(chosen, list | tuple)
            or not chosen
            or not all(type(node) is int and node in nodes for node in chosen)
        ):
            raise ValueError(
                f"concat of {group!r} must name nodes among {list(nodes)}, not {short_repr(chosen)}"
            )
    return {group: tuple(found[group]) for group in groups}


def _by_group(value: Mapping[str, Any], groups: Mapping[str, int], option: str) -> dict[str, Any]:
    for group in value:
        if group not in groups:
            raise unknown_name(f"cell in {option}", group, groups)
    if missing := [group for group in groups if group not in value]:
        raise ValueError(
            f"{option} must have entries for {', '.join(groups)}; it lacks {', '.join(missing)}"
        )
    return dict(value)


def _names(value: Any, where: str, check: Callable[[Iterable[str]], None]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"primitives of {where} must be a list of names, not {short_repr(value)}")
    check(value)
    return tuple(value)


def _plain(value: Any) -> Any:
    """Return a value with lists in the place of its tuples, as a JSON reader returns it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
