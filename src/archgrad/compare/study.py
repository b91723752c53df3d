"""A study: several arms with shared settings, each searched with the same seeds.

The file of a study has the settings of a search, which all arms share, and these further entries:

- ``arms``: name -> the settings that differ in this arm.
- ``seeds``: a number n for the seeds 1 to n, or a list.
- ``retrain_seeds``: how often each found network is trained from scratch; 0 by default.
- ``control``: the arm that the others are compared to.
- ``controls``: whether an arm of random search is added if there is none; true by default.
- ``equal``: whether all arms must have the same epochs, batches and images; true by default.
- ``blind``: whether no true accuracy is looked up, so that settings can be chosen only by
  measurements of the searches; false by default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from archgrad import bounds, plugins
from archgrad.arch.space import AUTO
from archgrad.compare.arms import arms_of, check_equal, check_used, searches_randomly
from archgrad.errors import short_repr, unknown_name
from archgrad.retraining.settings import retrain_settings
from archgrad.run import catalogue, config, legacy_defaults
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
"""Settings that change where a search runs, how fast and from which plugin, but not its result."""
ELSEWHERE = "elsewhere"
"""The value of ``data.val`` in a file for a separate set, whose path belongs to one machine."""


@dataclass(frozen=True)
class Study:
    """The settings of a study.

    Attributes:
        shared: The settings of all arms, without a method and its options.
        arms: Name -> the settings of an arm, with its method and all options of the method.
        seeds: The seeds of the searches.
        control: The arm that the others are compared to.
        blind: Whether no true accuracy is looked up.
        controls: Whether the study needs an arm of random search.
        equal: Whether all arms must have the same epochs, batches and images.
        retrain_seeds: Number of retrainings of each found network.
    """

    shared: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    control: str
    blind: bool = False
    controls: bool = True
    equal: bool = True
    retrain_seeds: int = 0

    def settings(self, arm: str, seed: int = 0) -> SearchConfig:
        """Return the settings of one search.

        A search takes one thread unless the study sets ``threads``, so that the numbers do not
        depend on the cores of the machine. A search of a blind study looks up no accuracy. A new
        study always sets ``alphas.lr`` and ``data.val``. In an older study without them, the
        learning rate of the alphas is the published one, and there are no validation images.

        Args:
            arm: The arm.
            seed: The seed of the search.

        Raises:
            ValueError: A setting of the arm is wrong.
        """
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

    def resolved_settings(self, arm: str, steps: int | None = None) -> Given:
        """Return every setting of an arm that can be known before its images are read.

        Args:
            arm: The arm.
            steps: Steps of an epoch. With them an automatic learning rate of the alphas becomes a
                number.

        Returns:
            ``section.name`` -> value, without the seed and the settings in `LOCAL`.

        Raises:
            ValueError: A setting of the arm is wrong.
        """
        from archgrad.run import preparing
        from archgrad.searching.types import Plan

        settings = self.settings(arm)
        try:
            method = preparing.build(settings)
            if self.retrain_seeds:
                retrain_settings(method.base, settings.retrain)
        except ValueError as error:
            raise ValueError(f"arm {arm}: {error}") from None
        epochs = settings.search.epochs or method.base.defaults.epochs
        plan = None if steps is None else Plan(epochs, steps)
        whole = preparing.resolve(settings, method, plan).to_mapping() | {
            "space": {"name": settings.space["name"], **method.base.spec()}
        }
        whole["data"] |= _elsewhere(whole["data"])
        return {name: value for name, value in flat(whole).items() if name not in LOCAL | {"seed"}}

    def to_mapping(self) -> Given:
        """Return the content of the file of the study.

        Paths of this machine are left out, because a fingerprint identifies the images.
        """
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
        changed = {name: value for name, value in optional.items() if value != getattr(Study, name)}
        whole = {
            **shared,
            **changed,
            "control": self.control,
            "seeds": list(self.seeds),
            "arms": arms,
        }
        return {
            name: value
            for name, value in json.loads(json.dumps(whole, default=str)).items()
            if value != {}
        }

    def to_yaml(self) -> str:
        """Return the file of the study as text."""
        return yaml.safe_dump(self.to_mapping(), sort_keys=False, allow_unicode=True, width=120)


def read(
    *sources: tuple[str, Mapping[str, Any]],
    names: Iterable[str] = (),
    before: Study | None = None,
    recorded: bool = False,
) -> Study:
    """Return the study that several sources of settings describe.

    A new study sets ``alphas.lr`` and ``data.val`` to ``auto`` unless they are given. A study that
    was begun without them keeps the published learning rates and has no validation images. A new
    arm contains the options whose defaults have changed once (`archgrad.run.legacy_defaults`), and
    a recorded arm without them has the earlier values.

    Args:
        sources: Pairs of a name for error messages and the settings of a file of a study; later
            sources override earlier ones.
        names: The arms to run: arms of the file, or methods such as ``a`` or ``a+b``. Without
            names all arms of the file run.
        before: The study that this one continues; its arm of random search is used again.
        recorded: Whether to take the study as it was recorded.

    Raises:
        ValueError: `archgrad.run.config.read` refuses a setting, there is no arm, no seed or no
            such control arm, or the arms have unequal budgets.
    """
    own, shared = _merged(sources)
    shared = _with_automatic(shared, before, recorded=recorded)
    usual = {
        name: getattr(before or Study, name) for name in ("controls", "equal", "retrain_seeds")
    }
    usual |= {"blind": False} | own
    truths = {name: _truth(name, usual[name]) for name in ("blind", "controls", "equal")}
    known, names = before.arms if before else {}, list(names)
    add_control = truths["controls"] and not recorded
    arms = arms_of(own.get("arms", {}), names, shared, control=add_control, before=known)
    if recorded:
        arms = {arm: legacy_defaults.as_recorded(mine) for arm, mine in arms.items()}
    else:
        arms = {
            arm: legacy_defaults.as_before(mine, known.get(arm, {}), known)
            for arm, mine in arms.items()
        }
    check_used(shared, arms)
    shared = {
        name: value
        for name, value in shared.items()
        if name != "method" and name not in catalogue.methods()
    }
    control = _control(own.get("control"), arms, before)
    if not recorded and (used := _plugins(shared, arms)):
        shared["plugins"] = used
    found = Study(
        shared,
        arms,
        seeds_of(own.get("seeds", SEEDS)),
        control,
        **truths,
        retrain_seeds=_count(usual["retrain_seeds"]),
    )
    if found.blind and found.retrain_seeds:
        raise ValueError(
            "retrain_seeds: a blind study reads no test image, so it cannot retrain: "
            "leave out retrain_seeds or blind"
        )
    settings = _resolved(found, names or own.get("arms", {}))
    if found.equal and not recorded:
        check_equal(settings)
    return replace(
        found,
        arms={arm: legacy_defaults.as_today(mine, settings[arm]) for arm, mine in arms.items()},
    )


def _merged(sources: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[Given, Given]:
    """Return the entries of `OWN` and the shared settings of several sources."""
    own: Given = {}
    shared: Given = {}
    for where, given in sources:
        own |= {name: given[name] for name in OWN if given.get(name) is not None}
        rest = {name: value for name, value in given.items() if name not in OWN}
        try:
            if taken := {"seed", "out"} & rest.keys():
                raise ValueError(
                    f"{min(taken)}: a study has several seeds and one folder for each run: "
                    "use seeds, or --out of archgrad compare"
                )
            shared = config.merged(shared, config.checked(rest))
        except ValueError as error:
            raise ValueError(f"{where}: {error}" if where else str(error)) from None
    return own, shared


def _with_automatic(shared: Given, before: Study | None, *, recorded: bool) -> Given:
    """Return the shared settings with the automatic values that a study of today has."""
    if recorded:
        return shared
    if before is None or "lr" in before.shared.get("alphas", {}):
        shared = config.merged({"alphas": {"lr": AUTO}}, shared)
    if before is None or "val" in before.shared.get("data", {}):
        shared = config.merged({"data": {"val": AUTO}}, shared)
    return shared


def _control(given: Any, arms: Mapping[str, Mapping[str, Any]], before: Study | None) -> str:
    """Return the control arm of a study: the given one, that of ``before``, or the usual one."""
    known = {**(before.arms if before else {}), **arms}
    control: str = given or (before.control if before else usual_control(arms))
    if str(control) not in known:
        raise unknown_name("control arm", control, known)
    return control


def _resolved(study: Study, chosen: Container[str]) -> dict[str, Given]:
    """Return arm -> its resolved settings.

    The error of an arm that the user has not ``chosen`` says why the study has this arm.
    """
    settings = {}
    for arm in study.arms:
        try:
            settings[arm] = study.resolved_settings(arm)
        except ValueError as error:
            hint = "" if arm in chosen else " (every study has this arm; --no-controls removes it)"
            raise ValueError(f"{error}{hint}") from None
    return settings


def _plugins(shared: Given, arms: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the plugins of a study with their versions.

    They are the named plugins, and those that define the space or the method of an arm.
    """
    methods = [name for own in arms.values() for name in own["method"].split("+")]
    named = plugins.join(
        shared.get("plugins", ()), *(own.get("plugins", ()) for own in arms.values())
    )
    return plugins.to_record(
        named,
        methods=methods,
        space=shared.get("space", SearchConfig().space).get("name", SearchConfig().space["name"]),
    )


def usual_control(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Return ``darts``, or without it an arm of random search, or else the first arm."""
    if "darts" in arms:
        return "darts"
    return next((arm for arm, own in arms.items() if searches_randomly(own)), next(iter(arms)))


def seeds_of(given: Any) -> tuple[int, ...]:
    """Return the seeds of a study.

    >>> seeds_of(4), seeds_of("1,2,5")
    ((1, 2, 3, 4), (1, 2, 5))

    Args:
        given: A number n for the seeds 1 to n, a list of seeds, or either as text.

    Raises:
        ValueError: It is neither, or there are too many seeds.
    """
    value = given
    if isinstance(value, str):
        value = [int(one) if one.strip().isdigit() else one for one in value.split(",")]
        value = value[0] if len(value) == 1 else value
    counts = isinstance(value, int) and not isinstance(value, bool)
    found = range(1, value + 1) if counts else value
    # a slice, because len() fails for a range of 10**30
    if isinstance(found, range | list | tuple) and found[bounds.SEEDS :]:
        raise ValueError(f"seeds: at most {bounds.SEEDS:,}, not {short_repr(given)}")
    if (
        not isinstance(found, list | tuple | range)
        or not found
        or any(type(seed) is not int or not 0 <= seed <= bounds.WHOLE for seed in found)
    ):
        raise ValueError(
            "seeds: a number of at least 1, or a list of seeds such as 1,2,5, not "
            f"{short_repr(given)}"
        )
    return tuple(dict.fromkeys(found))


def joined(before: Study, asked: Study) -> Study:
    """Return the study ``before`` with the further arms, seeds and retrainings of ``asked``.

    Raises:
        ValueError: A setting differs between the two; the error names the first one.
    """
    if before.blind != asked.blind:
        raise ValueError(
            f"the study recorded here is {'' if before.blind else 'not '}blind, which cannot "
            "change: choose another --out"
        )
    plain = [Study(study.shared, {"": {"method": "darts"}}, (0,), "") for study in (before, asked)]
    for arm in ("", *(arm for arm in asked.arms if arm in before.arms)):
        one, other = (plain[0], plain[1]) if not arm else (before, asked)
        if found := differences(one.resolved_settings(arm), other.resolved_settings(arm)):
            name, was, now = found[0]
            raise ValueError(
                f"{f'arm {arm}: ' if arm else ''}{name} is {was!r} in the study recorded here, "
                f"not {now!r}: choose another --out"
            )
    arms, seeds = {**before.arms, **asked.arms}, tuple(dict.fromkeys([*before.seeds, *asked.seeds]))
    own = plugins.join(before.shared.get("plugins", ()), asked.shared.get("plugins", ()))
    shared = {**before.shared, **({"plugins": own} if own else {})}
    whole = replace(
        asked,
        shared=shared,
        arms=arms,
        seeds=seeds,
        retrain_seeds=max(before.retrain_seeds, asked.retrain_seeds),
    )
    if whole.equal:
        check_equal({arm: whole.resolved_settings(arm) for arm in arms})
    return whole


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, value before, value now) of each setting that differs.

    Both mappings are flat, and a missing value is None. Unlike
    `archgrad.searching.checks.differing_settings` this function reports settings that only one of
    them has.
    """
    names = dict.fromkeys([*before, *now])
    return [
        (name, before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name)
    ]


def flat(settings: Mapping[str, Any], above: str = "") -> Given:
    """Return nested settings by ``section.name``; tuples become lists, as in JSON.

    >>> flat({"search": {"epochs": 5}, "seed": 1})
    {'search.epochs': 5, 'seed': 1}
    """
    found: Given = {}
    for name, value in settings.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{key}.")
        else:
            found[key] = list(value) if isinstance(value, tuple) else value
    return found


def local(name: str, value: Any) -> bool:
    """Return whether a setting of the images is a path on this machine.

    The name of a split is no path, even if the current folder has a file of this name. As in
    `archgrad.run.preparing.with_absolute_paths`, a slash distinguishes a separate set from a split.

    Args:
        name: The setting in section ``data``.
        value: Its value.
    """
    if isinstance(value, Path):
        return True
    is_split = name in ("test", "val") and os.sep not in str(value)
    return (
        isinstance(value, str)
        and value != "digits"
        and not is_split
        and (Path(value).is_absolute() or Path(value).exists())
    )


def _elsewhere(images: Mapping[str, Any]) -> Given:
    """Return ``data.val`` as `ELSEWHERE` if it is a path, so that the study records such images."""
    return {"val": ELSEWHERE} if os.sep in str(images.get("val")) else {}


def _truth(name: str, given: Any) -> bool:
    """Return a boolean entry of the file, or raise an error."""
    if not isinstance(given, bool):
        raise ValueError(f"{name}: true or false, not {short_repr(given)}")
    return given


def _count(given: Any) -> int:
    """Return the number of retrainings, or raise an error."""
    if type(given) is not int or not 0 <= given <= bounds.SEEDS:
        raise ValueError(
            f"retrain_seeds: a number of retrainings from 0 to {bounds.SEEDS:,} is expected, "
            f"not {short_repr(given)}"
        )
    return given
