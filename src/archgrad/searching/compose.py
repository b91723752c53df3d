"""Compose several patches into one, or say why they cannot be composed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archgrad.arguments import named_if_wrong
from archgrad.bounds import EPOCHS
from archgrad.searching.patch import RULES, SETTLED, Merge, Patch


def _names(merge: Merge) -> tuple[str, ...]:
    return tuple(name for name, rule in RULES.items() if rule.merge is merge)


UNIT = _names(Merge.UNIT)


def claims(patch: Patch, *, apart: bool = False) -> dict[str, Any]:
    """Return the choices that only one patch can make, with the values of this patch.

    Args:
        patch: The patch.
        apart: Whether the parts of the relaxation unit count one by one as well. In a patch for
            any mixture they always do.

    Returns:
        "relax/readout/select" (the unit), the name of a field, or a key such as "weights.lr" ->
        the value of the patch.
    """
    sets = patch.set_fields()
    claimed: dict[str, Any] = {}
    if sets & set(UNIT) and not patch.any_mixture:
        claimed["relax/readout/select"] = [getattr(patch, name) for name in UNIT]
    if patch.any_mixture or apart:
        claimed |= {name: getattr(patch, name) for name in ("readout", "select") if name in sets}
    claimed |= {name: getattr(patch, name) for name in _names(Merge.ONE) if name in sets}
    for name in _names(Merge.KEYS):
        claimed |= {f"{name}.{key}": value for key, value in getattr(patch, name).items()}
    return claimed


def conflicts(*patches: Patch) -> dict[str, list[Patch]]:
    """Return each claim on which patches do not agree, and the patches that make it.

    The claims stand in the order of their names.
    """
    apart = any(patch.any_mixture for patch in patches)
    owners: dict[str, list[tuple[Patch, Any]]] = {}
    for patch in patches:
        for claim, value in claims(patch, apart=apart).items():
            owners.setdefault(claim, []).append((patch, value))
    return {
        claim: [patch for patch, _ in owned]
        for claim, owned in sorted(owners.items())
        if any(value != owned[0][1] for _, value in owned)
    }


def idle_patches(*patches: Patch) -> list[tuple[Patch, Patch]]:
    """Return the patches that can never act, each with the patch that keeps it from acting.

    The second patch has an ``alpha_from`` that no search reaches, and the first one acts in alpha
    steps alone.
    """
    never = next((patch for patch in patches if _never_moves_alphas(patch)), None)
    if never is None:
        return []
    return [
        (patch, never)
        for patch in patches
        if patch is not never and _acts_in_alpha_steps_alone(patch)
    ]


def _never_moves_alphas(patch: Patch) -> bool:
    try:
        return patch.alpha_from is not None and patch.alpha_from(EPOCHS) >= EPOCHS
    except ValueError:  # a search of this length does not have the moment that the user named
        return False


def _acts_in_alpha_steps_alone(patch: Patch) -> bool:
    acting = [RULES[name] for name in patch.set_fields() if not RULES[name].inert_alone]
    return patch.needs_alphas or (bool(acting) and all(rule.in_alpha_steps for rule in acting))


@named_if_wrong
def compose(*patches: Patch, settle: Patch | None = None) -> Patch:
    """Return one patch that has the effects of several, merged field by field (`Merge`).

    Args:
        *patches: The patches, in the order of the methods' names.
        settle: The user's own options. They win where patches do not agree.

    Returns:
        The composed patch; DARTS, if there are no patches.

    Raises:
        ValueError: Two patches set the same field differently, or one of them can never act. The
            message names the field and both patches.
    """
    settle = settle or Patch("")
    _check_conflicts(patches, settle)
    for one, never in idle_patches(*patches):
        raise ValueError(
            f"{one.name} acts in alpha steps alone, and {never.name} has an alpha_from that never "
            "comes: leave out one of them"
        )
    everyone = (*patches, settle)
    values: dict[str, Any] = _merged_unit(everyone)
    for name, rule in RULES.items():
        if rule.merge in FOLDS:
            of = patches if rule.merge in OF_METHODS else everyone
            values[name] = FOLDS[rule.merge]([getattr(patch, name) for patch in of])
    return Patch(**values)


def _check_conflicts(patches: Sequence[Patch], settle: Patch) -> None:
    settled = claims(settle)
    for claim, owners in conflicts(*patches).items():
        if claim in settled:
            continue
        names = " and ".join(patch.name for patch in owners)
        option = claim if "." in claim else f"darts.{claim}"
        choice = f", or choose by --{option}" if claim.split(".")[0] in SETTLED else ""
        raise ValueError(f"{names} both set {claim}: use one of them{choice}")


def _merged_unit(patches: Sequence[Patch]) -> dict[str, Any]:
    """Return relax, readout and select, and whether they read any mixture.

    The functions of a patch for any mixture go over those of the patch with the relaxation.
    """
    units = [patch for patch in patches if patch.set_fields() & set(UNIT)]
    merged: dict[str, Any] = {
        "any_mixture": bool(units) and all(patch.any_mixture for patch in units)
    }
    for patch in sorted(units, key=lambda one: one.any_mixture):
        if patch.any_mixture:
            parts = {name: getattr(patch, name) for name in ("readout", "select")}
            merged |= {name: part for name, part in parts.items() if part is not None}
        else:
            merged |= {name: getattr(patch, name) for name in UNIT}
    return merged


def _last_set(values: Sequence[Any]) -> Any:
    return next((value for value in reversed(values) if value is not None), None)


def _joined(values: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(item for value in values for item in value)


def _united(values: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    return {key: item for value in values for key, item in value.items()}


def _latest(values: Sequence[Any]) -> Any:
    begins = [value for value in values if value is not None]
    return (lambda epochs: max(begin(epochs) for begin in begins)) if begins else None


FOLDS: Mapping[Merge, Callable[[Sequence[Any]], Any]] = {
    Merge.NAME: lambda names: "+".join(names) or "darts",
    Merge.ONE: _last_set,
    Merge.ADDED: _joined,
    Merge.KEYS: _united,
    Merge.UNION: _united,
    Merge.LATEST: _latest,
    Merge.ALL: lambda flags: bool(flags) and all(flags),
}
"""A merge rule -> the function that folds the values of a field; `_merged_unit` folds the rest."""

OF_METHODS = {Merge.NAME, Merge.ALL}
"""The rules in which the user's own options (``settle``) do not take part."""
