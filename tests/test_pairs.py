"""Which methods compose: what the matrix says is what happens, and the page shows the matrix."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from archgrad.methods import METHODS, method
from archgrad.methods.pairs import Pair, markdown, pair, pairs
from archgrad.patch import Patch
from archgrad.spaces import space

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"


def test_the_page_shows_the_matrix():
    lines = PAGE.read_text().split("### Which methods compose")[1].splitlines()
    shown = "".join(f"{line}\n" for line in lines if line.startswith("|"))
    assert shown == markdown(space("darts")), "archgrad.methods.pairs.markdown(space('darts')) is the matrix now"


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_what_it_says_is_what_happens(name):
    found = pairs(space(name))
    assert set(found) == set(combinations(METHODS, 2))
    for (one, other), said in found.items():
        if not said.both and not said.unread:
            method(f"{one}+{other}", space(name))
            continue
        with pytest.raises(ValueError) as caught:
            method(f"{one}+{other}", space(name))
        assert (said.both or said.unread)[0] in str(caught.value)


def test_marks():
    relaxed, other = Patch("a", relax=max), Patch("b", relax=min)  # type: ignore[arg-type]
    assert pair(relaxed, other).mark == "relax" and not pair(relaxed, other).settled
    assert pair(relaxed, Patch("b", weights={"lr": 1.0})) == Pair() and Pair().mark == "+"
    rates = pair(Patch("a", weights={"lr": 0.1}), Patch("b", weights={"lr": 0.2}))
    assert (rates.both, rates.mark, rates.settled) == (("weights.lr",), "?", True)
    assert pair(Patch("a", weights={"lr": 0.1}), Patch("b", weights={"lr": 0.1})) == Pair()
