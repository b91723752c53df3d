"""DARTS-PT: the op whose removal hurts most is kept, whatever the alphas say; what is fixed stays fixed while the supernet learns on."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.passes import Batch
from archgrad.components.gradients import gradients
from archgrad.components.select import strongest_genotype
from archgrad.methods import method
from archgrad.methods.dartspt_projection import without_op
from archgrad.searching import checkpoint
from archgrad.searching.duration import STEP
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.steps import forward
from archgrad.searching.types import Decision
from archgrad.spaces import space
from fakes import Noise
from searching import DATA, EPOCHS, Record, Saves, Stopped, gone_on, run, same

BASE = space("nasbench201", channels=4, cells=1, classes=4)
SMALL = space("darts", channels=4, cells=3, nodes=3, classes=4)
GROUP = BASE.groups["cell"]
OPS = GROUP.edges[0].primitives
dartspt = import_module("archgrad.methods.dartspt")  # the package has the function of this name


def finished(m, seed=1, steps=3):
    """A state after its last epoch, none of which was run."""
    state = m.start(seed=seed, epochs=EPOCHS, steps=steps)
    state.epoch = EPOCHS
    return state


def test_the_projection_selects_a_better_op_than_the_alphas():
    """Labels are what the network says by the 3x3 of edge 0 -> 3 alone; the alphas prefer its skip, and `none` everywhere else."""
    m = method("dartspt", BASE, tune=0, order="index")
    state = finished(m)
    links = [
        Link(e.source, e.target, "nor_conv_3x3" if (e.source, e.target) == (0, 3) else "none")
        for e in GROUP.edges
    ]
    truth = Genotype((CellGenotype("cell", tuple(links), GROUP.concat),)).one_hot(BASE.groups)
    with torch.no_grad():
        state.alphas["cell"].zero_()[:, OPS.index("none")] = 5
        state.alphas["cell"][3] = torch.tensor([0.0, 1, 0, 0, 0])  # edge 0 -> 3

    class Planted(Noise):
        def evaluation(self, split, batch=256, limit=None):
            images = torch.randn(128, 3, 8, 8, generator=torch.Generator().manual_seed(0))
            labels = state.nets["search"](images, truth).logits.argmax(1)
            yield Batch(images, labels, torch.arange(128))

    by_alphas = {
        (link.source, link.target): link.primitive
        for link in strongest_genotype(m.readout(state), BASE.groups).cells[0].links
    }
    decisions = list(m.finalise(state, Planted()))
    found = {
        (link.source, link.target): link.primitive for link in decisions[-1].genotype.cells[0].links
    }
    assert by_alphas[0, 3] == "skip_connect" and found[0, 3] == "nor_conv_3x3"
    assert [d.note["edge"] for d in decisions] == [
        "0 -> 1",
        "0 -> 2",
        "1 -> 2",
        "0 -> 3",
        "1 -> 3",
        "2 -> 3",
    ]
    assert m.genotype(state) == decisions[-1].genotype


def planted(monkeypatch, worth):
    """The accuracy of a mixture is what its weights are worth: ``worth(group, edge, primitive)``."""

    def accuracy(net, mixture, batches, *place, batch_statistics, loss=None, classes=None):
        assert batch_statistics
        rows = {name: mixture.weights[name].tolist() for name in mixture.weights}
        reached = sum(
            rows[name][e][k] * worth(name, e, primitive)
            for name, group in SMALL.groups.items()
            for e, edge in enumerate(group.edges)
            for k, primitive in enumerate(edge.primitives)
        )
        return reached, -reached

    monkeypatch.setattr(dartspt, "accuracy", accuracy)


@pytest.mark.parametrize("criterion", ["accuracy", "loss"])
def test_ops_then_inputs_round_by_round(monkeypatch, criterion):
    best = {"normal": "dil_conv_5x5", "reduce": "max_pool_3x3"}
    planted(
        monkeypatch,
        lambda name, e, primitive: (
            (10 + e % 4) * (primitive == best[name]) + (primitive == "none") * 99
        ),
    )
    m = method("dartspt", SMALL, tune=0, criterion=criterion)
    state = finished(m)
    decisions = list(m.finalise(state, DATA))
    edges, open_nodes = 9, 2  # of 3 nodes the first has two inputs anyway
    assert len(decisions) == 2 * (edges + open_nodes)
    assert [d.note["group"] for d in decisions] == ["normal", "reduce"] * (edges + open_nodes)
    ops, inputs = decisions[: 2 * edges], decisions[2 * edges :]
    assert {d.note["op"] for d in ops} == {"dil_conv_5x5", "max_pool_3x3"} and all(
        "inputs" in d.note for d in inputs
    )
    order = [d.note["edge"] for d in ops if d.note["group"] == "normal"]
    assert len(set(order)) == edges and order != [
        d.note["edge"] for d in ops if d.note["group"] == "reduce"
    ] != sorted(order)
    kept = {
        cell.group: [(link.source, link.target) for link in cell.links]
        for cell in decisions[-1].genotype.cells
    }
    # Worth 10, 11 | 12, 13, 10 | 11, 12, 13, 10.
    assert kept["normal"] == kept["reduce"] == [(0, 2), (1, 2), (0, 3), (1, 3), (1, 4), (2, 4)]
    assert {d.note["node"]: d.note["inputs"] for d in inputs} == {3: "0, 1", 4: "1, 2"}
    decisions[-1].genotype.check(SMALL.groups)


def test_the_order_of_the_choices_is_random_by_seed_or_by_index():
    plans = {
        (order, seed): dartspt.choices(SMALL.groups, order, seed)
        for order in ("random", "index")
        for seed in (0, 1)
    }
    assert (
        plans["random", 0] != plans["random", 1]
        and plans["index", 0] == plans["index", 1] != plans["random", 0]
    )
    assert sorted(plans["random", 0][:18], key=lambda c: c[:3]) != plans["random", 0][:18]
    assert [choice.begins_round for choice in plans["random", 0]] == [True, False] * 11
    assert {choice[:3] for choice in plans["random", 0]} == {
        choice[:3] for choice in plans["index", 0]
    }
    assert all(choice.kind == "op" for choice in dartspt.choices(BASE.groups, "random", 0))


def test_until_the_epochs_are_over_it_is_darts(tmp_path):
    rows, states = [], []
    for name in ("darts", "dartspt"):
        saves = Saves([("epoch", EPOCHS, 0)], tmp_path)
        run(method(name, BASE, alphas={"lr": 3e-4}), [saves])
        rows.append(saves.rows)
        aside = ("method", "identity", "memory")
        states.append(
            {
                key: value
                for key, value in checkpoint.read(tmp_path / f"epoch-{EPOCHS}-0").items()
                if key not in aside
            }
        )
    assert rows[0] == rows[1] and same(*states)


def test_fixed_edges_stay_fixed_in_every_phase():
    m = method("dartspt", SMALL)
    state = finished(m)
    state.memory["projection"].fix("normal", 2, 3)
    state.memory["projection"].fix("normal", 4, -1)
    for phase in ("weight", "alpha", "readout"):
        mixture = m.mixture(state.alphas, m.context(state, phase))
        assert (
            mixture.weights["normal"][2].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
            and not mixture.weights["normal"][4].any()
        )
        assert mixture.active["normal"][2].tolist() == mixture.weights["normal"][2].bool().tolist()
        assert (
            not mixture.active["normal"][4].any()
            and mixture.active["normal"][0].all()
            and mixture.active["reduce"].all()
        )
        assert torch.equal(mixture.weights["reduce"], state.alphas["reduce"].softmax(-1))


def test_the_gradient_of_the_alphas_by_the_formula():
    """p_k (g_k - sum p_j g_j) with g = dL/dp where an edge is open, 0 where it is fixed."""
    m, data = method("dartspt", BASE), Noise(dtype=torch.float64)
    state = finished(m)
    state.nets["search"].double()
    state.alphas = {
        "cell": torch.randn(
            6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        ).requires_grad_()
    }
    state.memory["projection"].fix("cell", 1, OPS.index("nor_conv_3x3"))
    batch = next(data.batches("val", 0))
    passed = forward(m, state, "search", "alpha", batch, state.alphas)
    found = gradients(F.cross_entropy(passed.output.logits, batch.labels), state.alphas)["cell"]
    mixture = m.mixture(state.alphas, m.context(state, "alpha")).detach()
    at = mixture.map(lambda weights: weights.clone().requires_grad_())
    loss = F.cross_entropy(
        forward(m, state, "search", "alpha", batch, state.alphas, mixture=at).output.logits,
        batch.labels,
    )
    g, p = (
        torch.autograd.grad(loss, at.weights["cell"])[0],
        state.alphas["cell"].detach().softmax(-1),
    )
    expected = p * (g - (p * g).sum(-1, keepdim=True))
    expected[1] = 0
    assert torch.allclose(found, expected, rtol=0, atol=1e-10) and found.abs().max() > 1e-4


class Steps:
    """What `Method.step` was called with."""

    def __init__(self, monkeypatch):
        self.rates, self.places, self.fractions, self.open = [], [], [], []
        step = Method.step

        def watched(m, state, train, val):
            context = m.context(state, "alpha")
            self.fractions.append(context.progress.fraction)
            self.places.append(context.progress.step_key)
            values = step(m, state, train, val)
            self.rates.append(state.optimizers["weights"].param_groups[0]["lr"])
            self.open.append(
                sum((row > 0).sum().item() > 1 for row in m.readout(state).weights["cell"])
            )
            return values

        monkeypatch.setattr(Method, "step", watched)


def test_the_weights_are_trained_between_decisions(monkeypatch):
    steps = Steps(monkeypatch)
    found = run(method("dartspt", BASE, tune=1, last=1.0))
    searched, after = EPOCHS * 3, 5 * 3
    assert len(steps.rates) == searched + after
    assert steps.rates[searched:] == pytest.approx([0.0025] * after)
    assert len(set(steps.places)) == searched + after  # no draw is drawn twice
    assert max(steps.fractions) < 1  # and no schedule leaves the search
    assert steps.open[searched:] == [5] * 3 + [4] * 3 + [3] * 3 + [2] * 3 + [1] * 3
    assert (found.state.epoch, found.state.step) == (EPOCHS + 5, 0)
    started = method("darts", BASE).start(seed=1, epochs=EPOCHS, steps=3)
    assert not torch.equal(found.state.alphas["cell"], started.alphas["cell"])


def test_tuning_scales_with_the_search(monkeypatch):
    steps = Steps(monkeypatch)
    found = run(method("dartspt", BASE, tune=0.4, last=1.0), epochs=2)  # of 6 steps
    assert len(steps.rates) == 6 + 5 * 2 and (found.state.epoch, found.state.step) == (2 + 3, 1)


def test_decides_before_the_epochs_of_its_authors(monkeypatch):
    """[author code] Of 25 epochs the script in NAS-Bench-201 decides before 0, 5, 10, 15, 20 and 24."""
    m, steps = method("dartspt", BASE, tune=5), Steps(monkeypatch)
    state, taken = finished(m, steps=1), []
    for decision in m.finalise(state, Noise(per_epoch=1)):
        if "tuned" not in decision.note:
            taken.append(len(steps.rates))
    assert taken == [0, 5, 10, 15, 20, 24] and (state.epoch, state.step) == (EPOCHS + 24, 0)
    equal = method("dartspt", space("darts", channels=4, cells=3, nodes=2), tune=5)
    agenda = dartspt.choices(equal.space.groups, "random", 1)
    assert set(dartspt.pauses(agenda, 15, 1.0).values()) == {15}


@pytest.mark.parametrize(("taken", "epochs"), [(0, 24), (2, 19), (5, 4)])
def test_the_estimate_counts_the_shorter_last_pause(taken, epochs):
    m = method("dartspt", BASE, tune=5)
    state = m.start(seed=1, epochs=EPOCHS, steps=3, images=(24, 24))
    state.decisions = [Decision(m.genotype(state), {"op": "none"})] * taken
    passes = (6 - taken) * len(OPS) * 24
    assert m.patch.ahead["finalisation"](m, state) - passes == epochs * STEP * 24


def test_fixed_alphas_never_move():
    found = run(method("dartspt", BASE, fixed=True, tune=1))
    started = method("darts", BASE).start(seed=1, epochs=EPOCHS, steps=3)
    assert (
        torch.equal(found.state.alphas["cell"], started.alphas["cell"])
        and len(found.state.decisions) == 6
    )


@pytest.mark.parametrize(
    ("base", "places", "count"),
    [
        (BASE, (1, 4, 6), 6),
        (SMALL.resized(nodes=2), (10, 12), 12),
        pytest.param(BASE, range(1, 7), 6, marks=pytest.mark.slow),
        pytest.param(SMALL.resized(nodes=2), range(9, 13), 12, marks=pytest.mark.slow),
    ],
)
def test_a_search_resumes_between_any_two_decisions(base, places, count, tmp_path):
    """The second from its last op to its last inputs."""
    m = method("dartspt", base, tune=0.2)
    saves = Saves([("decision", n, 0) for n in places], tmp_path)
    found = run(m, [saves], epochs=1)
    assert len(found.state.decisions) == count
    for path in saves.files.values():
        again, _ = gone_on(m, path, epochs=1)
        assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state))


def test_a_search_resumes_within_a_long_pause_between_decisions(tmp_path):
    """After each of its epochs but the last: between two choices two decisions that choose nothing."""
    m, data = method("dartspt", BASE, tune=3, last=1.0), Noise(per_epoch=1)
    saves = Saves([("decision", n, 0) for n in (2, 3, 4, 9)], tmp_path)
    found = run(m, [saves], epochs=1, data=data)
    assert [d.note.get("tuned") for d in found.state.decisions] == [
        None,
        *[1, 2, None] * 5,
    ] and found.state.epoch == 1 + 5 * 3
    for path in saves.files.values():
        again, _ = gone_on(m, path, epochs=1, data=data)
        assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state))


def test_after_an_early_stop_the_epochs_do_not_go_on(tmp_path):
    class Stops(Record):
        def on_epoch(self, method, state, data, row):
            return {"stop": "enough"} if row["epoch"] == 0 else None

    m, path = method("dartspt", BASE, tune=1, last=1.0), tmp_path / "checkpoint.pt"
    whole = run(m, [Stops()])
    with pytest.raises(Stopped):
        run(m, [Stops(), Record(("decision", 2, 0), path)])
    again = search(
        m, DATA, EPOCHS, state=checkpoint.restore(m, checkpoint.read(path)), observers=[Stops()]
    )
    assert whole.state.epoch == 1 + 5 and same(
        checkpoint.pack(m, again.state), checkpoint.pack(m, whole.state)
    )


def test_after_an_early_stop_schedules_stay_where_they_were():
    class Stops(Record):
        def on_epoch(self, method, state, data, row):
            return {"stop": "enough"} if row["epoch"] == 1 else None

    options = {
        "stdarts": {"temperature": "exponential", "warmup": 1},
        "dartspt": {"tune": 1},
        "alphas": {"lr": 3e-4, "init": 1e-3},
    }
    m = method("stdarts+dartspt", BASE, **options)
    temperatures = []

    class Sees(Record):
        def on_step(self, m, state, values):
            temperatures.append(m.patch.scalars["temperature"](m.context(state, "alpha")))

        def on_decision(self, m, state, decision):
            temperatures.append(m.patch.scalars["temperature"](m.context(state, "alpha")))

    state = run(m, [Sees(), Stops()], epochs=20).state
    assert (
        state.epoch > state.ended == 2
        and temperatures[0] == 1
        and len(set(temperatures[3:])) == 1
        and temperatures[3] < 1
    )


def test_a_removed_edge_has_no_auxiliary_skip_either():
    """In both orders; and what remains of a supernet without an edge is judged without it."""
    for names in ("dartspt+dartsminus", "dartsminus+dartspt"):
        m = method(names, BASE, dartsminus={"decay": "constant"})
        state = m.start(seed=0, epochs=4, steps=3)
        for edge in range(6):
            state.memory["projection"].fix("cell", edge, -1)
        features = state.nets["search"].eval()(torch.randn(2, 3, 8, 8), m.readout(state)).features
        assert not any(part.any() for part in features[:1])
    mixture = method("dartsminus", BASE).readout(state)
    less = without_op(mixture, BASE.groups, "cell", 2).cell("cell", 0)
    assert not any(less.active[2]) and not less.weights[2, :5].any() and all(less.active[1])
    one = without_op(mixture, BASE.groups, "cell", 2, 3).cell("cell", 0)
    assert (
        one.active[2] == [True, True, True, False, True, *[True] * (len(one.active[2]) - 5)]
        and one.weights[2, 3] == 0
    )


@pytest.mark.parametrize("other", ["stdarts", "cdarts", "gdas"])
def test_the_projection_follows_a_search_by_any_method(other):
    found = run(method(f"{other}+dartspt", BASE))
    fixed = {e: k for e, k in found.state.memory["projection"].fixed["cell"].items()}
    assert [link.primitive for link in found.genotype.cells[0].links] == [
        OPS[fixed[e]] for e in range(6)
    ]


@pytest.mark.parametrize("other", ["random", "rsws"])
def test_the_projection_is_refused_beside_another_finalisation(other):
    with pytest.raises(
        ValueError,
        match=f"dartspt and {other} both set finalise|{other} and dartspt both set finalise",
    ):
        method(f"dartspt+{other}", BASE)
