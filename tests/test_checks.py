"""Method, state, data and checkpoint are held against each other: what does not fit is one line, before anything is computed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch

import archgrad
from archgrad.arch.passes import Batch
from archgrad.methods import method
from archgrad.searching import checkpoint
from archgrad.searching.loop import initial_state, search
from archgrad.spaces import space
from fakes import Noise

TINY = {"channels": 4, "cells": 1, "classes": 4}
NB = space("nasbench201", **TINY)


def state_of(made, **more):
    return initial_state(made, Noise(), 2, seed=1, **more)


OTHERS = {
    "another method": (method("gdas", NB), "belongs to method 'darts', not 'gdas'"),
    "another width": (
        method("darts", NB.resized(channels=8)),
        "with space.channels 4, and this method has 8",
    ),
    "another space": (
        method("darts", space("darts", **TINY | {"cells": 3})),
        "with space.name 'nasbench201', and this method has 'darts'",
    ),
    "another rate of the weights": (
        method("darts", NB, weights={"lr": 0.5}),
        "with weights.lr 0.025, and this method has 0.5",
    ),
    "another rate of the alphas": (
        method("darts", NB, alphas={"lr": 0.5}),
        r"with alphas.lr .*, and this method has 0.5",
    ),
    "another order": (
        method("darts", NB, order="alpha_first"),
        "with order 'weight_first', and this method has 'alpha_first'",
    ),
    "second order": (
        method("darts", NB, hypergradient="second_order"),
        "with hypergradient 'first_order', and this method has 'second_order'",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_state_of_another_search_is_refused_wherever_it_is_handed_in(what, tmp_path):
    mine, (other, says) = method("darts", NB), OTHERS[what]
    state = state_of(mine)
    checkpoint.save(tmp_path / "c.pt", checkpoint.pack(mine, state))
    content = checkpoint.read(tmp_path / "c.pt")
    for act in (
        lambda: search(other, Noise(), 2, state=state),
        lambda: other.begin_epoch(state),
        lambda: checkpoint.pack(other, state),
        lambda: checkpoint.restore(other, content),
    ):
        with pytest.raises(ValueError, match=says):
            act()
    search(method("darts", NB), Noise(), 2, state=checkpoint.restore(method("darts", NB), content))


def test_a_state_of_the_same_method_with_another_option_is_refused():
    mine, other = (method("stdarts", NB, sigma=sigma) for sigma in (1e-3, 1e-2))
    with pytest.raises(
        ValueError, match=r"options\.stdarts\.sigma 0\.001, and this method has 0\.01"
    ):
        search(other, Noise(), 2, state=state_of(mine))


def test_a_checkpoint_recorded_before_is_read_as_it_was():
    mine = method("darts", NB)
    content = checkpoint.pack(mine, state_of(mine))
    del content["identity"]
    assert checkpoint.restore(mine, content).identity == mine.identity(
        checkpoint.restore(mine, content).plan
    )


def test_an_option_that_is_new_since_keeps_no_checkpoint_from_being_read():
    mine = method("stdarts", NB)
    content = checkpoint.pack(mine, state_of(mine))
    identity = json.loads(content["identity"])
    del identity["options"]["stdarts"]["sigma"], identity["space"]["affine"]
    identity["weights"]["gone"] = 1
    assert checkpoint.restore(
        mine, {**content, "identity": json.dumps(identity)}
    ).identity == mine.identity(state_of(mine).plan)
    identity["options"]["stdarts"]["kappa"] = 0.5
    with pytest.raises(
        ValueError,
        match=r"the checkpoint belongs to a search with options\.stdarts\.kappa 0\.5, and this method has 0\.04",
    ):
        checkpoint.restore(mine, {**content, "identity": json.dumps(identity)})


def test_a_method_that_was_resolved_and_read_back_is_the_same_one():
    """A resumed run builds its method of config.yaml, where every option is a number and an automatic rate is one, too."""
    from archgrad import run
    from archgrad.run import config
    from archgrad.searching.types import Plan

    for name in ("darts", "stdarts+sddarts", "cdarts", "progressive", "drnas"):
        first = config.read(
            (
                "",
                {
                    "method": name,
                    "space": {"name": "nasbench201", "channels": 4, "cells": 2},
                    "search": {"epochs": 10},
                },
            )
        )
        made, plan = run.build(first), Plan(10, 5)
        again = run.build(config.read(("", run.resolve(first, made, plan).to_mapping())))
        assert again.identity(plan) == made.identity(plan), name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seed": 2}, "seed: the state has 1, not 2"),
        ({"precision": "bf16"}, "precision: the state has '32', not 'bf16'"),
        ({"recompute": "cells"}, "recompute: the state has 'none', not 'cells'"),
        ({"device": "meta"}, "device: the state is on cpu, not on meta"),
    ],
)
def test_a_seed_or_device_beside_a_state_must_be_that_of_the_state(given, says):
    mine = method("darts", NB)
    with pytest.raises(ValueError, match=says):
        search(mine, Noise(), 2, state=state_of(mine), **given)
    search(
        mine,
        Noise(),
        2,
        state=state_of(mine),
        seed=1,
        device="cpu",
        precision="32",
        recompute="none",
    )


def test_data_of_another_number_of_images_are_refused():
    mine = method("darts", NB)
    with pytest.raises(
        ValueError, match=r"a search on 24 and 24 images .* these data have 48 and 48"
    ):
        search(mine, Noise(batch=16), 2, state=state_of(mine))
    with pytest.raises(ValueError, match="planned for 2 epochs of 3 steps"):
        search(mine, Noise(batch=6, per_epoch=4), 2, state=state_of(mine))


def test_data_that_name_their_classes_and_channels_are_for_the_space():
    data = archgrad.search_data(archgrad.load("digits"), batch=8, limit=16)
    for given, says in (
        ({}, "has in_channels 3, but these data have 1"),
        ({"classes": 4}, "4 classes.* have 10: make the space with classes=10"),
    ):
        with pytest.raises(ValueError, match=says):
            search(method("darts", space("nasbench201", channels=2, cells=1, **given)), data, 1)


@dataclass(frozen=True)
class Changed(Noise):
    change: object = None

    def _at(self, split, *place):
        return self.change(super()._at(split, *place))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda b: Batch(b.images[:, :1], b.labels, b.index),
            r"images of train are \(8, 1, 8, 8\), and space nasbench201 takes \(B, 3, H, W\)",
        ),
        (lambda b: Batch(b.images.flatten(1), b.labels, b.index), "images of train"),
        (
            lambda b: Batch(b.images, b.labels + 7, b.index),
            "a label of train is .* has 4 classes, which count from 0",
        ),
        (lambda b: Batch(b.images, b.labels.float(), b.index), "whole numbers of shape"),
        (lambda b: Batch(b.images, b.labels[:3], b.index), r"labels of train are \(3,\)"),
    ],
)
def test_batches_that_are_none_for_the_space(change, says):
    with pytest.raises(ValueError, match=says):
        search(method("darts", NB), Changed(change=change), 1)


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "gpu", 3.5])
def test_a_device_that_is_not_here(device, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    mine = method("darts", NB)
    for act in (
        lambda: state_of(mine, device=device),
        lambda: checkpoint.read(tmp_path / "none", device),
    ):
        with pytest.raises(
            ValueError,
            match=r"unknown device|this machine has no CUDA GPU; use another one, such as cpu",
        ):
            act()


def test_a_state_that_went_through_a_stage_belongs_to_its_method():
    mine = method("progressive", space("nasbench201", **TINY), partial=(2, 1), keep=(3,), rest=0)
    found = search(mine, Noise(), 2)
    assert found.state.space != mine.space and found.state.identity == mine.identity(
        found.state.plan
    )
    assert checkpoint.restore(mine, checkpoint.pack(mine, found.state)).space == found.state.space
    with pytest.raises(ValueError, match="not 'darts'"):
        checkpoint.pack(method("darts", NB), replace(found.state))
