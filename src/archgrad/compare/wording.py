"""Numbers and notes of a comparison as text, for the terminal and for Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from archgrad.compare.comparing import Comparison
from archgrad.compare.statistics import Difference, Spread


def number(value: float | None) -> str:
    """Return a number with about four significant digits and without an exponent.

    >>> number(1234.5), number(56.789), number(0.12345), number(None)
    ('1,234', '56.79', '0.1235', '-')
    """
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 1000 else 2 if abs(value) >= 10 else 3 if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}"


def mean(one: Spread | None) -> str:
    """Return the mean of a spread, or a dash."""
    return "-" if one is None else number(one.mean)


def interval(one: Spread) -> str:
    """Return the interval of a mean, such as ``42.34 to 55.99``, or a dash."""
    return "-" if one.low is None else f"{number(one.low)} to {number(one.high)}"


def signed(one: Difference | None) -> str:
    """Return a difference with its sign, such as ``+1.52 ± 5.45``.

    The interval is left out if there is no test of the difference.
    """
    if one is None:
        return ""
    plain = f"{'+' if one.mean > 0 else ''}{number(one.mean)}"
    if one.high is None or one.p is None:
        return plain
    return f"{plain} ± {number(one.high - one.mean)}"


def seed_range(seeds: Sequence[int]) -> str:
    """Return whole numbers as a range or a list.

    >>> seed_range([1, 2, 3, 4]), seed_range([1, 3])
    ('1 to 4', '1, 3')
    """
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def shown(found: Comparison, group: Mapping[str, str]) -> dict[str, str]:
    """Return the measures of a group that at least one run has, with their labels."""
    return {
        measure: label.format(control=found.control)
        for measure, label in group.items()
        if measure in found.spreads
    }


def count_failed(found: Comparison, arm: str) -> str:
    """Return how many runs of an arm failed, such as `` (1 failed)``, or an empty text."""
    failed = len(found.failed.get(arm, ()))
    return f" ({failed} failed)" if failed else ""


def mark(found: Comparison, arm: str) -> str:
    """Return ``*`` if a search of this arm is doubtful; `doubts` has the note."""
    return "*" if found.doubtful_searches(arm) else ""


def doubts(found: Comparison) -> list[str]:
    """Return a line for each arm with doubtful searches: how many they are, and for which reasons.

    A line reads ``* darts: 2 of 4 searches are doubtful (alphas hardly moved 2)``.
    """
    from archgrad.run.judgement import CAUSES  # imports torch

    lines = []
    for arm in found.arms:
        if doubtful := found.doubtful_searches(arm):
            causes = Counter(cause for fails in doubtful.values() for cause in fails)
            why = ", ".join(
                f"{text} {causes[cause]}" for cause, text in CAUSES.items() if causes[cause]
            )
            count = len(found.seeds[arm])
            missing = count - len(found.searched[arm])
            unknown = f"; {missing} not judged" if missing else ""
            lines.append(
                f"* {arm}: {len(doubtful)} of {count} searches are doubtful ({why}{unknown})."
            )
    return lines


def failures(found: Comparison) -> Iterable[str]:
    """Return a text for each failed run, such as ``darts, seed 3: exit code 1: it broke here``."""
    return (
        f"{arm}, seed {seed}: {why}"
        for arm, by_seed in found.failed.items()
        for seed, why in by_seed.items()
    )
