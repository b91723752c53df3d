"""The sentences of failed checks: each one names the problem, its numbers and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from archgrad.errors import counted
from archgrad.run.judgement import DECIDED, LEARNED, Part, percent

LAYERS = "layers"
"""The name of the part that all edge groups of a single edge make up, such as layers of a chain."""

LONGER = "Train longer."


def unmoved(
    still: Mapping[str, Part], parts: Mapping[str, Part], rate: float, *, fits: bool = True
) -> str:
    """Return the sentences for alphas that hardly moved.

    Args:
        still: The parts whose alphas hardly moved.
        parts: All parts.
        rate: The learning rate of the alphas.
        fits: Whether the rate is at least the one that fits the length of the search. If not, the
            automatic rate is the remedy.
    """
    if not sum(part.cells for part in still.values()):
        return (
            f"No cell of the supernet reads the alphas of {_listed(still)}, so their selection is "
            "random. Set a larger --space.cells."
        )
    whose = "" if len(still) == len(parts) else f" of {_listed(still)}"
    network = "network" if LAYERS in still else "cell"
    lead = _mean((part.lead, part.edges) for part in still.values())
    learned = _mean((part.learned, part.edges) for part in still.values())
    decided = _mean((part.decided, part.edges) for part in still.values())
    if not decided and not learned:
        return (
            f"The alphas{whose} have not moved, so their selection is random: "
            f"another seed would give another {network}. {LONGER}"
        )
    if learned <= LEARNED * lead:
        why = (
            f"the first op leads the second by {lead:.2g}, of which the search learned "
            f"{max(learned, 0.0):.2g} and the rest is the random start"
        )
    else:
        why = f"the change that they learned makes the mixture only {percent(decided)} decided"
    return (
        f"The alphas{whose} hardly moved: {why}. Another seed would give another {network}. "
        f"{_faster(rate, still) if fits else 'Set --alphas.lr auto.'}"
    )


def _faster(rate: float, still: Mapping[str, Part]) -> str:
    wanted = higher(rate, still)
    return f"Raise --alphas.lr to about {wanted:g}, or train longer." if wanted else LONGER


def higher(rate: float, still: Mapping[str, Part]) -> float | None:
    """Return the learning rate at which the alphas of these parts should have moved.

    Adam moves an alpha by about its rate in each step. The learned lead grows in proportion to the
    rate, and the decidedness by its square.

    Returns:
        The rate, rounded up to one digit. None if it is above 1, or if the alphas moved so little
        that no rate can be estimated.
    """
    times = [2.0]
    for part in still.values():
        if part.learned > 0:
            times.append((part.lead - part.learned) / part.learned)
        if part.decided > 0:
            times.append(math.sqrt(DECIDED / part.decided))
    if len(times) == 1 or rate <= 0:
        return None
    digit = 10.0 ** math.floor(math.log10(rate * max(times)))
    found = math.ceil(rate * max(times) / digit - 1e-9) * digit
    return found if found <= 1 else None


def at_chance(what: str, accuracy: float | None, chance: float, least: float) -> str:
    """Return the sentences for an accuracy that guessing reaches too (fields of `Judgement`)."""
    if accuracy is None:
        return f"No epoch of this search has ended, so the supernet's accuracy is unknown. {LONGER}"
    name, _, images = what.partition(" % of ")
    return (
        f"The {name} is right on {percent(accuracy)} of {images}, which is no better than guessing "
        f"({percent(chance)}, with luck {percent(least)}). Train longer, or with more images."
    )


def too_few_epochs(epochs: int) -> str:
    """Return the sentences for a search whose selections cannot be compared."""
    return (
        "The search is too short to tell whether its selection is stable: "
        f"it has {counted(epochs, 'epoch')}. {LONGER}"
    )


def too_few_steps(steps: int, enough: int) -> str:
    """Return the sentences for a search with fewer than ``enough`` alpha steps."""
    return (
        "The search is too short to tell learning from noise: "
        f"it has {counted(steps, 'alpha step')} and needs at least {enough}. {LONGER}"
    )


def unstable(
    changes: Mapping[str, Part], parts: Mapping[str, Part], epochs: int, *, stopped: bool
) -> str:
    """Return the sentences for a selection that changed at the end of the search.

    Args:
        changes: The parts whose selection changed.
        parts: All parts.
        epochs: The number of last epochs that were compared.
        stopped: Whether a rule for stopping early ended the search.
    """
    whose = "" if len(changes) == len(parts) else f" of {_listed(changes)}"
    share = min(part.held for part in changes.values() if part.held is not None)
    remedy = "A rule ended the search early: set a later --stop.after." if stopped else LONGER
    return (
        f"The selection{whose} still changes: only {percent(share)} of its links were selected in "
        f"all of the last {epochs} epochs. {remedy}"
    )


def _mean(weighted: Iterable[tuple[float, int]]) -> float:
    pairs = list(weighted)
    return math.fsum(value * count for value, count in pairs) / sum(count for _, count in pairs)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))
