"""Errors a user can act on: one line that names the wrong value and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: str, choices: Iterable[str]) -> ValueError:
    """``unknown method 'dart': did you mean 'darts'? (there are: darts, random)``"""
    choices = list(choices)
    folded = {choice.casefold(): choice for choice in choices}
    close = get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f": did you mean {folded[close[0]]!r}?" if close else "."
    listed = ", ".join(choices[:24]) + (", ..." if len(choices) > 24 else "")
    return ValueError(f"unknown {kind} {name!r}{hint} (there are: {listed})")
