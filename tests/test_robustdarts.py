"""RobustDARTS: the epoch at which it stops, the genotype that it derives, and its two other forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.mixture import Mixture
from archgrad.components.relax import softmax
from archgrad.diagnostics.curvature import supernet_curvature
from archgrad.methods import METHODS, method, robustdarts_curvature
from archgrad.methods.robustdarts import PRESETS
from archgrad.searching import checkpoint
from archgrad.searching.compose import compose
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.steps import forward
from archgrad.spaces import space
from fakes import Noise
from searching import Record, Saves, run, same

BASE = {"channels": 2, "cells": 1, "classes": 4}
EPOCHS = 12


def made(**options):
    return method(
        "robustdarts", space("nasbench201", **BASE), alphas={"lr": 0.3}, robustdarts=options
    )


def restless(alphas, context):
    """Another genotype after every epoch."""
    rng = context.rng("restless")
    return Mixture(
        {
            name: torch.rand(len(group.edges), group.width, generator=rng)
            for name, group in context.groups.items()
        }
    )


def short(observers=(), state=None, **options):
    """A search of twelve epochs of a step each."""
    m = made(start=0, **options) if "start" not in options else made(**options)
    m = Method(compose(m.patch, Patch("restless", relax=softmax, readout=restless)), m.base)
    return m, run(m, observers, state and state(m), epochs=EPOCHS, data=Noise(per_epoch=1))


def planted(monkeypatch, values):
    """Replace the eigenvalues of the supernet by given ones."""
    monkeypatch.setattr(
        robustdarts_curvature, "supernet_curvature", lambda *arguments, **_: values[arguments[-1]]
    )


STEP = [1.0] * 8 + [2.0] * 4  # rises after 8 epochs


@pytest.mark.parametrize(
    ("window", "stops", "derives"),
    [
        (1, 8, 7),  # epoch 8 is the first above; one epoch before it
        (
            2,
            8,
            5,
        ),  # means of (7, 8) and (5, 6): 1 / 1.5 < 0.75; the middle of the window before is the later of the two
        (3, 9, 5),  # (7, 8, 9) and (4, 5, 6): 1 / (5 / 3)
    ],
)
def test_a_rise_of_the_eigenvalue_stops_the_search_with_the_genotype_before_it(
    monkeypatch, window, stops, derives
):
    planted(monkeypatch, STEP)
    record = Record()
    _, found = short([record], window=window)
    assert [row["eigenvalue"] for row in record.rows] == STEP[: stops + 1]
    assert (
        [row["epoch"] for row in record.rows if "stop" in row] == [stops] == [found.state.epoch - 1]
    )
    assert record.rows[-1]["stop"].startswith(
        "the largest eigenvalue of the alphas' Hessian rose from 1 to "
    )
    assert str(found.genotype) == record.rows[derives]["genotype"]
    assert found.state.decisions[0].note == {"after_epochs": derives + 1}
    assert len({row["genotype"] for row in record.rows}) == stops + 1


@pytest.mark.parametrize(("start", "stops"), [(7, True), (8, False), (0.5, True), (0.75, False)])
def test_derives_nothing_from_before_the_start(monkeypatch, start, stops):
    planted(monkeypatch, STEP)
    assert bool(short(window=1, start=start)[1].state.stopped) == stops


@pytest.mark.parametrize(
    "values",
    [[1.0] * 11 + [2.0], [math.nan] * 12, [1.0, math.inf] * 6, [-1.0] * 12, [2.0] * 6 + [1.0] * 6],
)
def test_without_a_rise_the_last_alphas_select_the_genotype(monkeypatch, values):
    """A rise in the last epoch stops nothing; what is not finite says nothing, and is null."""
    planted(monkeypatch, values)
    record = Record()
    _, found = short([record], window=1)
    assert found.state.epoch == EPOCHS and not found.state.decisions and not found.state.stopped
    assert [row["eigenvalue"] for row in record.rows] == [
        value if math.isfinite(value) else None for value in values
    ]


def test_a_window_is_a_share_of_the_search_too(monkeypatch):
    planted(monkeypatch, STEP)
    whole, share = (short(window=window)[1].state for window in (3, 0.25))
    assert whole.epoch == share.epoch == 10 and whole.decisions == share.decisions
    with pytest.raises(
        ValueError, match=r"robustdarts\.window is 12, but the search has 12 epochs"
    ):
        short(window=12)


def test_decides_the_same_after_a_resume(monkeypatch, tmp_path):
    planted(monkeypatch, STEP)
    saves = Saves([("epoch", 7, 0), ("step", 8, 1), ("decision", 1, 0)], tmp_path)
    m, whole = short([saves], window=2)
    for place, path in saves.files.items():
        state = checkpoint.read(path)
        _, again = short(state=lambda m, state=state: checkpoint.restore(m, state), window=2)
        assert again.genotype == whole.genotype and again.state.stopped == whole.state.stopped
        assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, whole.state)), place


def test_the_column_is_the_largest_eigenvalue_of_the_validation_loss():
    """Against all of the Hessian by torch's autograd, at the end of an epoch, in float32."""
    record, m = Record(), made()
    found = run(m, [record], epochs=1)
    net, a = found.state.nets["search"], found.state.alphas["cell"].detach()
    batch, context = next(Noise().evaluation("val")), m.context(found.state, "readout")

    def loss(flat):
        return F.cross_entropy(
            net(batch.images, m.mixture({"cell": flat.view_as(a)}, context)).logits, batch.labels
        )

    whole = torch.autograd.functional.hessian(loss, a.flatten())
    assert record.rows[0]["eigenvalue"] == pytest.approx(
        torch.linalg.eigvalsh(whole.double())[-1].item(), rel=1e-4
    )
    mixture = lambda alphas: m.mixture(alphas, context)  # noqa: E731
    assert record.rows[0]["eigenvalue"] == supernet_curvature(
        net, found.state.alphas, mixture, m.space.groups, [batch], 1, "curvature", 0
    )


def test_the_gradient_of_an_alpha_under_dropped_paths():
    """``dL/da[e, k] = p[e, k] * (g[e, k] - sum over j of p[e, j] * g[e, j])``, with g = dL/dp of the network whose ops were dropped, each with
    the draw of its place: one an op and image."""
    m = method(
        "robustdarts",
        space("nasbench201", channels=2, cells=1, classes=4),
        robustdarts={"preset": "dp", "drop_path": 0.5},
    )
    state = m.start(seed=1, epochs=2, steps=3)
    state.epoch = 1  # the last: drop_path is 0.5
    state.nets["search"].double()
    state.alphas = {
        "cell": torch.randn(
            6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        ).requires_grad_()
    }
    batch = next(Noise(dtype=torch.float64).evaluation("val"))
    kept = {}
    real = torch.Tensor.bernoulli_

    def drawing(tensor, keep):
        drawn = real(tensor, keep)
        kept[len(kept)] = drawn.flatten().clone()
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "bernoulli_", drawing)
        passed = forward(m, state, "search", "alpha", batch, state.alphas)
    assert passed.mixture.drop_path == 0.5
    p = passed.mixture.weights["cell"]
    slopes = torch.autograd.grad(
        F.cross_entropy(passed.output.logits, batch.labels), [p, state.alphas["cell"]]
    )
    written = p * (slopes[0] - (p * slopes[0]).sum(1, keepdim=True))
    assert torch.allclose(slopes[1], written.detach(), rtol=0, atol=1e-10)
    drawn = torch.stack(list(kept.values()))
    assert drawn.shape[1] == len(batch.labels) and set(drawn.unique().tolist()) == {0.0, 1.0}
    dropped = m.mixture(state.alphas, m.context(state, "readout"))
    assert dropped.drop_path == 0.0  # what is looked at is whole


def test_drop_path_grows_from_nothing_and_decay_is_the_weights():
    m = made(preset="dp", drop_path=0.6)
    record = Record()
    run(m, [record], epochs=4)
    assert [row["drop_path"] for row in record.rows] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert (
        made(preset="l2").weights.decay == 27e-4
        and made().weights.decay == method("darts", space("nasbench201")).weights.decay
    )


def test_without_its_parts_it_is_darts_bit_for_bit():
    """And stopping, where nothing rises, changes no weight."""
    off, watched = made(stop=False), made(ratio=1e-9)
    plain = method("darts", space("nasbench201", **BASE), alphas={"lr": 0.3})
    data = Noise(per_epoch=1)
    packs = [checkpoint.pack(m, run(m, data=data).state) for m in (plain, off, watched)]
    for pack in packs:
        del pack["method"], pack["identity"]
    del packs[2]["memory"], packs[0]["memory"], packs[1]["memory"]
    assert same(packs[0], packs[1]) and same(packs[0], packs[2])


def test_presets_are_the_papers_three():
    assert set(PRESETS) == {"es", "l2", "dp"}
    fields = {
        name: METHODS["robustdarts"].patch(**preset).set_fields()
        for name, preset in PRESETS.items()
    }
    assert fields == {
        "es": {"memory", "finalise", "lengths", "ahead"},
        "l2": {"weights"},
        "dp": {"reshape", "scalars"},
    }
