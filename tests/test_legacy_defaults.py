"""A default that changed: new studies name the option, recorded ones that do not have the earlier value, and so have what is added to them."""

from __future__ import annotations

import pytest

from archgrad.compare import study
from archgrad.run.legacy_defaults import EARLIER, as_recorded

SMALL = {"space": {"name": "nasbench201", "channels": 4, "cells": 1}, "search": {"epochs": 2}}
OLD = {
    **SMALL,
    "arms": {"drnas": {"method": "drnas"}, "pt": {"method": "dartspt", "dartspt": {"tune": 1}}},
    "seeds": [1],
    "controls": False,
}


def options(found, arm):
    return {
        key: value
        for key, value in found.resolved_settings(arm).items()
        if key in ("drnas.readout", "dartspt.last")
    }


def test_a_new_study_records_the_options_whose_defaults_changed():
    found = study.read(("", OLD))
    assert found.arms["drnas"]["drnas"] == {"readout": "softmax"} and found.arms["pt"][
        "dartspt"
    ] == {"tune": 1, "last": 0.8}
    again = study.read(("", found.to_mapping()), recorded=True)
    assert again.arms == found.arms and not study.differences(
        again.resolved_settings("pt"), found.resolved_settings("pt")
    )


def test_a_recorded_study_has_the_earlier_values():
    before = study.read(("", OLD), recorded=True)
    assert options(before, "drnas") == {"drnas.readout": "mean"} and options(before, "pt") == {
        "dartspt.last": 1.0
    }
    asked = study.read(
        ("", SMALL), names=["drnas", "drnas+sddarts"], before=before
    )  # the same command, and an arm more
    assert all(
        options(asked, arm) == {"drnas.readout": "mean"} for arm in ("drnas", "drnas+sddarts")
    )
    assert {*study.joined(before, asked).arms} == {"drnas", "pt", "drnas+sddarts"}


def test_the_word_of_the_user_wins_and_a_recorded_arm_stays():
    before = study.read(("", OLD), recorded=True)
    own = {**SMALL, "arms": {"new": {"method": "drnas", "drnas": {"readout": "softmax"}}}}
    assert options(study.read(("", own), names=["new"], before=before), "new") == {
        "drnas.readout": "softmax"
    }
    with pytest.raises(
        ValueError,
        match=r"arm drnas: drnas\.readout is 'mean' in the study recorded here, not 'softmax'",
    ):
        study.joined(
            before,
            study.read(
                ("", {**SMALL, "drnas": {"readout": "softmax"}}), names=["drnas"], before=before
            ),
        )


def test_earlier_defaults_are_filled_in_for_used_options_without_a_value():
    assert as_recorded({"method": "darts"}) == {"method": "darts"} and as_recorded({}) == {}
    assert as_recorded({"method": "drnas", "drnas": {"readout": "softmax"}})["drnas"] == {
        "readout": "softmax"
    }
    assert as_recorded({"method": "drnas", "drnas": 5})["drnas"] == 5  # refused where it is read
    assert as_recorded({"method": "drnas", "drnas": None})["drnas"] == EARLIER["drnas"]
