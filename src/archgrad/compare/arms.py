"""The arms of a study: each has its method and all options of that method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from archgrad.errors import unknown_name
from archgrad.run import catalogue, config
from archgrad.run.config import Given, SearchConfig

Arms = Mapping[str, Mapping[str, Any]]
"""Name of an arm -> its settings."""
RANDOM = "random"
BUDGET = ("search.epochs", "search.batch", "search.limit")
"""Settings that must be equal in all arms."""


def arms_of(given: Any, names: list[str], shared: Given, *, control: bool, before: Arms) -> Given:
    """Return the arms of a study.

    Args:
        given: The arms in the file of the study.
        names: The arms that the user named: arms of the file or of the study ``before``, or
            methods. Without names all arms of the file are taken.
        shared: The shared settings.
        control: Whether to add an arm of random search if there is none: that of the file, that of
            the study ``before``, or method ``random`` with its defaults.
        before: The arms of the study that this one continues.

    Returns:
        Name of each arm -> its settings.

    Raises:
        ValueError: The file has no mapping of arms, there is no arm, or an arm has a wrong name or
            setting.
    """
    if not isinstance(given, Mapping) or not all(
        isinstance(own or {}, Mapping) for own in given.values()
    ):
        raise ValueError(
            "arms: each entry is 'name: {settings that differ}', such as "
            "'quiet: {method: stdarts, stdarts: {noise: none}}'"
        )
    every = {str(arm): dict(own or {}) for arm, own in given.items()}
    asked = every
    if names:
        asked = {
            name: every.get(name) or _again(before.get(name, {"method": name}), shared)
            for name in names
        }
    if not asked:
        raise ValueError("which arms? name methods by --methods a,b+c, or a study file by --config")
    found = {arm: _arm(arm, own, shared, {**before, **every}) for arm, own in asked.items()}
    if control and not any(map(searches_randomly, found.values())):
        known = {**every, **before}
        name = next(
            (arm for arm, own in known.items() if searches_randomly(own)),
            "random-search" if RANDOM in known else RANDOM,
        )
        found[name] = _arm(name, known.get(name, {"method": RANDOM}), shared, every)
    return found


def searches_randomly(arm: Mapping[str, Any]) -> bool:
    """Return whether an arm is one of random search."""
    return RANDOM in str(arm.get("method", "")).split("+")


def check_used(shared: Given, arms: Arms) -> None:
    """Check that each section of a method belongs to a method of an arm.

    Raises:
        ValueError: No arm uses the method of a section.
    """
    used = {"darts", *(name for own in arms.values() for name in own["method"].split("+"))}
    for name in shared:
        if name in catalogue.methods() and name not in used:
            raise ValueError(f"section {name!r} belongs to a method that no arm uses: leave it out")


def check_equal(settings: Mapping[str, Given]) -> None:
    """Check that all arms have the same epochs, batch size and number of images.

    Args:
        settings: Arm -> its resolved settings by ``section.name``.

    Raises:
        ValueError: Two arms differ.
    """
    (first, its), *others = settings.items()
    for arm, own in others:
        for name in BUDGET:
            if own.get(name) != its.get(name):
                raise ValueError(
                    f"arm {arm}: {name} is {own.get(name)!r}, in arm {first} {its.get(name)!r}: "
                    "arms must have equal budgets, unless the file of the study sets equal: false"
                )


def _again(arm: Mapping[str, Any], shared: Given) -> Given:
    """Return a recorded arm with the settings of its methods that are given now.

    If they differ from the recorded ones, `archgrad.compare.study.joined` refuses the study.
    """
    return config.merged(
        arm, {name: shared[name] for name in arm["method"].split("+") if name in shared}
    )


def _arm(arm: str, given: Mapping[str, Any], shared: Given, every: Iterable[str]) -> Given:
    """Return the settings of an arm: its method, and all options of that method."""
    if not re.fullmatch(r"[\w.+-]+", arm):
        raise ValueError(
            f"arm {arm!r}: the name of an arm may have letters, digits and . + - _, "
            "because files are named after it"
        )
    try:
        if taken := {"seed", "out", "data"} & given.keys():
            raise ValueError(f"{min(taken)}: is the same for all arms, so set it above the arms")
        own = config.checked(given)
    except ValueError as error:
        raise ValueError(f"arm {arm}: {error}") from None
    method: str = own.get("method") or shared.get("method") or SearchConfig().method
    for one in method.split("+"):
        if one not in catalogue.methods():
            raise unknown_name("method", one, [*catalogue.methods(), *every])
    theirs = {name: shared[name] for name in (*method.split("+"), "darts") if name in shared}
    return {"method": method, **config.merged(theirs, own)}
