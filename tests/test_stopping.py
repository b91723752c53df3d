"""Searches that end early: each rule on rows by hand, then through the command line, resumed in the middle too."""

from __future__ import annotations

import json
import os
import signal

import pytest

from archgrad import run
from archgrad.cli import main
from archgrad.methods import method, robustdarts_curvature
from archgrad.observers import probes
from archgrad.observers.stopping import (
    Stopping,
    StopSettings,
    curvature_rule,
    entropy_rule,
    match_rule,
    skips_rule,
    stable_rule,
    stopping_observers,
)
from archgrad.run import config
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.types import Stage
from archgrad.spaces import space
from archgrad.storage.records import read_measured
from fakes import Noise
from running import SMALL, STEPS, after, outcome, same
from watching import Rows

CELL = "|{}~0|+|nor_conv_3x3~0|{}~1|+|none~0|none~1|{}~2|"
NORMAL = "Genotype(normal={}, normal_concat=[2, 3, 4, 5], reduce={}, reduce_concat=[2, 3, 4, 5])"
BASE = {"channels": 2, "cells": 1, "classes": 4}


def cell(skips):
    return CELL.format(*["skip_connect"] * skips, *["none"] * (3 - skips))


def of_darts(normal, reduce):
    def links(skips):
        names = ["skip_connect"] * skips + ["sep_conv_3x3"] * (8 - skips)
        return str([(name, k % 2) for k, name in enumerate(names)])

    return NORMAL.format(links(normal), links(reduce))


def made(name="darts", **options):
    return method(name, space("nasbench201", **BASE), **options)


@pytest.mark.parametrize(
    ("rule", "column", "holds", "holds_not"),
    [
        (
            curvature_rule(0.75, 2),
            "eigenvalue",
            [[1, 1, 2, 2], [9, 1, 1, 2, 2]],
            [[1, 1, 1, 1], [1, 2, 2], [1, 1, None, None]],
        ),
        (
            skips_rule(2),
            "genotype",
            [[cell(2)], [cell(3)], [cell(0), cell(2)]],
            [[cell(1)], [cell(2), cell(1)]],
        ),
        (skips_rule(2), "genotype", [[of_darts(2, 0)]], [[of_darts(1, 8)]]),
        (stable_rule(3), "genotype", [[*"aaa"], [*"baaa"]], [[*"aa"], [*"aba"], [*"aaab"]]),
        (entropy_rule(0.5), "entropy", [[0.49], [2, 0.1]], [[0.5], [0.1, 2]]),
        (match_rule(0.3), "gradient_match", [[0.29], [-1.0]], [[0.3], [None], [0.1, 0.9]]),
    ],
)
def test_each_rule_by_hand(rule, column, holds, holds_not):
    def said(values):
        return rule([{column: value} for value in values])

    assert all(isinstance(said(values), str) for values in holds)
    assert not any(said(values) for values in holds_not)


def test_a_match_that_is_missing_says_nothing():
    """OLES reports no match once every op rests."""
    assert match_rule(0.3)([{}]) is None and curvature_rule(0.5, 1)([{}, {}]) is None


def test_settings_make_their_rules():
    assert StopSettings().rules(10) == () and stopping_observers(StopSettings(), made(), 10) == ()
    assert len(StopSettings(skips=1, stable=2, entropy=0.1, eigenvalue=0.5, match=0).rules(10)) == 5


# The observer.
class Seen:
    """A rule that never holds and remembers what it was shown."""

    def __init__(self):
        self.epochs = []

    def __call__(self, rows):
        self.epochs.append([row["epoch"] for row in rows])


def shown(m, first, epochs=5, rows=()):
    seen, kept = Seen(), Rows()
    search(m, Noise(per_epoch=1), epochs, seed=1, observers=[Stopping([seen], first, rows), kept])
    return seen.epochs, kept.kept


def test_rules_see_the_epochs_that_count_and_not_the_last():
    assert shown(made(), 0, 3)[0] == [[0], [0, 1]]
    assert shown(made(), 2)[0] == [[2], [2, 3]]


def test_epochs_in_which_alphas_rest_do_not_count():
    later = Method(Patch("later", alpha_from=lambda epochs: 2), space("nasbench201", **BASE))
    assert shown(later, 0)[0] == [[2], [2, 3]]
    assert shown(made("random", draws=2), 0)[0] == []
    assert [one.after for one in stopping_observers(StopSettings(skips=1, after=0), later, 5)] == [
        2
    ]


@pytest.mark.parametrize("continues", [False, True])
def test_a_stage_starts_a_new_count(continues):
    """Also where the supernet lives on: it may have fewer alphas."""
    stage = Stage(lambda epochs: 2, lambda method, state: state.space, continues=continues)
    assert shown(Method(Patch("staged", stages=(stage,)), space("nasbench201", **BASE)), 0)[0] == [
        [0],
        [0, 1],
        [2],
        [2, 3],
    ]


def test_the_first_reason_counts_and_a_methods_own_before():
    def always(reason):
        return lambda rows: reason

    class Asks(Rows):
        def on_epoch(self, method, state, data, row):
            return {"stop": "its own"}

    last = Rows()
    search(made(), Noise(), 3, observers=[Stopping([always("one"), always("two")], 0), last])
    assert [row["stop"] for row in last.kept] == ["one"]
    last = Rows()
    search(made(), Noise(), 3, observers=[Asks(), Stopping([always("one")], 0), last])
    assert [row["stop"] for row in last.kept] == ["its own"]


# Through the command line: five epochs of three steps, alphas that stay where they begin, with a skip; curvature rises after the third.
CHANGES = {"--search.epochs": "5", "--alphas.lr": "1e-6"}
LONG = [CHANGES.get(before, token) for before, token in zip(("", *SMALL), SMALL, strict=False)]
RISING = [1.0, 1.0, 1.0, 2.0, 4.0]
RULES = {  # flags, the epoch that ends the search where epoch 0 does not count, the reason
    "skips": (["--stop.skips", "2"], 1, "the cell 'cell' has 3 skips"),
    "stable": (["--stop.stable", "2"], 2, "the genotype is the same for 2 epochs"),
    "entropy": (["--stop.entropy", "1.7"], 1, "the entropy is 1.609, below 1.7"),
    "eigenvalue": (
        ["--stop.eigenvalue", "0.75", "--stop.window", "1"],
        3,
        "the largest eigenvalue of the alphas' Hessian rose from 1 to 2 (means of 1 epoch)",
    ),
}


@pytest.fixture(autouse=True, scope="module")
def planted():
    with pytest.MonkeyPatch.context() as patch:
        for module in (probes, robustdarts_curvature):
            patch.setattr(
                module, "supernet_curvature", lambda *arguments, **between: RISING[arguments[-1]]
            )
        yield


def searched(folder, *arguments):
    assert main(["search", *LONG, "--stop.after", "1", *arguments, "--out", str(folder)]) == 0
    return read_measured(folder / "metrics.jsonl")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """The rows of the same search that nothing stops."""
    found = searched(tmp_path_factory.mktemp("lasting") / "run", "--diagnostics.curvature")
    assert [row["epoch"] for row in found] == [0, 1, 2, 3, 4]
    return found


@pytest.mark.parametrize("name", RULES)
def test_a_search_stops_where_its_rule_first_holds(name, lasting, tmp_path, capsys):
    flags, epoch, reason = RULES[name]
    found = searched(tmp_path / "run", *flags)
    assert [row.get("stop") for row in found] == [None] * epoch + [reason]
    for row, other in zip(found, lasting, strict=False):  # until then it is the same search
        assert all(
            row[column] == other[column]
            for column in row.keys() & other.keys() - {"seconds", "cpu_seconds"}
        )
    assert "gap_loss" in found[-1]  # the last row has what is measured after the last epoch
    assert (
        json.loads((tmp_path / "run" / "genotype.json").read_text())["text"]
        == found[-1]["genotype"]
    )
    said = f"stopped early, after epoch {epoch + 1}: {reason}"
    assert said in capsys.readouterr().out
    assert main(["show", str(tmp_path / "run")]) == 0 and said in capsys.readouterr().out
    assert main(["resume", str(tmp_path / "run")]) == 0 and "is finished" in capsys.readouterr().out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert searched(folder, *RULES["eigenvalue"][0])[-1]["epoch"] == 3
    return outcome(folder)


@pytest.mark.parametrize("steps", [STEPS + 1, 3 * STEPS, 4 * STEPS])
def test_a_window_survives_a_resume(steps, whole, tmp_path, monkeypatch):
    """Interrupted in mid-epoch, at the end of one, and of the one that ends the search: all is as in an undisturbed run."""
    monkeypatch.setattr(Method, "step", after(steps, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    folder = tmp_path / "run"
    assert (
        main(["search", *LONG, "--stop.after", "1", *RULES["eigenvalue"][0], "--out", str(folder)])
        == 130
    )
    assert main(["resume", str(folder)]) == 0
    assert same(outcome(folder), whole)


def test_a_last_measurement_comes_after_another_rule(tmp_path):
    """Every fourth epoch would not meet the one that ends the search."""
    found = searched(
        tmp_path / "run",
        *RULES["skips"][0],
        "--diagnostics.curvature",
        "--diagnostics.curvature-every",
        "4",
    )
    assert ["eigenvalue" in row for row in found] == [False, True]


def test_robustdarts_through_the_command_line(tmp_path, capsys):
    found = searched(
        tmp_path / "run",
        "--method",
        "robustdarts",
        "--robustdarts.window",
        "1",
        "--robustdarts.start",
        "0",
    )
    assert [row.get("stop") for row in found] == [None] * 3 + [RULES["eigenvalue"][2]]
    (decision,) = read_measured(tmp_path / "run" / "decisions.jsonl")
    assert decision["note"] == {"after_epochs": 3}
    assert "decided 1: after_epochs 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stop.eigenvalue", "1.5"], "stop.eigenvalue: Input should be less than 1, not 1.5"),
        (["--stop.eigenvalue", "0"], "stop.eigenvalue: Input should be greater than 0, not 0"),
        (["--stop.skips", "0"], "stop.skips: Input should be greater than or equal to 1, not 0"),
        (["--stop.stable", "1"], "stop.stable: Input should be greater than or equal to 2, not 1"),
        (["--stop.entropy", "-1"], "stop.entropy: Input should be greater than 0, not -1"),
        (["--stop.entropy", "nan"], "stop.entropy: "),
        (
            ["--stop.window", "0"],
            "stop.window: whole epochs from 1 on, or a share of the search between 0 and 1, not 0",
        ),
        (["--stop.window", "7"], "stop.window is 7, but the search has 5 epochs: choose at most 4"),
        (["--stop.after", "5"], "stop.after is 5, but the search has 5 epochs: choose at most 4"),
        (
            ["--stop.match", "0.3"],
            "stop.match reads the column gradient_match, which darts does not report; use --method oles",
        ),
        (["--stop.match", "2"], "stop.match: Input should be less than 1, not 2"),
        (
            ["--method", "random", "--stop.match", "0"],
            "random does not report; leave out stop.match, because random moves no alphas",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_start(flags, message, tmp_path, capsys):
    assert main(["search", *LONG, *flags, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_oles_reports_what_the_match_rule_reads():
    settings = config.read(
        ("", {"method": "oles", "stop": {"match": 0.99, "after": 0}, "search": {"epochs": 3}})
    )
    settings.stop.check(run.build(settings), 3)
    m = made("oles")
    last = Rows()
    search(m, Noise(), 3, observers=[*stopping_observers(settings.stop, m, 3), last])
    assert last.kept[-1]["stop"].startswith("the gradient match is ") and len(last.kept) == 1
