"""Defaults that have changed since runs and studies were recorded.

A record that does not name such an option means its earlier value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Sections = Mapping[str, Any]
"""Settings of a search or an arm as a file has them: ``method``, and a section for each method."""

EARLIER: dict[str, dict[str, Any]] = {"drnas": {"readout": "mean"}, "dartspt": {"last": 1.0}}
"""Method -> option -> its value in records that do not name it."""


def as_recorded(given: Sections) -> dict[str, Any]:
    """Return the settings of a record, with the earlier value of each option they do not name."""
    return with_options(given, EARLIER)


def as_before(given: Sections, arm: Sections, others: Mapping[str, Sections]) -> dict[str, Any]:
    """Return an arm that is added to a recorded study, with the study's values of changed options.

    Options of `EARLIER` that the arm names itself stay.

    Args:
        given: The arm.
        arm: The recorded arm of the same name, or nothing.
        others: All recorded arms.

    Returns:
        The arm. Options that no recorded arm names stay as they are.
    """
    values = {
        name: options
        for other in reversed([arm, *others.values()])
        for name, options in _said(other).items()
    }
    return with_options(given, values)


def as_today(given: Sections, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return an arm that names each option of `EARLIER`, so that a later default changes nothing.

    Args:
        given: The arm.
        resolved: ``section.option`` -> value.
    """
    keys = {
        name: {option: f"{name}.{option}" for option in options}
        for name, options in EARLIER.items()
    }
    values = {
        name: {option: resolved[key] for option, key in own.items() if key in resolved}
        for name, own in keys.items()
    }
    return with_options(given, values)


def with_options(given: Sections, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings with these options of their methods, where they do not name them."""
    used = str(given.get("method", "")).split("+")
    filled = {
        name: {**own, **named_options}
        for name, own in values.items()
        if name in used and isinstance(named_options := given.get(name) or {}, Mapping)
    }
    return {**given, **{name: section for name, section in filled.items() if section}}


def _said(arm: Sections) -> dict[str, dict[str, Any]]:
    """Return the options of `EARLIER` that an arm names."""
    sections = {name: arm.get(name, {}) for name in EARLIER}
    found = {
        name: {option: section[option] for option in EARLIER[name] if option in section}
        for name, section in sections.items()
    }
    return {name: options for name, options in found.items() if options}
