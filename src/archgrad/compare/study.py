"""A study: arms that differ in what they say, and in nothing else, each searched with the same seeds.

A study file is a file of search settings with some more entries: ``arms`` (name -> what that arm says otherwise), ``seeds`` (a number n
for 1 to n, or a list), ``retrain_seeds`` (how often each found network is trained from scratch; 0: never), ``control`` (the arm that others
are compared to), ``controls`` (whether an arm of random search is added where none is; true), ``equal`` (whether all arms must spend the same
epochs, batches and images; true) and ``blind`` (no true accuracy is looked up, so that settings can be chosen by what was measured in the
searches alone). What stands above the arms is shared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from archgrad import bounds, plugins
from archgrad.arch.space import AUTO
from archgrad.compare.arms import arms_of, check_equal, check_used, searches_randomly
from archgrad.errors import shown, unknown
from archgrad.retraining.settings import retrain_settings
from archgrad.run import catalogue, config, earlier
from archgrad.run.config import Given, SearchConfig

OWN = ("arms", "seeds", "control", "blind", "controls", "equal", "retrain_seeds")
SEEDS = 4
LOCAL = {
    "data.path",
    "data.test",
    "data.cache",
    "data.workers",
    "search.checkpoint_seconds",
    "search.recompute",
    "plugins",
}
"""Settings that decide where, how fast and by whose code, not what."""
ELSEWHERE = "elsewhere"
"""Said in place of validation images that are another set: its place is of one machine."""


@dataclass(frozen=True)
class Study:
    """``shared`` names no method; ``arms`` say their method and all its options themselves."""

    shared: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    control: str
    blind: bool = False
    controls: bool = True
    equal: bool = True
    retrain_seeds: int = 0

    def settings(self, arm: str, seed: int = 0) -> SearchConfig:
        """Of one search. A study's searches take one thread unless it says otherwise: its numbers must not depend on the machine's cores.
        A blind one's look up nothing while they run. Where no rate of the alphas is named they have the published one, and where no validation
        images are named they have none: a new study names both."""
        shared = {"threads": 1, **self.shared}
        blind = {"diagnostics": {"ranking_table": False}} if self.blind else {}
        from archgrad.run import preparing

        try:
            found = config.read(("", shared), ("", self.arms[arm]), ("", blind)).model_copy(
                update={"seed": seed}
            )
            named = {"lr": preparing.build(found).alphas.lr} if "lr" not in found.alphas else {}
            images = found.data.model_copy(update={"val": found.data.val or "none"})
            return found.model_copy(update={"alphas": {**found.alphas, **named}, "data": images})
        except ValueError as error:
            raise ValueError(f"arm {arm}: {error}") from None

    def resolved(self, arm: str, steps: int | None = None) -> Given:
        """Every setting of an arm that no image decides, as ``section.name`` -> value; without those that decide no result. With the ``steps``
        of an epoch, one pass over the training half, an automatic rate of the alphas is a number."""
        from archgrad.run import preparing
        from archgrad.searching.types import Plan

        settings = self.settings(arm)
        try:
            method = preparing.build(settings)
            if self.retrain_seeds:
                retrain_settings(method.base, settings.retrain)
        except ValueError as error:
            raise ValueError(f"arm {arm}: {error}") from None
        plan = (
            None
            if steps is None
            else Plan(settings.search.epochs or method.base.defaults.epochs, steps)
        )
        whole = preparing.resolve(settings, method, plan).to_mapping() | {
            "space": {"name": settings.space["name"], **method.base.spec()}
        }
        whole["data"] |= _elsewhere(whole["data"])
        return {name: value for name, value in flat(whole).items() if name not in LOCAL | {"seed"}}

    def to_mapping(self) -> Given:
        """As a file has it. Paths of this machine are left out: the images are known by their fingerprint."""
        shared = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in self.shared.items()
        }
        given = shared.get("data", {})
        shared["data"] = {
            name: value
            for name, value in given.items()
            if name != "cache" and not local(name, value)
        } | _elsewhere(given)
        arms = {name: dict(own) for name, own in self.arms.items()}
        optional = {
            name: getattr(self, name) for name in ("blind", "controls", "equal", "retrain_seeds")
        }
        said = {name: value for name, value in optional.items() if value != getattr(Study, name)}
        whole = {**shared, **said, "control": self.control, "seeds": list(self.seeds), "arms": arms}
        return {
            name: value
            for name, value in json.loads(json.dumps(whole, default=str)).items()
            if value != {}
        }

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_mapping(), sort_keys=False, allow_unicode=True, width=120)


def read(
    *sources: tuple[str, Mapping[str, Any]],
    names: Iterable[str] = (),
    before: Study | None = None,
    recorded: bool = False,
) -> Study:
    """A study of several sources, each (its name in error messages, settings as a study file has them); later ones win.

    ``names`` are the arms to be run: those of the file, or methods (``a``, ``a+b``), an arm each; by default all arms of the file, and one of
    random search. ``before``: the study that this one goes on with, whose control arms are taken over. A ``recorded`` one is read as it stands.
    A new study in which ``alphas.lr`` or ``data.val`` is not named says that it is automatic; one that was begun without goes on at the
    published rates, or without validation images. A new arm names the options whose defaults have changed once (`archgrad.run.earlier`); a
    recorded one that does not has the earlier values.
    ValueError: what `archgrad.run.config.read` refuses, in the shared settings or in an arm; no arm, no seed, no such control; unequal budgets.
    """
    own: Given = {}
    shared: Given = {}
    for where, given in sources:
        own |= {name: given[name] for name in OWN if given.get(name) is not None}
        rest = {name: value for name, value in given.items() if name not in OWN}
        try:
            if taken := {"seed", "out"} & rest.keys():
                raise ValueError(
                    f"{min(taken)}: a study has seeds, and a folder of its own for each run"
                )
            shared = config.merged(shared, config.checked(rest))
        except ValueError as error:
            raise ValueError(f"{where}: {error}" if where else str(error)) from None
    named = before.shared.get("alphas", {}) if before else {"lr": AUTO}
    if not recorded and "lr" in named:
        shared = config.merged({"alphas": {"lr": AUTO}}, shared)
    if not recorded and (before is None or "val" in before.shared.get("data", {})):
        shared = config.merged({"data": {"val": AUTO}}, shared)
    usual = (
        {name: getattr(before or Study, name) for name in ("controls", "equal", "retrain_seeds")}
        | {"blind": False}
        | own
    )
    said = {name: _truth(name, usual[name]) for name in ("blind", "controls", "equal")}
    known = before.arms if before else {}
    asked = list(names)
    arms = arms_of(
        own.get("arms", {}), asked, shared, control=said["controls"] and not recorded, before=known
    )
    if recorded:
        arms = {arm: earlier.as_recorded(mine) for arm, mine in arms.items()}
    else:
        arms = {
            arm: earlier.as_before(mine, known.get(arm, {}), known) for arm, mine in arms.items()
        }
    check_used(shared, arms)
    control = own.get("control") or (before.control if before else usual_control(arms))
    if str(control) not in {**known, **arms}:
        raise unknown("control arm", control, {**known, **arms})
    shared = {
        name: value
        for name, value in shared.items()
        if name != "method" and name not in catalogue.methods()
    }
    if not recorded and (used := _plugins(shared, arms)):
        shared["plugins"] = used
    found = Study(
        shared,
        arms,
        seeds_of(own.get("seeds", SEEDS)),
        control,
        **said,
        retrain_seeds=_count(usual["retrain_seeds"]),
    )
    if found.blind and found.retrain_seeds:
        raise ValueError(
            "retrain_seeds: a blind study sees no test image, so it retrains nothing: leave out one of the two"
        )
    settings = {}
    for arm in arms:
        try:
            settings[arm] = found.resolved(arm)
        except ValueError as error:
            hint = (
                ""
                if arm in (asked or own.get("arms", {}))
                else " (an arm that every study has; --no-controls leaves it out)"
            )
            raise ValueError(f"{error}{hint}") from None
    if found.equal and not recorded:
        check_equal(settings)
    return replace(
        found, arms={arm: earlier.as_today(mine, settings[arm]) for arm, mine in arms.items()}
    )


def _plugins(shared: Given, arms: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The plugins that the file or the command named, with their versions, and those that an arm or the space are of."""
    methods = [name for own in arms.values() for name in own["method"].split("+")]
    named = plugins.joined(
        shared.get("plugins", ()), *(own.get("plugins", ()) for own in arms.values())
    )
    return plugins.recorded(
        named,
        methods=methods,
        space=shared.get("space", SearchConfig().space).get("name", SearchConfig().space["name"]),
    )


def usual_control(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """``darts``; without it an arm of random search; else the first."""
    return (
        "darts"
        if "darts" in arms
        else next((arm for arm, own in arms.items() if searches_randomly(own)), next(iter(arms)))
    )


def seeds_of(given: Any) -> tuple[int, ...]:
    """``4`` -> 1, 2, 3, 4; a list, or text as a command line has it ("4", "1,2,5"), as it is."""
    said = given
    if isinstance(given, str):
        given = [int(one) if one.strip().isdigit() else one for one in given.split(",")]
        given = given[0] if len(given) == 1 else given
    found = range(1, given + 1) if isinstance(given, int) and not isinstance(given, bool) else given
    if (
        isinstance(found, range | list | tuple) and found[bounds.SEEDS :]
    ):  # a range of 10**30 has no length
        raise ValueError(f"seeds: at most {bounds.SEEDS:,}, not {shown(said)}")
    if (
        not isinstance(found, list | tuple | range)
        or not found
        or any(type(seed) is not int or not 0 <= seed <= bounds.WHOLE for seed in found)
    ):
        raise ValueError(
            f"seeds: a number from 1 on, or a list of seeds such as 1,2,5, not {shown(said)}"
        )
    return tuple(dict.fromkeys(found))


def joined(before: Study, asked: Study) -> Study:
    """The study that ``before`` grows into: more arms, seeds and retrainings. ValueError names the first setting that is another one now."""
    if before.blind != asked.blind:
        raise ValueError(
            f"the study recorded here is {'' if before.blind else 'not '}blind, and stays so: choose another --out"
        )
    plain = [Study(study.shared, {"": {"method": "darts"}}, (0,), "") for study in (before, asked)]
    for arm in ("", *(arm for arm in asked.arms if arm in before.arms)):
        one, other = (plain[0], plain[1]) if not arm else (before, asked)
        if found := differences(one.resolved(arm), other.resolved(arm)):
            name, was, now = found[0]
            raise ValueError(
                f"{f'arm {arm}: ' if arm else ''}{name} is {was!r} in the study recorded here, not {now!r}: choose another --out"
            )
    arms, seeds = {**before.arms, **asked.arms}, tuple(dict.fromkeys([*before.seeds, *asked.seeds]))
    own = plugins.joined(before.shared.get("plugins", ()), asked.shared.get("plugins", ()))
    shared = {**before.shared, **({"plugins": own} if own else {})}
    whole = replace(
        asked,
        shared=shared,
        arms=arms,
        seeds=seeds,
        retrain_seeds=max(before.retrain_seeds, asked.retrain_seeds),
    )
    if whole.equal:
        check_equal({arm: whole.resolved(arm) for arm in arms})
    return whole


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value before, value now) of flat settings; None where there is none."""
    names = dict.fromkeys([*before, *now])
    return [
        (name, before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name)
    ]


def flat(settings: Mapping[str, Any], above: str = "") -> Given:
    """``{"search": {"epochs": 5}}`` -> ``{"search.epochs": 5}``; tuples as lists, as JSON has them."""
    found: Given = {}
    for name, value in settings.items():
        key = f"{above}{name}"
        found |= (
            flat(value, f"{key}.")
            if isinstance(value, Mapping)
            else {key: list(value) if isinstance(value, tuple) else value}
        )
    return found


def local(name: str, value: Any) -> bool:
    """Whether a setting of the images names a place on this machine. The name of a split is none, whatever lies in this very folder: as in
    `archgrad.run.preparing.settled`, another set is told from a split by its slash."""
    if isinstance(value, Path):
        return True
    named = name in ("test", "val") and os.sep not in str(value)
    return (
        isinstance(value, str)
        and value != "digits"
        and not named
        and (Path(value).is_absolute() or Path(value).exists())
    )


def _elsewhere(images: Mapping[str, Any]) -> Given:
    """``data.val`` without its place on this machine, so that the study still says that there are such images."""
    return {"val": ELSEWHERE} if os.sep in str(images.get("val")) else {}


def _truth(name: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"{name}: true or false, not {shown(given)}")
    return given


def _count(given: Any) -> int:
    if type(given) is not int or not 0 <= given <= bounds.SEEDS:
        raise ValueError(
            f"retrain_seeds: how often each found network is trained, a number from 0 to {bounds.SEEDS:,}, not {shown(given)}"
        )
    return given
