"""Which methods compose: what the matrix says is what happens, and the page shows the matrix."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from archgrad.components.losses import logsumexp
from archgrad.methods import METHODS, method
from archgrad.methods.budget import budget
from archgrad.methods.pairs import Pair, compare_all, compare_patches, matrix_as_markdown
from archgrad.searching.compose import compose
from archgrad.searching.patch import Patch
from archgrad.spaces import space

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"


def test_the_page_shows_the_matrix():
    lines = PAGE.read_text().split("### Which methods compose")[1].splitlines()
    shown = "".join(f"{line}\n" for line in lines if line.startswith("|"))
    assert shown == matrix_as_markdown(space("darts")), (
        "archgrad.methods.pairs.matrix_as_markdown(space('darts')) is the matrix now"
    )


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_pairs_compose_or_are_refused_as_the_matrix_says(name):
    found = compare_all(space(name))
    assert set(found) == set(combinations(METHODS, 2))
    for (one, other), said in found.items():
        if said.composes:
            method(f"{one}+{other}", space(name))
            continue
        with pytest.raises(ValueError) as caught:
            method(f"{one}+{other}", space(name))
        assert (said.conflicting or said.never_acting or said.unread)[0] in str(caught.value)


@pytest.mark.parametrize("idler", ["random", "rsws"])
def test_a_part_that_can_never_act_is_refused(idler):
    """Of methods whose alphas never move, with what acts in alpha steps alone."""
    for other in ("betadarts", "oles"):
        with pytest.raises(
            ValueError,
            match=f"{other} acts in alpha steps alone, and {idler} has an alpha_from that never comes",
        ):
            method(f"{idler}+{other}", space("nasbench201"))
    with pytest.raises(ValueError, match="cdarts acts in alpha steps alone, and rsws"):
        method("rsws+cdarts", space("nasbench201"))
    mine, late = (
        Patch("mine", alpha_terms=logsumexp, alphas={"decay": 0.0}),
        Patch("late", alpha_from=lambda epochs: epochs),
    )
    with pytest.raises(ValueError, match="mine acts in alpha steps alone, and late"):
        compose(mine, late)
    assert (
        compose(Patch("both", alpha_terms=logsumexp, weight_terms=logsumexp), late).name
        == "both+late"
    )
    assert compose(mine, Patch("soon", alpha_from=lambda epochs: epochs // 2)).name == "mine+soon"
    assert method("dartspt+betadarts", space("nasbench201")).name == "dartspt+betadarts"
    with pytest.raises(ValueError, match="betadarts acts in alpha steps alone, and dartspt"):
        method("dartspt+betadarts", space("nasbench201"), dartspt={"fixed": True})


def test_a_budget_acts_where_no_alphas_move():
    limits = budget((), rate=0.1)
    assert compare_patches(
        limits, Patch("late", alpha_from=lambda epochs: epochs)
    ).never_acting == ("alpha_from",)  # without a limit it has its term alone
    whole = Patch("budget", alpha_terms=limits.alpha_terms, limits=(max,))  # type: ignore[arg-type]
    assert compare_patches(whole, Patch("late", alpha_from=lambda epochs: epochs)).composes


def test_marks():
    relaxed, other = Patch("a", relax=max), Patch("b", relax=min)  # type: ignore[arg-type]
    assert (
        compare_patches(relaxed, other).mark == "relax"
        and not compare_patches(relaxed, other).user_can_settle
    )
    assert (
        compare_patches(relaxed, Patch("b", weights={"lr": 1.0})) == Pair() and Pair().mark == "+"
    )
    rates = compare_patches(Patch("a", weights={"lr": 0.1}), Patch("b", weights={"lr": 0.2}))
    assert (rates.conflicting, rates.mark, rates.user_can_settle) == (("weights.lr",), "?", True)
    assert (
        compare_patches(Patch("a", weights={"lr": 0.1}), Patch("b", weights={"lr": 0.1})) == Pair()
    )
