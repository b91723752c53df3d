"""Several patches as one, or the reason why they cannot be one."""

from __future__ import annotations

from typing import Any

from archgrad.bounds import EPOCHS
from archgrad.searching.patch import (
    ADDED,
    EXCLUSIVE,
    IN_ALPHA_STEPS,
    MERGED,
    QUIET,
    SETTLED,
    UNIT,
    Patch,
)


def claims(patch: Patch, *, apart: bool = False) -> dict[str, Any]:
    """What only one can decide, and what this patch says of it: the relaxation unit, exclusive fields, and keys such as ``weights.lr``. Of a
    patch for any mixture the unit falls apart, and ``apart`` says that of others it does, too."""
    sets = patch.sets()
    unit = (
        {"relax/readout/select": [getattr(patch, name) for name in UNIT]}
        if sets & set(UNIT) and not patch.any_mixture
        else {}
    )
    if patch.any_mixture or apart:
        unit |= {name: getattr(patch, name) for name in ("readout", "select") if name in sets}
    alone = {name: getattr(patch, name) for name in EXCLUSIVE if name in sets}
    return (
        unit
        | alone
        | {f"{name}.{key}": value for name in MERGED for key, value in getattr(patch, name).items()}
    )


def conflicts(*patches: Patch) -> dict[str, list[Patch]]:
    """What several set and do not agree on -> who sets it, in order of the names."""
    apart = any(patch.any_mixture for patch in patches)
    owners: dict[str, list[tuple[Patch, Any]]] = {}
    for patch in patches:
        for what, value in claims(patch, apart=apart).items():
            owners.setdefault(what, []).append((patch, value))
    return {
        what: [patch for patch, _ in found]
        for what, found in sorted(owners.items())
        if any(value != found[0][1] for _, value in found)
    }


def idle(*patches: Patch) -> list[tuple[Patch, Patch]]:
    """The patches that can never act, each with the one whose ``alpha_from`` never comes: they act in alpha steps alone."""
    never = next((patch for patch in patches if _never(patch)), None)
    return [
        (patch, never)
        for patch in patches
        if never is not None and patch is not never and _in_alpha_steps(patch)
    ]


def _never(patch: Patch) -> bool:
    try:
        return patch.alpha_from is not None and patch.alpha_from(EPOCHS) >= EPOCHS
    except ValueError:  # of a moment that this length has not
        return False


def _in_alpha_steps(patch: Patch) -> bool:
    acts = patch.sets() - set(QUIET)
    return patch.needs_alphas or (bool(acts) and acts <= set(IN_ALPHA_STEPS))


def compose(*patches: Patch, settle: Patch | None = None) -> Patch:
    """One patch of several. Terms, reshapes, transforms and memories add up; on what only one can decide all who set it must agree, unless
    ``settle`` does (the user's own word, which wins).

    ValueError names the field and both patches.
    """
    settle = settle or Patch("")
    for what, owners in conflicts(*patches).items():
        if what not in claims(settle):
            names = " and ".join(patch.name for patch in owners)
            own = (
                f", or say which by --{what if '.' in what else f'darts.{what}'}"
                if what.split(".")[0] in SETTLED
                else ""
            )
            raise ValueError(f"{names} both set {what}: use one of them{own}")
    for one, never in idle(*patches):
        raise ValueError(
            f"{one.name} acts in alpha steps alone, and {never.name} has an alpha_from that never comes: leave out one of them"
        )
    everyone = (*patches, settle)
    values: dict[str, Any] = {"name": "+".join(patch.name for patch in patches) or "darts"}
    units = [patch for patch in everyone if patch.sets() & set(UNIT)]
    values["any_mixture"] = bool(units) and all(patch.any_mixture for patch in units)
    for patch in sorted(
        units, key=lambda one: one.any_mixture
    ):  # what reads any mixture is put over the unit
        parts = ("readout", "select") if patch.any_mixture else UNIT
        values |= {
            name: value
            for name in parts
            if (value := getattr(patch, name)) is not None or not patch.any_mixture
        }
    values["needs_alphas"] = bool(patches) and all(patch.needs_alphas for patch in patches)
    for name in EXCLUSIVE:
        values[name] = next(
            (v for patch in reversed(everyone) if (v := getattr(patch, name)) is not None), None
        )
    for name in ADDED:
        values[name] = tuple(item for patch in everyone for item in getattr(patch, name))
    for name in (
        *MERGED,
        "ahead",
    ):  # which nobody can disagree on: it goes with a finalisation or a memory
        values[name] = {
            key: value for patch in everyone for key, value in getattr(patch, name).items()
        }
    begins = [patch.alpha_from for patch in everyone if patch.alpha_from is not None]
    values["alpha_from"] = (
        (lambda epochs: max(begin(epochs) for begin in begins)) if begins else None
    )
    return Patch(**values)
