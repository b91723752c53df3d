"""The largest eigenvalue of the alphas' Hessian: exact, over what counts, and measured without a trace."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from archgrad import run
from archgrad.diagnostics import curvature
from archgrad.diagnostics.curvature import describe_rise, largest_eigenvalue, supernet_curvature
from archgrad.methods import method
from archgrad.observers.probes import Curvature
from archgrad.run import config
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.spaces import space
from fakes import Noise
from watching import Rows, Several, assert_equal, trace

TINY = {
    "nasbench201": {"channels": 2, "cells": 1, "classes": 4},
    "s1": {"channels": 2, "cells": 3, "classes": 4},
}
DATA = Several(dtype=torch.float64)


def factor(mixture, alphas, context):
    """Each edge times a factor of its own."""
    return replace(
        mixture,
        weights={
            name: w * alphas[f"{name}/edge"].exp()[:, None] for name, w in mixture.weights.items()
        },
    )


DARTS = Patch("darts")
EDGES = Patch("edges", extra_alphas={"edge": lambda group: (len(group.edges),)}, reshape=(factor,))


def made(space_name: str, patch: Patch = DARTS):
    """A method, its state in float64 with alphas that are decided a little, and the mixture discretisation would read."""
    m = Method(patch, space(space_name, **TINY[space_name]))
    state = m.start(seed=1, epochs=4, steps=3)
    state.nets["search"].double()
    rng = torch.Generator().manual_seed(2)
    draws = {
        name: torch.randn(a.shape, generator=rng, dtype=torch.float64)
        for name, a in state.alphas.items()
    }
    masks = {
        name: m.space.groups[name].mask() if name in m.space.groups else torch.ones_like(a)
        for name, a in draws.items()
    }
    state.alphas = {name: (draw * masks[name]).requires_grad_() for name, draw in draws.items()}
    context = m.context(state, "readout")
    return m, state, lambda alphas: m.mixture(alphas, context)


def hessian(state, mixture, batches) -> torch.Tensor:
    """All of it, padding included, as torch's own autograd has it."""
    shapes, net = {name: a.shape for name, a in state.alphas.items()}, state.nets["search"]

    def loss(flat):
        parts = flat.split([math.prod(shape) for shape in shapes.values()])
        mixed = mixture(
            {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts)}
        )
        return torch.stack(
            [F.cross_entropy(net(batch.images, mixed).logits, batch.labels) for batch in batches]
        ).mean()

    return torch.autograd.functional.hessian(
        loss, torch.cat([a.detach().flatten() for a in state.alphas.values()])
    )


CASES = [("nasbench201", DARTS, 1), ("nasbench201", EDGES, 2), ("s1", DARTS, 1)]


@pytest.mark.parametrize(("space_name", "patch", "batches"), CASES)
def test_the_eigenvalue_is_that_of_all_of_the_hessian(space_name, patch, batches):
    """In S1 edges have padding."""
    m, state, mixture = made(space_name, patch)
    images = list(DATA.evaluation("val"))[:batches]
    found = supernet_curvature(
        state.nets["search"], state.alphas, mixture, m.space.groups, images, 1
    )
    whole = torch.linalg.eigvalsh(hessian(state, mixture, images))
    assert whole[-1] > 1e-3
    assert found == pytest.approx(whole[-1].item(), rel=0, abs=1e-8)


def test_further_logits_count():
    """Without the edges' own another number would come out."""
    m, state, mixture = made("nasbench201", EDGES)
    images = list(DATA.evaluation("val"))[:1]
    found = supernet_curvature(
        state.nets["search"], state.alphas, mixture, m.space.groups, images, 1
    )
    own = {name: a for name, a in state.alphas.items() if "/" not in name}
    edges = {name: a.detach() for name, a in state.alphas.items() if "/" in name}
    alone = supernet_curvature(
        state.nets["search"],
        own,
        lambda alphas: mixture({**alphas, **edges}),
        m.space.groups,
        images,
        1,
    )
    assert abs(found - alone) > 1e-3


@pytest.mark.parametrize("size", [1, 3, 19, 20, 21, 60])
@pytest.mark.parametrize("shift", [0.0, -100.0])
def test_eigenvalues_of_known_matrices(size, shift):
    """A null space, as every softmax has one, and spectra that are negative but for it."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    values = rng.standard_normal(size) + shift
    values[0] = 0
    matrix = basis @ np.diag(values) @ basis.T
    assert largest_eigenvalue(lambda v: matrix @ v, size, 1, tolerance=1e-7) == pytest.approx(
        values.max(), abs=1e-8
    )


def test_matrices_that_have_no_curvature():
    assert largest_eigenvalue(np.zeros_like, 30) == 0.0
    assert largest_eigenvalue(np.zeros_like, 3) == 0.0
    assert largest_eigenvalue(np.zeros_like, 0) == 0.0
    assert largest_eigenvalue(lambda v: -v, 30) == -1.0  # Lanczos's method finds nothing here


@pytest.mark.parametrize("size", [3, 30])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_has_no_eigenvalue(broken, size):
    assert math.isnan(largest_eigenvalue(lambda v: np.full_like(v, broken), size))


def test_few_products_are_enough():
    m, state, mixture = made("s1")
    taken = []
    real = curvature.largest_eigenvalue

    def counting(product, size, *place, **how):
        return real(lambda v: taken.append(size) or product(v), size, *place, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curvature, "largest_eigenvalue", counting)
        supernet_curvature(
            state.nets["search"], state.alphas, mixture, m.space.groups, DATA.evaluation("val"), 1
        )
    columns = sum(int(group.mask().sum()) for group in m.space.groups.values())
    assert set(taken) == {columns} and len(taken) < columns / 1.3


def test_measuring_leaves_no_trace_and_says_the_same_again():
    m, state, mixture = made("nasbench201")
    net = state.nets["search"].eval()
    net.stem.train()
    before = trace(state, net)
    again = [
        supernet_curvature(net, state.alphas, mixture, m.space.groups, DATA.evaluation("val"), 1, 2)
        for _ in range(2)
    ]
    assert again[0] == again[1]
    assert_equal(trace(state, net), before)
    with pytest.raises(OSError, match="the disk is gone"):
        supernet_curvature(
            net,
            state.alphas,
            mixture,
            m.space.groups,
            Several(dtype=torch.float64, breaks=1).evaluation("val"),
            1,
        )
    assert_equal(trace(state, net), before)
    with pytest.raises(ValueError, match="no batches"):
        supernet_curvature(net, state.alphas, mixture, m.space.groups, [], 1)


@pytest.mark.parametrize(
    ("values", "window", "risen"),
    [
        ([1, 1, 2, 2], 2, True),
        ([1, 1, 2], 2, False),  # too few
        ([9, 1, 1, 2, 2], 2, True),  # what lies before both windows does not count
        ([1.5, 1.5, 2, 2], 2, False),  # 0.75 is not below 0.75
        ([1.4, 1.6, 2, 2.001], 2, True),
        ([1, 2], 1, True),
        ([2, 1], 1, False),
        ([-1, 1], 1, True),
        ([-2, -1], 1, False),
        ([0, 0], 1, False),
        ([None, 1, None, 2], 2, True),  # not measured, or not finite
        ([1, 1, None, None], 2, False),
        ([None, None, 1, 1], 2, False),
        ([], 1, False),
    ],
)
def test_a_rise_is_one_of_means(values, window, risen):
    said = describe_rise(values, window, 0.75)
    assert (said is not None) == risen


def test_a_rise_says_from_what_to_what():
    assert (
        describe_rise([0.1, 0.2, 1, 2], 2, 0.75)
        == "the largest eigenvalue of the alphas' Hessian rose from 0.15 to 1.5 (means of 2 epochs)"
    )


# The observer.
def measured(observer, m, data=None, epochs=3):
    rows = Rows()
    found = search(m, data or Noise(), epochs, seed=1, observers=[observer, rows])
    return found, rows.kept


def test_the_observer_measures_the_readout_at_the_end_of_its_epoch():
    m = method("darts", space("nasbench201", **TINY["nasbench201"]))
    found, rows = measured(Curvature(batch=8), m)
    plain, _ = measured(Rows(), m)
    assert_equal(
        trace(found.state, found.state.nets["search"]),
        trace(plain.state, plain.state.nets["search"]),
    )
    images = Noise().evaluation("val")
    context = m.context(found.state, "readout")
    last = supernet_curvature(
        found.state.nets["search"],
        found.state.alphas,
        lambda a: m.mixture(a, context),
        m.space.groups,
        images,
        1,
        "curvature",
        2,
    )
    assert [type(row["eigenvalue"]) for row in rows] == [float] * 3 and rows[-1][
        "eigenvalue"
    ] == last


@pytest.mark.parametrize(("every", "epochs"), [(2, [1, 2]), (3, [2])])
def test_every_so_many_epochs_and_after_the_last(every, epochs):
    _, rows = measured(
        Curvature(every, batch=8), method("darts", space("nasbench201", **TINY["nasbench201"]))
    )
    assert [row["epoch"] for row in rows if "eigenvalue" in row] == epochs


def test_whole_batches_count_alike():
    """Of two batches asked for, of which the set has one and a rest."""
    seen = []

    class Ragged(Noise):
        def evaluation(self, split, batch=256, limit=None):
            seen.append((split, batch, limit))
            first = self._at(split, "evaluation", 0)
            yield first
            yield type(first)(*(part[:3] for part in first))

    m = method("darts", space("nasbench201", **TINY["nasbench201"]))
    one, two = (
        measured(Curvature(batches=n, batch=8), m, Ragged(), epochs=1)[1][0]["eigenvalue"]
        for n in (1, 2)
    )
    assert one == two and seen == [("val", 8, 8), ("val", 8, 16)]


def test_what_is_not_finite_is_null_and_what_a_method_measured_is_kept(monkeypatch):
    m = method("darts", space("nasbench201", **TINY["nasbench201"]))
    monkeypatch.setattr("archgrad.observers.probes.supernet_curvature", lambda *_, **__: math.inf)
    assert [row["eigenvalue"] for row in measured(Curvature(), m)[1]] == [None] * 3
    assert Curvature().on_epoch(m, None, None, {"epoch": 0, "eigenvalue": 1.0}) is None


def test_one_op_an_edge_has_no_curvature():
    _, rows = measured(
        Curvature(batch=8), method("random", space("nasbench201", **TINY["nasbench201"]), draws=2)
    )
    assert [row["eigenvalue"] for row in rows] == [0.0] * 3


def test_settings_reach_the_observer():
    settings = config.read(
        (
            "",
            {
                "diagnostics": {"curvature": True, "curvature_every": 4, "curvature_batches": 2},
                "search": {"batch": 32},
            },
        )
    )
    assert run.curvature(settings) == (Curvature(4, 2, 32),)
    assert run.curvature(config.read(("", {"search": {"batch": 32}}))) == ()
