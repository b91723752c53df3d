"""Wrong types from Python raise a ValueError of one line, or are accepted where the meaning is plain."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import archgrad
from archgrad import run
from archgrad.arch.genotype import Genotype
from archgrad.components.losses import logsumexp
from archgrad.methods import method
from archgrad.run import config
from archgrad.run.folder import RunFolder
from archgrad.searching import checkpoint
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.spaces import space, space_of
from fakes import Noise

NB = space("nasbench201", channels=4, cells=1, classes=4)
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|"


def half(forward):
    return forward.output.logits.sum(1)


def number(forward):
    return 0.5


class Deaf:
    def on_epoch(self, method, state, data, row): ...


def made(**fields):
    return method("darts", NB, patches=[Patch("mine", **fields)])


REFUSED = {
    "a space that is none": (
        lambda: method("darts", 5),
        "a space or the name of one is expected, not 5",
    ),
    "an unknown space": (
        lambda: Method(Patch("mine"), "nasbench"),
        "unknown space 'nasbench': did you mean 'nasbench201'?",
    ),
    "a method that is no name": (
        lambda: method(None, NB),
        "the name of a method is expected, such as darts or stdarts.sddarts, not None",
    ),
    "patches that are none": (
        lambda: method("darts", NB, patches=[logsumexp]),
        "patches: a list of archgrad.Patch is expected, not <function",
    ),
    "an unknown setting of the weights": (
        lambda: made(weights={"lrr": 1}),
        "unknown option of mine: weights",
    ),
    "a setting out of range": (
        lambda: made(alphas={"lr": -1}),
        r"mine: alphas\.lr: Input should be greater than or equal to 0",
    ),
    "a setting of another type": (
        lambda: made(weights={"nesterov": "perhaps"}),
        r"mine: weights\.nesterov: .* not 'perhaps'",
    ),
    "an unknown option of the space": (
        lambda: made(space={"width": 2}),
        "mine does not fit space 'nasbench201': unknown option",
    ),
    "a number for a function": (
        lambda: Patch("mine", relax=0.5),
        "patch 'mine': relax must be a function, not 0.5",
    ),
    "a number for a term": (
        lambda: Patch("mine", weight_terms=[0.5]),
        "patch 'mine': weight_terms must be a function, not 0.5",
    ),
    "an epoch for a moment": (
        lambda: Patch("mine", alpha_from=3),
        "patch 'mine': alpha_from must be a function, not 3",
    ),
    "a list for a mapping": (
        lambda: Patch("mine", memory=[1]),
        r"patch 'mine': memory must be a mapping by name, not \[1\]",
    ),
    "a memory for its factory": (
        lambda: Patch("mine", memory={"a": 1}),
        "patch 'mine': memory must be a function, not 1",
    ),
    "a term for each image": (
        lambda: searched(Patch("mine", weight_terms=half)),
        r"loss term 'half' returned a tensor of shape \(8,\); a scalar tensor",
    ),
    "a term that is a number": (
        lambda: searched(Patch("mine", alpha_terms=number)),
        "loss term 'number' returned 0.5; a scalar tensor",
    ),
    "an observer that is deaf": (
        lambda: searched(Patch("mine"), observers=[Deaf()]),
        "observer Deaf has no on_step and no on_decision",
    ),
    "an observer that is none": (
        lambda: searched(Patch("mine"), observers=5),
        "observer int has no on_step and no on_epoch and no on_decision",
    ),
    "a name for a method": (
        lambda: search("darts", Noise(), 1),
        "a method is expected, as archgrad.method makes it, not 'darts'",
    ),
    "a name for data": (
        lambda: search(method("darts", NB), "digits", 1),
        "data with count, .* archgrad.search_data makes them, not 'digits'",
    ),
    "a number for a folder of images": (
        lambda: archgrad.load(5),
        "images: a path is expected, not 5",
    ),
    "no name of images": (lambda: archgrad.load(""), "images: a path is expected, not ''"),
    "a number for a run": (lambda: archgrad.alphas(3), "run: a path is expected, not 3"),
    "a number for an image": (
        lambda: archgrad.predict(Path("none"), [7]),
        "there is no folder none|image: a path is expected, not 7",
    ),
    "a name to train on": (
        lambda: archgrad.retrain(NB, CELL, "digits", {}, "x"),
        "a data set from archgrad.load is expected, not 'digits'",
    ),
    "a seed below 0": (
        lambda: search(method("darts", NB), Noise(), 1, seed=-1),
        "seed: a whole number from 0 on is expected, not -1",
    ),
    "a seed as text": (
        lambda: search(method("darts", NB), Noise(), 1, seed="a"),
        "seed: a whole number from 0 on is expected, not 'a'",
    ),
    "a number for a state": (
        lambda: search(method("darts", NB), Noise(), 1, state=4),
        "state: the state of a search .* is expected, not 4",
    ),
    "a name for images": (
        lambda: archgrad.search_data("digits"),
        "a data set from archgrad.load is expected, not 'digits'",
    ),
    "epochs as text": (
        lambda: search(method("darts", NB), Noise(), "3"),
        "whole epochs, at least 1 of 1 step, not '3' of 3",
    ),
    "half an epoch": (
        lambda: search(method("darts", NB), Noise(), 1.5),
        "whole epochs, at least 1 of 1 step, not 1.5 of 3",
    ),
    "a number for a genotype": (
        lambda: NB.derive(5),
        "a genotype, its text or its name is expected, not 5",
    ),
    "text that is no genotype": (lambda: NB.derive("nonsense"), "nonsense"),
}


def searched(patch, **more):
    return search(method("darts", NB, patches=[patch]), Noise(), 1, **more)


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(what):
    act, says = REFUSED[what]
    with pytest.raises(ValueError, match=says) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_a_space_by_its_name():
    assert (
        method("darts", "nasbench201").base
        == Method(Patch("mine"), "nasbench201").base
        == space("nasbench201")
    )
    assert space_of({"name": "darts", "cells": 3}) == space("darts", cells=3)


def test_a_genotype_by_its_text():
    by_text, by_value = (
        NB.derive(CELL, channels=4, cells=1),
        NB.derive(Genotype.parse(CELL), channels=4, cells=1),
    )
    assert by_text.genotype == by_value.genotype and by_text.space == by_value.space
    assert Genotype.of(Genotype.parse(CELL).to_json()) == Genotype.parse(CELL)
    assert space("darts").derive("DARTS_V2", channels=4, cells=3).genotype == Genotype.parse(
        "DARTS_V2"
    )
    assert space("mbconv").derive("CDARTS_A").genotype == Genotype.parse("CDARTS_A")


def test_one_value_for_several_and_a_list_for_a_tuple():
    assert (
        Patch("mine", weight_terms=logsumexp)
        == Patch("mine", weight_terms=[logsumexp])
        == Patch("mine", weight_terms=(logsumexp,))
    )
    assert method("darts", NB, patches=Patch("mine", with_rate="init")).patch.with_rate == ("init",)
    assert searched(Patch("mine"), observers=Several()).genotype


class Several(Deaf):
    def on_step(self, method, state, values): ...

    def on_decision(self, method, state, decision): ...


def test_text_for_a_path(tmp_path):
    mine = method("darts", NB)
    state = mine.start(seed=0, epochs=1, steps=3)
    path = str(tmp_path / "c.pt")
    checkpoint.save(path, checkpoint.pack(mine, state))
    assert torch.equal(checkpoint.load(path, mine).alphas["cell"], state.alphas["cell"])
    assert RunFolder(str(tmp_path)) == RunFolder(Path(tmp_path))
    (tmp_path / "a.yaml").write_text("seed: 3\n")
    assert config.read(config.read_yaml(str(tmp_path / "a.yaml"))).seed == 3
    with pytest.raises(ValueError, match="there is no run in"):
        run.resume(str(tmp_path))


def test_a_dict_for_settings(tmp_path):
    """A search, its retraining and its predictions accept plain values in the place of typed ones."""
    settings = {
        "data": "digits",
        "space": {"name": "nasbench201", "channels": 2, "cells": 1},
        "search": {"epochs": 1, "limit": 20, "batch": 10},
    }
    found = run.search(
        {**settings, "out": str(tmp_path / "run"), "diagnostics": {"front": False, "gap": False}}
    )
    quick = {"preset": "quick", "channels": 2, "epochs": 1, "limit": 20}
    digits, silent = archgrad.load("digits"), lambda line: None
    trained = archgrad.retrain(
        "nasbench201", str(found.genotype), digits, quick, str(tmp_path / "net"), report=silent
    )
    assert trained.folder == tmp_path / "net"
    refused = archgrad.predict(tmp_path / "net", str(tmp_path / "nowhere.png")).refused
    assert refused == [f"no such file or folder: {tmp_path / 'nowhere.png'}"]
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        archgrad.evaluate(tmp_path / "net", device="gpu")
    with pytest.raises(ValueError, match=r"retrain\.epochs"):
        archgrad.retrain("nasbench201", CELL, digits, {"epochs": "many"}, tmp_path / "other")
