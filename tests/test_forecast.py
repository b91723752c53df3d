"""When a study will be done, by what its runs say of themselves."""

from __future__ import annotations

import json

import pytest

from archgrad.compare import forecast, summary
from archgrad.compare.forecast import Ahead, StudyProgress, parts_of, time_left
from archgrad.compare.jobs import Run, StudyFolder


def test_a_study_takes_what_its_arms_take():
    """One arm finished in 100 s and runs again, half done; another nobody has seen; two at a time."""
    parts = [
        Ahead("a searches", 100.0, 0.0),
        Ahead("a searches", 140.0, 0.5),
        Ahead("b searches", None, 1.0),
        Ahead("b searches", None, 1.0),
    ]
    left = time_left(parts, jobs=2)
    assert left.seconds == pytest.approx((0.5 * 120 + 2 * 120) / 2) and [
        term.guessed for term in left.terms
    ] == [False, True]
    retrained = [*parts, Ahead("a retrainings", None, 1.0)]
    assert time_left(retrained, jobs=2).unknown == ("a retrainings",)
    retrained += [Ahead("b retrainings", 1000.0, 1.0)]
    assert time_left(retrained, jobs=2).seconds == pytest.approx(left.seconds + 2 * 1000 / 2)
    assert time_left([Ahead("a searches", None, 1.0)], jobs=1).terms == ()


def run_of(home, arm, seed=1, **given):
    return Run(arm, seed, StudyFolder(home), **given)


def expect(one, left, total, when):
    one.folder.path.mkdir(parents=True)
    one.folder.estimate.write_text(json.dumps({"left": left, "total": total, "when": when}))


def test_the_remaining_part_of_a_run_is_read_from_its_folder(tmp_path, monkeypatch):
    new, begun, done = (run_of(tmp_path, arm) for arm in "abc")
    expect(begun, 50.0, 80.0, when=1000.0)
    monkeypatch.setattr(summary, "read", lambda path: {"seconds": 30.0})
    done.summary.parent.mkdir()
    done.summary.write_text("{}")
    assert parts_of([new, begun, done], now=1010.0) == [
        Ahead("a searches", None, 1.0), Ahead("b searches", 80.0, 0.5), Ahead("c searches", 30.0, 0.0)
    ]  # fmt: skip
    begun.folder.estimate.write_text("{")
    assert parts_of([begun]) == [Ahead("b searches", None, 1.0)]  # the study goes on
    assert [one.kind for one in parts_of([run_of(tmp_path, "a", retrain_seeds=2)])] == [
        "a searches",
        "a retrainings",
        "a retrainings",
    ]


def test_the_estimate_of_a_study_is_printed_once_and_then_a_line_every_period(
    tmp_path, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(forecast, "time", lambda: 0.0)
    one, other = run_of(tmp_path, "a"), run_of(tmp_path, "a", 2)
    herald = StudyProgress([one, other], 1, clock=lambda: now[0])
    now[0] = 5.0
    assert herald.lines_due([one]) == []
    expect(one, 2400.0, 2400.0, when=0.0)
    assert herald.lines_due([one]) == []  # it looks once a second
    now[0] = 6.0
    whole, shorter = herald.lines_due([one])
    assert whole.startswith("about 80 min to go") and whole.endswith("a searches 80 min")
    assert shorter.startswith("a shorter study: --seeds 1 (about 40 min)")
    now[0] = 35.0
    assert herald.lines_due([one]) == []
    now[0] = 36.0
    assert [line.split(",")[0] for line in herald.lines_due([one])] == ["running: a-seed1"]
    assert herald.note_end(one, failed=True) == ""  # nothing is known of the other
    quiet = StudyProgress([one], 1, signs=False, clock=lambda: now[0])
    now[0] = 37.0
    assert len(quiet.lines_due([one])) == 1
    now[0] = 100.0
    assert quiet.lines_due([one]) == []
