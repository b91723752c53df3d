"""The merge rules of `Patch`: each field is folded and checked by the rule in its metadata."""

from __future__ import annotations

from dataclasses import fields

import pytest

from archgrad.searching.compose import FOLDS, compose, conflicts
from archgrad.searching.patch import CHANGES, RULES, Merge, Patch
from archgrad.searching.steps import Bilevel


def first(*arguments):
    return 1


def second(*arguments):
    return 2


def named(merge: Merge) -> list[str]:
    return [name for name, rule in RULES.items() if rule.merge is merge]


def test_every_field_has_a_rule_and_every_rule_a_fold():
    assert list(RULES) == [one.name for one in fields(Patch)]
    assert {rule.merge for rule in RULES.values()} == set(Merge)
    assert set(Merge) - set(FOLDS) == {Merge.UNIT, Merge.OF_UNIT}  # which one function folds


def test_a_stepper_reads_every_field_that_changes_a_search():
    """A new field needs no other place than `Patch`: the step of DARTS reads it at once."""
    assert Bilevel.reads == CHANGES
    aside = {"name", "drives", "metrics", "origins", "any_mixture", "needs_alphas"}
    aside |= {"reads_logits", "reads_accuracy"}
    assert set(RULES) - CHANGES == aside


@pytest.mark.parametrize("name", named(Merge.ONE))
def test_on_one_value_patches_must_agree(name):
    one, other = Patch("one", **{name: first}), Patch("other", **{name: second})
    assert getattr(compose(one, Patch("idle")), name) is first
    assert getattr(compose(one, one), name) is first
    assert conflicts(one, other) == {name: [one, other]}
    with pytest.raises(ValueError, match=f"one and other both set {name}: use one of them"):
        compose(one, other)
    assert getattr(compose(one, other, settle=Patch("", **{name: second})), name) is second


@pytest.mark.parametrize("name", named(Merge.ADDED))
def test_values_are_added_in_order(name):
    one, other = Patch("one", **{name: (first,)}), Patch("other", **{name: [second]})
    assert getattr(compose(one, other), name) == (first, second)


@pytest.mark.parametrize("name", named(Merge.KEYS))
def test_on_a_shared_key_patches_must_agree(name):
    one = Patch("one", **{name: {"a": first}})
    assert getattr(compose(one, Patch("other", **{name: {"b": second}})), name) == {
        "a": first,
        "b": second,
    }
    with pytest.raises(ValueError, match=rf"one and other both set {name}\.a: use one of them"):
        compose(one, Patch("other", **{name: {"a": second}}))


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.functions])
def test_a_value_that_is_no_function_is_refused(name):
    mapping = RULES[name].merge in (Merge.KEYS, Merge.UNION)
    with pytest.raises(ValueError, match=f"patch 'one': {name} must be a function, not 3"):
        Patch("one", **{name: {"a": 3} if mapping else 3})


def test_the_latest_epoch_counts():
    early, late = Patch("early", alpha_from=first), Patch("late", alpha_from=second)
    assert compose(early, late).alpha_from(10) == compose(late, early).alpha_from(10) == 2


def test_flags_and_names_are_those_of_the_methods():
    needs, other = Patch("needs", needs_alphas=True), Patch("other")
    assert compose(needs, settle=Patch("")).needs_alphas
    assert not compose(needs, other).needs_alphas and not compose().needs_alphas
    assert (compose(needs, other).name, compose().name) == ("needs+other", "darts")
