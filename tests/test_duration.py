"""How long the rest takes, by numbers made up: no clock runs here."""

from __future__ import annotations

import pytest

from archgrad.searching.duration import RECENT, Costs, KindEstimate, Part, duration_text


def test_what_is_to_come_costs_what_such_parts_took():
    costs = Costs()
    for seconds in (9.0, 1.0, 3.0):  # the first pays for warming up
        costs.add("steps", seconds)
    costs.add("gap", 10.0)
    left = costs.remaining([Part("steps", 30), Part("gap", 2), Part("front", 0)])
    assert left.terms == (
        KindEstimate("steps", 30, 60.0, False),
        KindEstimate("gap", 2, 20.0, False),
    )
    assert (left.seconds, left.unknown) == (80.0, ())


def test_a_kind_not_seen_yet_is_guessed_by_what_it_is_like_and_named_where_it_is_like_nothing():
    costs = Costs()
    costs.add("steps", 6.0)
    parts = [
        Part("steps", 0),
        Part("pass", 0, "steps", 1 / 60),
        Part("gap", 2, "pass", 100),
        Part("ranking", 1, "nothing", 5),
        Part("front", 1),
    ]
    left = costs.remaining(parts)
    assert left.terms == (KindEstimate("gap", 2, pytest.approx(20.0), True),) and left.unknown == (
        "ranking",
        "front",
    )
    costs.add(
        "pass", 30.0, units=100
    )  # measured passes replace the guess, and the measured gap both
    assert costs.remaining(parts).seconds == pytest.approx(60.0)
    costs.add("gap", 7.0)
    assert costs.remaining(parts).seconds == 14.0
    assert costs.remaining([Part("a", 1, "b"), Part("b", 1, "a")]).unknown == (
        "a",
        "b",
    )  # no circle


def test_costs_follow_what_happens_now():
    """A machine that gets slower by half: after some steps the estimate has followed, and one slow step hardly moves it."""
    costs = Costs()
    for _ in range(100):
        costs.add("steps", 1.0)
    costs.add("steps", 3.0)
    assert costs.each["steps"] == pytest.approx(1 + 2 / RECENT)
    for _ in range(100):
        costs.add("steps", 2.0)
    assert costs.each["steps"] == pytest.approx(2.0, abs=0.01)
    costs.add("steps", 5.0, units=0)
    assert costs.each["steps"] == pytest.approx(2.0, abs=0.01)


def test_durations_are_printed_in_one_unit():
    assert [duration_text(seconds) for seconds in (0, 119, 120, 7199, 7200, 2 * 86400)] == [
        "0 s",
        "119 s",
        "2 min",
        "120 min",
        "2.0 h",
        "2.0 days",
    ]
