"""The test runs each command of README's tour and of the docs once. All succeed, and every search passes its judgement."""

from __future__ import annotations

import sys

import pytest

from test_docs import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import tour


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [page for page in tour.PAGES if tour.commands(page)])
def test_every_command_ends_with_a_result_to_stand_by(page, tmp_path):
    tour.prepare(tmp_path)
    for one in tour.typed(page, tmp_path):
        assert one.well, f"{one.line}\n{one.output}"
        for folder, judged in one.judgements.items():
            assert judged["ok"], f"{one.line}: {folder}: {judged['fails']}"


def test_the_names_in_the_commands_exist(tmp_path):
    tour.prepare(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "recipes",
        "benchmarks",
        "photos",
        "other",
        "more",
        "folder",
        "photo.jpg",
    }
