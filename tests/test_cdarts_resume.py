"""CDARTS goes on bit for bit from anywhere in a cycle, and in sums with others what they change stays inside the search network."""

from __future__ import annotations

import math
import signal
from functools import cache
from pathlib import Path

import pytest
import torch

from archgrad.cli import main
from archgrad.methods import method
from archgrad.methods.cdarts_stepper import Cyclic
from archgrad.searching import checkpoint
from archgrad.searching.loop import initial_state
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.spaces import space
from fakes import Noise
from running import SMALL as CLI
from running import forked, fresh, outcome
from searching import Record, run, same
from test_resume import EVERY_STEP

SPACES = {
    "nasbench201": {"channels": 2, "cells": 1, "classes": 4},
    "s4": {"channels": 2, "cells": 3, "classes": 4},
}


def made(
    name: str = "nasbench201", others: str = "", settings: dict | None = None, **options
) -> Method:
    """The evaluation network at the size of the search network."""
    return method(
        "cdarts" + others,
        space(name, **SPACES[name]),
        **(settings or {}),
        cdarts={"depth": 1.0, **options},
    )


# Resuming.

DATA = Noise(per_epoch=2)
PLACES = {
    "pretraining": ("step", 0, 1), "its border": ("epoch", 1, 0), "warm-up": ("step", 1, 1), "warm-up's border": ("step", 1, 2),
    "first joint pass": ("step", 1, 3), "second joint pass": ("step", 1, 5), "a cycle's last step": ("step", 1, 6),
    "a cycle's border": ("epoch", 2, 0), "the second cycle": ("step", 2, 4),
}  # fmt: skip


class Saves(Record):
    """A checkpoint at every place."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def _maybe(self, method, state, here):
        checkpoint.save(self.folder / "-".join(map(str, here)), checkpoint.pack(method, state))


def goes_on_alike(m: Method, places, folder: Path) -> None:
    """One epoch of pretraining and two cycles; from the checkpoint of each place the rest comes out the same."""
    whole = Saves(folder)
    found = run(m, [whole], epochs=3, data=DATA)
    assert [row["phase"] for row in whole.rows] == ["pretraining", "joint", "joint"]
    for place in places:
        state, late = (
            checkpoint.restore(m, checkpoint.read(folder / "-".join(map(str, PLACES[place])))),
            Record(),
        )
        assert ("step" if state.step else "epoch", state.epoch, state.step) == PLACES[place]
        again = run(m, [late], state, epochs=3, data=DATA)
        assert (
            late.rows
            and late.rows == whole.rows[-len(late.rows) :]
            and again.genotype == found.genotype
        ), place
        assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state)), place
        assert again.state.nets["evaluation"].stem is again.state.nets["search"].stem


@pytest.mark.parametrize(
    ("name", "options", "places"),
    [
        ("nasbench201", {}, ["its border", "warm-up", "first joint pass", "the second cycle"]),
        pytest.param("nasbench201", {}, PLACES, marks=pytest.mark.slow),
        ("nasbench201", {"keep_optimizers": True}, ["a cycle's border"]),
        (
            "nasbench201",
            {"preset": "released", "share_fc": True, "fix_heads": False},
            ["second joint pass"],
        ),
        ("s4", {"bn_affine": True}, ["second joint pass"]),  # its noise is drawn in both networks
    ],
    ids=["some places", "all places", "kept optimizers", "released", "s4"],
)
def test_resumes_bit_for_bit_anywhere(name, options, places, tmp_path):
    goes_on_alike(made(name, pretrain=1, **{**options, "joint": 2}), places, tmp_path)


@pytest.mark.parametrize("child", [forked, pytest.param(fresh, marks=pytest.mark.slow)])
def test_killed_in_a_cycle_and_resumed_in_another_process(tmp_path, child):
    whole, folder = tmp_path / "whole", str(tmp_path / "run")
    given = dict(zip(CLI[::2], CLI[1::2], strict=True)) | {
        "--search.epochs": "2",
        "--search.limit": "40",
    }  # two batches
    given |= {"--method": "cdarts", "--cdarts.pretrain": "1", "--cdarts.joint": "2"}
    flags = [*(part for flag in given.items() for part in flag), *EVERY_STEP]
    assert main(["search", *flags, "--out", str(whole)]) == 0
    assert (
        forked(2 + 5, "search", *flags, "--out", folder) == -signal.SIGKILL
    )  # in the second joint pass
    assert not (Path(folder) / "genotype.json").exists()
    assert child(0, "resume", folder) == 0
    assert same(outcome(Path(folder)), outcome(whole))


# In sums.


def test_a_small_temperature_cools_the_search_network_alone(monkeypatch):
    seen, real = [], Cyclic.joint_loss

    def joint_loss(self, method, state, val):
        met, temperature = (
            real(self, method, state, val),
            method.patch.scalars["temperature"](method.context(state, "alpha")),
        )
        mixture = (met.search.alphas["cell"] / temperature).softmax(-1)
        torch.testing.assert_close(
            met.search.mixture.weights["cell"], mixture, rtol=1e-3, atol=1e-5
        )
        seen.append((met, temperature))
        return met

    monkeypatch.setattr(Cyclic, "joint_loss", joint_loss)
    run(
        made(
            others="+stdarts", settings={"alphas": {"lr": 3e-4, "init": 1e-3}}, pretrain=1, joint=1
        ),
        epochs=4,
    )
    assert len(seen) == 9 and 0 < seen[-1][1] < 0.05
    for met, _ in seen:
        one_hot, mixture = met.evaluation.mixture, met.search.mixture
        assert (
            set(one_hot.weights["cell"].unique().tolist()) == {0.0, 1.0}
            and one_hot.weights["cell"].sum(1).eq(1).all()
        )
        assert (
            torch.equal(one_hot.active["cell"], one_hot.weights["cell"] == 1)
            and mixture.active is None
        )


@pytest.mark.parametrize("teachers", ["snapshots", "remembered", "average"])
def test_teachers_teach_the_search_network_alone(teachers):
    """Whatever they see and are asked is its pass, in both halves of pretraining's and joint steps."""
    sections = {"sddarts": {"teachers": teachers, "level": "both", "first": 0}}
    m, seen = made(others="+sddarts", settings=sections, pretrain=1, joint=1), []
    state, record = initial_state(m, Noise(), 3, seed=1), Record()
    memory = state.memory["teachers"]

    def spied(act: str, real):
        def spy(forward):
            seen.append(
                (
                    act,
                    forward.context.phase,
                    forward.supernet is state.nets["search"],
                    state.epoch,
                    m.phase(state),
                )
            )
            return real(forward)

        return spy

    for act in ("recall", "after_step"):
        setattr(memory, act, spied(act, getattr(memory, act)))
    run(m, [record], state, 3)
    assert all(of_search for _, _, of_search, _, _ in seen)
    assert {(act, half, phase) for act, half, _, epoch, phase in seen if epoch == 2} == {
        (act, half, "joint") for act in ("recall", "after_step") for half in ("weight", "alpha")
    }
    assert all(math.isfinite(row["train_loss"]) for row in record.rows)
    # A teacher that is still its student teaches nothing but rounding, which differs from one processor to the next.
    assert record.rows[0]["train_loss"] == pytest.approx(without_teachers()[0], rel=1e-6)
    assert record.rows[2]["train_loss"] != pytest.approx(without_teachers()[2], rel=1e-6)


@cache
def without_teachers() -> list[float]:
    """The training losses of the same search without teachers."""
    record = Record()
    run(made(pretrain=1, joint=1), [record], epochs=3)
    return [row["train_loss"] for row in record.rows]


@pytest.mark.parametrize(
    ("teachers", "place"),
    [("snapshots", "second joint pass"), ("remembered", "a cycle's border")],
)
def test_cdarts_stdarts_and_sddarts_together_resume_bit_for_bit(teachers, place, tmp_path):
    m = made(
        others="+stdarts+sddarts", settings={"sddarts": {"teachers": teachers}}, pretrain=1, joint=2
    )
    goes_on_alike(m, [place], tmp_path)


def test_further_terms_of_the_alphas_read_the_search_network():
    seen = []

    def term(forward):
        seen.append(forward)
        return forward.alphas["cell"].square().sum()

    more = [Patch("more", alpha_terms=(term,))]
    m = method(
        "cdarts",
        space("nasbench201", **SPACES["nasbench201"]),
        patches=more,
        pretrain=0,
        warmup=0,
        depth=1.0,
        regular=0.0,
    )
    state = m.start(seed=0, epochs=2, steps=3)
    m.begin_epoch(state)
    met = m.stepper.joint_loss(m, state, next(Noise().batches("val", 0)))
    torch.testing.assert_close(met.further, state.alphas["cell"].square().sum())
    assert [forward.supernet is state.nets["search"] for forward in seen] == [True]


def test_a_method_that_rests_its_alphas_longer_extends_the_pretraining():
    """The later beginning counts, and epochs of one batch have a schedule too."""
    m, record = (
        made(others="+stdarts", settings={"stdarts": {"warmup": 2}}, pretrain=0, joint=1),
        Record(),
    )
    run(m, [record], epochs=4, data=Noise(per_epoch=1))
    assert [row["phase"] for row in record.rows] == ["pretraining"] * 2 + ["joint"] * 2
