"""A search that diverges says what did first and the setting that drives it, and no file holds what diverged."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from archgrad.cli import main
from archgrad.components.losses import task
from archgrad.methods import METHODS, method
from archgrad.observers.recording import Checkpoints
from archgrad.searching import checkpoint
from archgrad.searching.finite import LARGEST, Trace, largest_value
from archgrad.spaces import space
from running import SMALL
from searching import Watch, run

FAR = 1e30
SPACE = {"channels": 4, "cells": 1, "classes": 4}
STILL = ("random", "rsws")  # no alpha moves


def made(name, **given):
    return method(name, space("nasbench201", **SPACE), **given)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in STILL])
def test_alphas_that_diverge_are_named(name):
    m = made(name, alphas={"lr": FAR})
    with pytest.raises(
        ValueError,
        match=r"^the search diverged in epoch \d, the alphas first: try an --alphas\.lr below 1e\+30$",
    ):
        run(m)


@pytest.mark.parametrize("name", METHODS)
def test_weights_that_diverge_are_named(name):
    with pytest.raises(
        ValueError,
        match=r"^the search diverged in epoch \d, the weights first: try a --weights\.lr below 1e\+30$",
    ):
        run(made(name, weights={"lr": FAR}))


@pytest.mark.parametrize("name", STILL)
def test_a_large_rate_of_alphas_that_rest_is_accepted(name):
    m = made(
        name,
        alphas={"lr": FAR},
        **({"samples": 2, "images": 8, "finalists": 1} if name == "rsws" else {}),
    )
    assert run(m).genotype


TERMS = {
    "sddarts": {"strength": FAR, "first": 1},
    "betadarts": {"end": FAR},
    "fairdarts": {"strength": FAR},
    "drnas": {"strength": FAR, "anchor": "kl"},
    "lambdadarts": {"strength": FAR, "least": 2},
    "cdarts": {"strength": FAR},
}


@pytest.mark.parametrize("name", TERMS)
def test_a_term_that_diverges_is_named_by_its_setting(name):
    setting = "end" if name == "betadarts" else "strength"
    said = rf"^the search diverged in epoch \d, a term of the loss first: try a --{name}\.{setting} below 1e\+30$"
    sized = space("nasbench201", **SPACE | {"cells": 2})
    with pytest.raises(ValueError, match=said):
        run(method(name, sized, **TERMS[name], alphas={"lr": 3e-4}))


def test_a_term_of_ones_own_is_named_by_its_place():
    def huge(forward):
        return forward.output.logits.sum() * FAR

    m = made("darts")
    m = replace(m, patch=replace(m.patch, weight_terms=(huge,)))
    with pytest.raises(
        ValueError, match=r"diverged in epoch 1, term 2 of the loss first: give it less weight$"
    ):
        run(m)


def test_alphas_that_start_too_large_are_named_by_their_init():
    with pytest.raises(ValueError, match=r"the alphas first: try an --alphas\.init below 1e\+30$"):
        run(made("darts", alphas={"init": FAR}))


class Breaks(Watch):
    """Makes one number not finite once so many steps are done."""

    def __init__(self, at, choose):
        super().__init__(lambda method, state, done: broken(choose(state)) if done == at else None)


def broken(tensor) -> None:
    tensor.data[(0,) * tensor.dim()] = math.nan


@pytest.mark.parametrize(
    "choose",
    [
        lambda state: state.alphas["cell"],
        lambda state: next(state.nets["search"].parameters()),
        lambda state: next(
            buffer for buffer in state.nets["search"].buffers() if buffer.is_floating_point()
        ),
        lambda state: state.optimizers["weights"].state[next(state.nets["search"].parameters())][
            "momentum_buffer"
        ],
    ],
    ids=["alphas", "weights", "statistics", "momenta"],
)
def test_a_periodic_checkpoint_never_overwrites_a_good_one(choose, tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(ValueError, match="diverged"):
        run(made("darts"), [Breaks(2, choose), Checkpoints(path, seconds=1e-9)])
    content = torch.load(path, weights_only=True)
    assert (content["epoch"], content["step"]) == (0, 1)
    assert all(value.isfinite().all() for net in content["nets"].values() for value in net.values())


def test_a_loaded_state_is_read_only_where_its_alphas_are_numbers(tmp_path):
    """A checkpoint that was saved before saving was checked is refused; so is what reads alphas."""
    m = made("darts", alphas={"lr": 3e-4})
    content = checkpoint.pack(m, run(m, epochs=1).state)
    state = checkpoint.restore(m, content)
    content["alphas"]["cell"] = content["alphas"]["cell"].clone()
    content["alphas"]["cell"][0, 0] = math.nan
    with pytest.raises(ValueError, match=r"^alphas\.cell: it holds numbers that are not finite$"):
        checkpoint.restore(m, content)
    state.alphas["cell"].data[0, 0] = math.nan
    said = r"^the alphas of this search have diverged, .* an --alphas\.lr below 0\.0003 or a --weights\.lr below"
    for read in (m.selected_genotype, m.genotype, m.readout):
        with pytest.raises(ValueError, match=said):
            read(state)


def test_alphas_that_are_large_and_right_are_read():
    m = made("darts")
    state = run(m, epochs=1).state
    state.alphas["cell"].data.mul_(0.5 * LARGEST / largest_value(state.alphas.values()).item())
    assert m.selected_genotype(state)


def test_a_trace_names_the_part_that_diverged_first():
    trace = Trace()
    assert trace.first_diverged() is None
    trace.note(("a", "b"), torch.tensor([1.0, 2.0]))
    assert trace.first_diverged() is None
    trace.note(("c",), torch.tensor([math.inf]))
    trace.note(("a", "b"), torch.tensor([math.nan, LARGEST]))
    trace.note(("c",), torch.tensor([0.0]))
    assert trace.first_diverged() == "c"
    trace = Trace()
    trace.note(
        (task, "b"), torch.tensor([math.nan, math.nan])
    )  # the first of a sum is why the others follow
    assert trace.first_diverged() is task


def test_the_command_line_ends_with_2_and_a_finite_checkpoint(tmp_path, capsys):
    told = [*SMALL[:-2], "--method", "drnas", "--alphas.lr", "1e30", "--out", str(tmp_path / "run")]
    assert main(["search", *told]) == 2
    assert "the alphas first: try an --alphas.lr below 1e+30" in capsys.readouterr().err
    assert not (tmp_path / "run" / "genotype.json").exists()
