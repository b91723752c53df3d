"""Hints: the name that was meant, or none."""

from __future__ import annotations

import pytest

from archgrad.cli import main
from archgrad.errors import edit_distance, find_name, listed, nearest, unknown_name

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("", "", 0),
        ("", "ab", 2),
        ("dart", "darts", 1),
        ("drats", "darts", 1),
        ("ca", "abc", 3),
        (COMPOSED, DECOMPOSED, 0),
    ],
)
def test_edits(one, other, count):
    assert edit_distance(one, other) == edit_distance(other, one) == count


@pytest.mark.parametrize(
    ("name", "choices", "meant"),
    [
        ("dart", ["random", "darts"], "darts"),
        ("DARTS_V3", ["DARTS_V1", "DARTS_V2"], "DARTS_V2"),
        ("nasbench", ["darts", "nasbench201"], "nasbench201"),
        ("skip", ["none", "skip_connect"], "skip_connect"),
        ("bb", ["a", "b"], "b"),
        (COMPOSED, ["tea", DECOMPOSED], DECOMPOSED),
        ("quiet", ["out", "csv"], None),
        ("c", ["a", "b"], None),
        ("dog", ["cat", "cow", "horse"], None),
        ("gdas", ["darts", "snas", "random"], None),
        ("x" * 10_000, ["darts"], None),
        ("dart", [], None),
    ],
)
def test_hints_are_near(name, choices, meant):
    assert nearest(name, choices) == meant
    assert ("did you mean" in str(unknown_name("name", name, choices))) == (meant is not None)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["search", "--quiet"], None),
        (["search", "--diagnostics.foo", "3"], None),
        (["search", "--search.epoch=3"], "--search.epochs"),
        (["search", "--epochs", "3"], "--search.epochs"),
        (["predict", "run", "x.png", "--tpo", "3"], "--top"),
        (["serch"], '"search"'),
    ],
)
def test_hints_of_flags_are_near(capsys, arguments, hint):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"Did you mean {hint}?" in said if hint else "Did you mean" not in said


def test_names_in_either_form_of_unicode_are_one():
    assert (
        find_name(COMPOSED, [DECOMPOSED]) == DECOMPOSED
        and find_name(COMPOSED, [DECOMPOSED, COMPOSED]) == COMPOSED
    )
    assert find_name("tea", [COMPOSED]) is None


def test_of_many_names_the_first_are_listed():
    assert listed(["a", "b"]) == "a, b" and listed([*"abcdefg"]) == "a, b, c, d, e, 2 more"
