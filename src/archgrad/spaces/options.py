"""What every space checks about its options, and the forms in which ``primitives`` may be given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from archgrad.arch.edges import Primitives
from archgrad.bounds import check_option
from archgrad.errors import shown, unknown
from archgrad.spaces import primitives as table

S = TypeVar("S")
Sets = tuple[str, ...] | Primitives | None
"""None: the space's own; names for every edge; or, per group, names for each edge."""


def names(space: Any) -> tuple[str, ...]:
    """The options of a space: its fields, but for its name."""
    return tuple(field.name for field in fields(space) if field.name != "name")


def changed(space: S, changes: Mapping[str, Any]) -> S:
    """``dataclasses.replace`` that refuses unknown options with the nearest name."""
    for option in changes:
        if option not in names(space):
            raise unknown("option", option, names(space))
    return replace(space, **changes)  # type: ignore[type-var]


def evaluated(space: S, published: Mapping[str, Any], given: Mapping[str, Any]) -> S:
    """`Space.evaluation`: with the ``published`` options, but for those that are given (None is none given)."""
    return changed(
        space,
        {**published, **{option: value for option, value in given.items() if value is not None}},
    )


def spec(space: Any) -> dict[str, Any]:
    """Every option, JSON-able."""
    return {option: _plain(getattr(space, option)) for option in names(space)}


def whole(space: Any, least: int, *options: str) -> None:
    for option in options:
        value = getattr(space, option)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"{option} must be a whole number of at least {least}, not {shown(value)}"
            )
        check_option(option, value)


def flags(space: Any, *options: str) -> None:
    for option in options:
        if not isinstance(getattr(space, option), bool):
            raise ValueError(f"{option} must be true or false, not {shown(getattr(space, option))}")


def primitive_sets(
    value: Any, edges: Mapping[str, int], check: Callable[[Iterable[str]], None] = table.check
) -> Sets:
    """``value`` with tuples for lists. ``edges``: how many each group has; ``check`` refuses names. ValueError if it does not fit."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        given = _by_group(value, edges, "primitives")
        if odd := [group for group, sets in given.items() if not isinstance(sets, list | tuple)]:
            raise ValueError(
                f"primitives of {odd[0]!r} must be a list with one of names for each edge, not {shown(given[odd[0]])}"
            )
        per_edge = {
            group: tuple(_names(one, group, check) for one in sets) for group, sets in given.items()
        }
        for group, sets in per_edge.items():
            if len(sets) != edges[group]:
                raise ValueError(
                    f"primitives of {group!r} must be {edges[group]} tuples, one per edge; there are {len(sets)}"
                )
        return {group: per_edge[group] for group in edges}
    everywhere = _names(value, "every edge", check)
    if not everywhere:
        raise ValueError(
            "primitives must name at least one primitive (a single edge is removed by an empty tuple of its own)"
        )
    return everywhere


def concats(
    value: Any, groups: Mapping[str, int], nodes: range
) -> dict[str, tuple[int, ...]] | None:
    """One tuple of nodes for all groups, or one per group. ValueError if it is empty or names what is no inner node."""
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
                f"concat of {group!r} must name nodes among {list(nodes)}, not {shown(chosen)}"
            )
    return {group: tuple(found[group]) for group in groups}


def _by_group(value: Mapping[str, Any], groups: Mapping[str, int], option: str) -> dict[str, Any]:
    for group in value:
        if group not in groups:
            raise unknown(f"cell in {option}", group, groups)
    if missing := [group for group in groups if group not in value]:
        raise ValueError(
            f"{option} must speak of {', '.join(groups)}; it lacks {', '.join(missing)}"
        )
    return dict(value)


def _names(value: Any, where: str, check: Callable[[Iterable[str]], None]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"primitives of {where} must be a list of names, not {shown(value)}")
    check(value)
    return tuple(value)


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down: what JSON gives back."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
