"""The arms of a study: each with its method and all options that concern it, and a control arm among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from archgrad.errors import unknown
from archgrad.run import catalogue, config
from archgrad.run.config import Given, SearchConfig

Arms = Mapping[str, Mapping[str, Any]]
RANDOM = "random"
BUDGET = ("search.epochs", "search.batch", "search.limit")  # what arms must spend alike


def arms_of(given: Any, names: list[str], shared: Given, *, control: bool, before: Arms) -> Given:
    """Those of ``names``, or all ``given`` ones; with ``control`` an arm of random search is among them: if need be that of the file, of the
    study ``before``, or `random` as it is. A name is an arm of the file, of the study ``before``, or a method. ValueError for what cannot be."""
    if not isinstance(given, Mapping) or not all(
        isinstance(own or {}, Mapping) for own in given.values()
    ):
        raise ValueError(
            "arms: 'name: {settings that differ}' is expected, such as 'quiet: {method: stdarts, stdarts: {noise: none}}'"
        )
    every = {str(arm): dict(own or {}) for arm, own in given.items()}
    asked = (
        {
            name: every.get(name) or _again(before.get(name, {"method": name}), shared)
            for name in names
        }
        if names
        else every
    )
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
    return RANDOM in str(arm.get("method", "")).split("+")


def check_used(shared: Given, arms: Arms) -> None:
    """ValueError for a section of a method that no arm has."""
    used = {"darts", *(name for own in arms.values() for name in own["method"].split("+"))}
    for name in shared:
        if name in catalogue.methods() and name not in used:
            raise ValueError(f"section {name!r} is of a method that no arm uses: leave it out")


def check_equal(settings: Mapping[str, Given]) -> None:
    """``settings``: those of each arm, resolved and flat. ValueError if two arms spend other epochs, batches or images."""
    (first, its), *others = settings.items()
    for arm, own in others:
        for name in BUDGET:
            if own.get(name) != its.get(name):
                raise ValueError(
                    f"arm {arm}: {name} is {own.get(name)!r}, in arm {first} {its.get(name)!r}: arms have equal budgets, unless the study's "
                    "file says equal: false"
                )


def _again(arm: Mapping[str, Any], shared: Given) -> Given:
    """A recorded arm, with what is said of its methods now: where that differs, the study refuses it."""
    return config.merged(
        arm, {name: shared[name] for name in arm["method"].split("+") if name in shared}
    )


def _arm(arm: str, said: Mapping[str, Any], shared: Given, every: Iterable[str]) -> Given:
    if not re.fullmatch(r"[\w.+-]+", arm):
        raise ValueError(
            f"arm {arm!r}: a name of letters, digits and . + - _ is expected, for files are named by it"
        )
    try:
        if taken := {"seed", "out", "data"} & said.keys():
            raise ValueError(f"{min(taken)}: is the same for all arms")
        own = config.checked(said)
    except ValueError as error:
        raise ValueError(f"arm {arm}: {error}") from None
    method: str = own.get("method") or shared.get("method") or SearchConfig().method
    for one in method.split("+"):
        if one not in catalogue.methods():
            raise unknown("method", one, [*catalogue.methods(), *every])
    theirs = {name: shared[name] for name in (*method.split("+"), "darts") if name in shared}
    return {"method": method, **config.merged(theirs, own)}
