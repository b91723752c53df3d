"""Defaults that have changed: a run or a study that was recorded before, and that does not name the option, means the earlier value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Sections = Mapping[str, Any]
"""Settings of a search or of an arm as a file has them: its ``method``, and a section of options for each method by its name."""

EARLIER: dict[str, dict[str, Any]] = {"drnas": {"readout": "mean"}, "dartspt": {"last": 1.0}}
"""Method -> option -> the value that it had before it was recorded by name, or before the default changed."""


def as_recorded(given: Sections) -> dict[str, Any]:
    """The settings of a record, in which each option of `EARLIER` that is not named has its earlier value."""
    return named(given, EARLIER)


def as_before(given: Sections, arm: Sections, others: Mapping[str, Sections]) -> dict[str, Any]:
    """An arm that is added to a recorded study, in which each option of `EARLIER` that is not named has the value that the study has.

    Args:
        given: The arm.
        arm: The recorded arm of the same name, or nothing.
        others: All recorded arms.

    Returns:
        The arm. What no recorded arm names stays as it is.
    """
    values = {
        name: options
        for other in reversed([arm, *others.values()])
        for name, options in _said(other).items()
    }
    return named(given, values)


def as_today(given: Sections, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """An arm in which each option of `EARLIER` is named, so that a later default changes nothing; ``resolved``: section.option -> value."""
    keys = {
        name: {option: f"{name}.{option}" for option in options}
        for name, options in EARLIER.items()
    }
    values = {
        name: {option: resolved[key] for option, key in own.items() if key in resolved}
        for name, own in keys.items()
    }
    return named(given, values)


def named(given: Sections, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings with these options of the methods they use, where they do not name them."""
    used = str(given.get("method", "")).split("+")
    filled = {
        name: {**own, **said}
        for name, own in values.items()
        if name in used and isinstance(said := given.get(name) or {}, Mapping)
    }
    return {**given, **{name: section for name, section in filled.items() if section}}


def _said(arm: Sections) -> dict[str, dict[str, Any]]:
    """The options of `EARLIER` that an arm names."""
    sections = {name: arm.get(name, {}) for name in EARLIER}
    found = {
        name: {option: said[option] for option in EARLIER[name] if option in said}
        for name, said in sections.items()
    }
    return {name: options for name, options in found.items() if options}
