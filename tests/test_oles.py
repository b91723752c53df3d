"""OLES: the match of an op against the formula, who rests and when, in either order of a step, and where a search stops between two looks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Progress
from archgrad.methods import method
from archgrad.methods.oles_gradients import MEASURES, GradientMatches, cosine_match
from archgrad.searching import checkpoint
from archgrad.searching.method import Method
from archgrad.spaces import space
from fakes import Noise
from searching import Record, Saves, Watch, content, gone_on, resumed, same, values_of
from searching import run as searched

SMALL = {"channels": 2, "cells": 1, "classes": 4}
OPS = 3 * 6 * 2  # cells, edges, convolutions
ORDERS = ("alpha_first", "weight_first")
STILL = {"weights": {"lr": 0, "lr_end": 0}, "alphas": {"lr": 0, "decay": 0}}


def oles(space_name: str = "nasbench201", settings: dict | None = None, **options) -> Method:
    return method("oles", space(space_name, **SMALL), oles=options, **(settings or {}))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("order", ORDERS)
def test_matches_and_the_alphas_gradient_are_the_papers(order, measure):
    """One step in float64 that moves nothing: cos(dL_train/dw_o, dL_val/dw_o) of every op o of every cell, and dL_val/da to first order."""
    m = oles(settings={"darts": {"order": order}, **STILL}, interval=100, measure=measure)
    state, data = m.start(seed=1, epochs=4, steps=3), Noise(dtype=torch.double)
    net, memory = state.nets["search"].double(), state.memory["oles"]
    (name,), rng = state.alphas, torch.Generator().manual_seed(3)
    a = torch.randn(6, 5, dtype=torch.double, generator=rng).requires_grad_()
    state.alphas, memory.op_match_sums = {name: a}, memory.op_match_sums.double()
    state.optimizers = m.stepper.optimizers(m, state)
    batches = [next(data.batches(split, 0)) for split in ("train", "val")]

    weights = dict(net.named_parameters())
    halves = []
    for batch in batches:
        loss = F.cross_entropy(
            net(batch.images, Mixture({name: a.softmax(-1)})).logits, batch.labels
        )
        found = torch.autograd.grad(loss, [a, *weights.values()], allow_unused=True)
        halves.append((found[0], dict(zip(weights, found[1:], strict=True))))
    (_, train), (slope, val) = halves
    m.step(state, *batches)

    def by_hand(names: list[str]) -> Tensor:
        if measure == "paper":
            g, h = (torch.cat([half[key].flatten() for key in names]) for half in (train, val))
            return g @ h / (g.norm() * h.norm())
        columns = [(train[key].flatten(1).T, (train[key] + val[key]).flatten(1).T) for key in names]
        return torch.stack(
            [
                torch.stack([F.cosine_similarity(g, h, dim=0) for g, h in zip(*pair)]).mean()
                for pair in columns
            ]
        ).mean()

    assert len(memory.ops) == OPS and memory.counts == [1] * OPS
    assert memory.op_match_sums.tolist() == pytest.approx(
        [by_hand(names).item() for names in memory.ops], abs=1e-10
    )
    assert (
        state.optimizers["alphas"].state[a]["exp_avg"] / (1 - m.alphas.beta1) - slope
    ).abs().max() < 1e-10


def test_a_gradient_of_nothing_matches_nothing():
    zero, one = torch.zeros(3), torch.ones(3)
    assert cosine_match([[zero], [one, one]], [[one], [one, one]]).tolist() == pytest.approx([0, 1])


class Given(GradientMatches):
    """Matches as told, by the op."""

    def __init__(self, threshold: float, interval: int, ops: list[list[str]], of) -> None:
        super().__init__(
            threshold,
            interval,
            lambda train, val: torch.tensor([of(float(op[0])) for op in train]),
            True,
        )
        self.ops, self.counts, self.op_match_sums, self.match_sum, self.steps = (
            ops,
            [0] * len(ops),
            torch.zeros(len(ops)),
            torch.zeros(()),
            0,
        )

    def step(self, step: int, ran: str, first: str = "weight") -> None:
        context = Context({}, Progress(0, step, 1, 99, 0, 1), "weight", {}, 0)
        found = {
            name: torch.tensor(float(name)) if name in ran else None
            for names in self.ops
            for name in names
        }
        for half in (first, "alpha" if first == "weight" else "weight"):
            self.take_gradients(half, found, context)


@pytest.mark.parametrize("first", ["weight", "alpha"])
def test_an_op_rests_when_the_mean_of_an_interval_is_too_low(first):
    """Four ops whose match is 0.1, 0.2, 0.3 and 0.4, judged every three steps by 0.25; the third runs in every other step alone."""
    memory = Given(0.25, 3, [["1"], ["2"], ["3"], ["4"]], lambda op: op / 10)
    for step in range(2):
        memory.step(step, "1234" if step % 2 == 0 else "124", first)
    assert memory.resting_ops == [] and memory.counts == [2, 2, 1, 2]
    memory.step(2, "1234", first)
    assert (
        memory.resting_ops == [0, 1]
        and memory.counts == [0, 0, 2, 0]
        and memory.op_match_sums.tolist() == pytest.approx([0, 0, 0.6, 0])
    )
    memory.step(3, "1234", first)
    assert memory.resting_ops == [0, 1] and memory.counts == [
        0,
        0,
        0,
        1,
    ]  # those that rest are asked no more
    row = memory.after_epoch(None, None, None, None)
    assert row == {
        "gradient_match": pytest.approx((0.25 + (0.1 + 0.2 + 0.4) / 3 + 0.25 + 0.35) / 4),
        "frozen": 0.5,
    }
    assert memory.after_epoch(None, None, None, None) == {
        "frozen": 0.5
    }  # nothing was compared: no column


def test_a_half_without_its_other_counts_for_nothing():
    memory = Given(0.25, 1, [["1"]], lambda op: 0.0)
    for step in range(3):  # weights alone learn
        memory.take_gradients(
            "weight",
            {"1": torch.tensor(1.0)},
            Context({}, Progress(0, step, 1, 99, 0, 1), "weight", {}, 0),
        )
    assert memory.resting_ops == [] and memory.counts == [0]


@pytest.mark.parametrize("space_name", ["nasbench201", "darts"])
def test_resting_ops_do_not_move_and_the_others_do(space_name):
    """Every op rests after the second step: convolutions stay what they are, stem, preprocessing, classifier, skips and alphas move."""
    m = method(
        "oles",
        space(
            space_name, **{**SMALL, **({"cells": 3, "nodes": 2} if space_name == "darts" else {})}
        ),
        threshold=1,
        interval=2,
        measure="paper",
    )
    seen, alphas = [], []

    def look(method, state, done):
        seen.append(values_of(state))
        alphas.append({name: a.detach().clone() for name, a in state.alphas.items()})

    record = Record()
    found = searched(m, [record, Watch(look)], epochs=2)
    memory = found.state.memory["oles"]
    assert sorted(memory.resting_ops) == list(range(len(memory.ops)))
    # The order of a step says whether the second one still moves them: nasbench201 compares behind its weights' half.
    after = 1 if space_name == "nasbench201" else 0
    resting = set(memory.resting_parameters())
    assert all(
        torch.equal(seen[after][name], seen[-1][name]) == (name in resting) for name in seen[-1]
    )
    assert any("stem" in name for name in seen[-1]) and not any(
        "stem" in name or "classifier" in name for name in resting
    )
    assert not any("skip" in name or "preprocess" in name for name in resting)
    assert all(not torch.equal(alphas[0][name], alphas[-1][name]) for name in alphas[0])
    assert [row["frozen"] for row in record.rows] == [1, 1] and "gradient_match" not in record.rows[
        1
    ]
    assert found.state.epoch == 2


def test_the_search_ends_when_every_op_rests():
    found = searched(oles(threshold=1, interval=2, measure="paper", stop=True))
    assert found.state.epoch == 1 and found.state.stopped == "every op has stopped learning"


def test_without_a_resting_op_it_is_darts_bit_for_bit():
    m, plain = oles(threshold=-1), method("darts", space("nasbench201", **SMALL))
    packed = [content(one, searched(one).state) for one in (m, plain)]
    for one in packed:
        one.pop("memory")
    assert same(*packed)


@pytest.mark.parametrize("place", [("step", 1, 1), ("step", 1, 2)])
@pytest.mark.parametrize("order", ORDERS)
def test_a_search_resumes_within_an_interval(order, place, tmp_path):
    """Looks at steps 2, 4, 6 of two epochs of three steps; some rest by then, the others have half an interval."""
    m = oles(settings={"darts": {"order": order}}, interval=2, threshold=0.1, measure="paper")
    record = Record()
    whole = searched(m, [record], epochs=3)
    again, rows = resumed(m, place, tmp_path / "checkpoint.pt", epochs=3)
    assert rows == record.rows and 0 < rows[0]["frozen"] < rows[-1]["frozen"]
    assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, whole.state))


def test_a_sampled_path_is_compared_where_it_ran():
    m = method("oles+gdas", space("nasbench201", **SMALL), oles={"interval": 2})
    memory = searched(m).state.memory["oles"]
    assert len(set(memory.counts)) > 1 or memory.resting_ops


@pytest.mark.parametrize("threshold", [1, 0.1])
def test_ops_go_on_resting_in_a_stage_that_keeps_the_supernet(threshold, tmp_path):
    """Through the border of a stage that prunes and widens: the ops that are left, by name, and the matches of those not judged yet."""
    options = {
        "oles": {"threshold": threshold, "interval": 4, "measure": "paper"},
        "progressive": {"partial": (4, 2), "keep": (3,), "rest": 0},
    }
    m = method("oles+progressive", space("nasbench201", **{**SMALL, "channels": 4}), **options)
    saves = Saves([("epoch", 2, 0)], tmp_path)
    found = searched(m, [saves])
    state = checkpoint.restore(m, checkpoint.read(saves.files["epoch", 2, 0]))
    memory = state.memory["oles"]
    before, waits = (
        set(memory.resting_parameters()),
        {
            names[0]: (memory.counts[op], memory.op_match_sums[op].item())
            for op, names in enumerate(memory.ops)
        },
    )
    m.begin_epoch(state)
    assert before and 0 < len(memory.ops) < len(waits)
    assert set(memory.resting_parameters()) == before & {
        name for names in memory.ops for name in names
    }
    assert [(count, total.item()) for count, total in zip(memory.counts, memory.op_match_sums)] == [
        waits[names[0]] for names in memory.ops
    ]
    again, _ = gone_on(m, saves.files["epoch", 2, 0])
    assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state))


def test_no_op_rests_in_a_new_supernet(tmp_path):
    """Also where the search was killed just before the stage."""
    m = method(
        "oles+pdarts",
        space("nasbench201", **SMALL),
        oles={"threshold": 1, "interval": 2},
        pdarts={"rest": 0},
    )
    saves = Saves([("epoch", 1, 0)], tmp_path)
    searched(m, [saves], epochs=3)
    state = checkpoint.restore(m, checkpoint.read(saves.files["epoch", 1, 0]))
    memory = state.memory["oles"]
    assert memory.resting_ops
    m.begin_epoch(state)
    assert not memory.resting_ops and not any(memory.counts)


def test_the_users_own_hypergradient_is_refused():
    with pytest.raises(
        ValueError,
        match=r"oles needs its own alpha step, in which it compares gradients: leave out darts.hypergradient",
    ):
        searched(oles(settings={"darts": {"hypergradient": "first_order"}}))
