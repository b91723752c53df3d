"""Activation checkpointing of cells: the same numbers with less kept."""

from __future__ import annotations

import pytest
import torch
import yaml

from archgrad.cli import main
from archgrad.components.gradients import gradients
from archgrad.components.hypergradient import Problem, finite_differences, first_order, second_order
from archgrad.methods import METHODS, method
from archgrad.run import config
from archgrad.searching import checkpoint, loop
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.steps import forward, total_loss, weight_loss
from archgrad.spaces import space
from fakes import Noise
from running import SMALL, outcome
from searching import DATA, Record, same

SPACES = {
    "nasbench201": {"channels": 4, "cells": 1, "classes": 4},
    "darts": {"channels": 4, "cells": 3, "nodes": 2, "classes": 4},
    "s4": {"channels": 2, "cells": 3, "classes": 4},
    "nasbenchmacro": {"channels": 2, "classes": 4},
    "mbconv": {
        "channels": 4,
        "classes": 4,
        "stages": ((8, 2, 1), (8, 2, 2), (16, 1, 2)),
        "kernels": (3, 5),
        "expansions": (1,),
    },
}


SHORT = Noise(per_epoch=2)


def searched(m: Method, recompute: str, epochs: int = 2, data: Noise = DATA):
    record = Record()
    found = search(m, data, epochs, seed=1, observers=[record], recompute=recompute)
    return record.rows, checkpoint.pack(m, found.state)


@pytest.mark.parametrize(
    ("name", "hypergradient"),
    [
        *((name, first_order) for name in SPACES if name != "s4"),
        pytest.param("s4", first_order, marks=pytest.mark.slow),
        ("nasbench201", second_order),
        ("nasbenchmacro", second_order),
        ("mbconv", finite_differences),
    ],
)
def test_a_search_is_the_same_bit_for_bit(name, hypergradient):
    m = Method(Patch("darts", hypergradient=hypergradient), space(name, **SPACES[name]))
    rows, whole = searched(m, "none", data=SHORT)
    again, recomputed = searched(m, "cells", data=SHORT)
    assert again == rows
    assert same(recomputed, whole)


SOME = {
    "sddarts",
    "cdarts",
    "gdas",
    "pcdarts",
    "progressive",
    "dartspt",
    "smoothdarts",
    "oles",
    "rsws",
}
"""Each does something else with a pass: teachers, two networks, one op of an edge, a part of the channels, fewer ops later, trials after the
epochs, neighbours of the mixture, gradients of its own, genotypes instead of mixtures."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in SOME else [pytest.mark.slow]) for name in METHODS],
)
def test_every_method_searches_the_same(name):
    few = {"samples": 3, "finalists": 2} if name == "rsws" else {}  # of 100
    m = method(name, space("nasbench201", channels=4, cells=1, classes=4), **few)
    data = Noise(per_epoch=1)
    assert same(searched(m, "cells", 4, data), searched(m, "none", 4, data))


def exact(m: Method, recompute: str, hypergradient):
    """Gradients of alphas and of weights, in float64."""
    data = Noise(dtype=torch.float64)
    train, val = (next(data.batches(split, 0)) for split in ("train", "val"))
    state = m.start(seed=1, epochs=2, steps=3, recompute=recompute)
    net = state.nets["search"].double()
    alphas = {name: a.detach().double().requires_grad_() for name, a in state.alphas.items()}
    named = dict(net.named_parameters())

    def upper(alphas, weights):
        passed = forward(m, state, "search", "alpha", val, alphas, weights)
        return total_loss(m.alpha_terms, passed, state.trace), passed

    def lower(alphas, weights):
        return weight_loss(m, state, train, alphas, weights)

    of_alphas, _ = hypergradient(
        Problem(net, alphas, named, state.optimizers["weights"], upper, lower)
    )
    loss, _ = lower({name: a.detach() for name, a in alphas.items()}, None)
    return of_alphas, {
        name: gradient for name, gradient in gradients(loss, named).items() if gradient is not None
    }


@pytest.mark.parametrize("name", ["darts", "nasbench201", "mbconv"])
@pytest.mark.parametrize("hypergradient", [first_order, second_order])
def test_gradients_are_exact_in_float64(name, hypergradient):
    m = Method(Patch("darts"), space(name, **SPACES[name]))
    found, plain = (exact(m, recompute, hypergradient) for recompute in ("cells", "none"))
    assert found[1] and all(gradient.abs().sum() > 0 for gradient in found[0].values())
    assert same(found, plain)


def test_statistics_count_a_batch_once_and_less_is_kept():
    m, counts, kept = method("darts", space("nasbench201", **SPACES["nasbench201"])), [], []
    for recompute in ("none", "cells"):
        state, saved = m.start(seed=1, epochs=2, steps=3, recompute=recompute), []

        def keep(tensor, saved=saved):
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss, _ = weight_loss(m, state, next(DATA.batches("train", 0)), state.alphas, None)
        gradients(loss, dict(state.nets["search"].named_parameters()))
        counts.append(
            {
                int(b)
                for name, b in state.nets["search"].named_buffers()
                if name.endswith("num_batches_tracked")
            }
        )
        kept.append(sum(saved))
    assert counts == [{1}, {1}]
    assert kept[1] < 0.5 * kept[0]


def test_a_setting_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="unknown recompute 'cell': did you mean 'cells'"):
        search(
            method("darts", space("nasbench201", **SPACES["nasbench201"])),
            DATA,
            1,
            recompute="cell",
        )


def test_a_run_records_recompute_and_a_resumed_one_keeps_it(tmp_path, monkeypatch):
    plain, folder = tmp_path / "plain", tmp_path / "run"
    assert main(["search", *SMALL, "--out", str(plain)]) == 0
    assert main(["search", *SMALL, "--search.recompute", "cells", "--out", str(folder)]) == 0
    with_it, without = outcome(folder), outcome(plain)
    recorded = yaml.safe_load(with_it.pop("config"))
    assert recorded["search"].pop("recompute") == "cells"
    old = yaml.safe_load(without.pop("config"))
    assert old["search"].pop("recompute") == "none" and old == recorded
    assert same(with_it, without)
    assert config.read(("", old)).search.recompute == "none"  # as archgrad recorded runs before
    (folder / "genotype.json").unlink()
    seen, whole = [], loop.search

    def watched(*arguments, **given):
        seen.append(given["state"].recompute)
        return whole(*arguments, **given)

    monkeypatch.setattr(loop, "search", watched)
    assert main(["resume", str(folder)]) == 0
    assert seen == ["cells"]
