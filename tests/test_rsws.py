"""Random search with weight sharing: one path a step, and the best of many by the weights they share."""

from __future__ import annotations

import math
from importlib import import_module
from io import StringIO

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from archgrad.components.gradients import gradients
from archgrad.components.select import uniform_genotype
from archgrad.diagnostics.ranking import accuracies
from archgrad.methods import method
from archgrad.methods.pcdarts import edge_softmax
from archgrad.searching import checkpoint
from archgrad.searching.progress import Bar
from archgrad.searching.steps import weight_loss
from archgrad.spaces import space
from fakes import Noise
from searching import EPOCHS, Record, Saves, Watch, gone_on, run, same, values_of

BASE = space("nasbench201", channels=4, cells=1, classes=4)


def drawn(state, name: str, *place: object):
    return uniform_genotype(state.space.groups, state.seed, name, *place)


class Look(Watch):
    def on_decision(self, method, state, decision): ...


def test_a_step_trains_one_uniform_path_and_no_alpha():
    m, paths = method("rsws", BASE), []
    before = values_of(m.start(seed=1, epochs=EPOCHS, steps=3))

    def look(m, state, done):
        nonlocal before
        path, now = drawn(state, "rsws/step", *divmod(done - 1, 3)), values_of(state)
        moved = {name for name in now if not torch.equal(before[name], now[name])}
        on_path = [f"{link.source}_{link.target}.{link.primitive}." for link in path.cells[0].links]
        # Not all: behind a path that ends in `none` there is nothing to learn.
        assert all(any(part in name for part in on_path) for name in moved if ".edges." in name)
        paths.append((path, any(".edges." in name for name in moved)))
        before = now

    record = Record()
    found = run(m, [Look(look), record])
    assert len(dict(paths)) > 9 and sum(learns for _, learns in paths) > 5  # of 12
    assert torch.equal(
        found.state.alphas["cell"], m.start(seed=1, epochs=EPOCHS, steps=3).alphas["cell"]
    )
    assert all(
        row["phase"] == "weights only" and row["entropy"] == pytest.approx(math.log(5), abs=1e-4)
        for row in record.rows
    )
    assert len({row["genotype"] for row in record.rows}) == 1


def test_paths_are_uniform():
    m = method("rsws", BASE)
    state = m.start(seed=0, epochs=EPOCHS, steps=3)
    counts = torch.zeros(6, 5)
    for state.step in range(1000):
        counts += m.mixture(state.alphas, m.context(state, "weight")).weights["cell"]
    assert ((counts / 1000 - 0.2).abs() < 0.06).all()  # 4.7 standard deviations


def test_the_gradient_is_that_of_the_path_alone():
    data = Noise(dtype=torch.float64)
    m = method("rsws", BASE)
    state = m.start(seed=3, epochs=EPOCHS, steps=3)
    net = state.nets["search"].double()
    batch = next(data.batches("train", 0))
    loss, _ = weight_loss(m, state, batch, state.alphas, None)
    named = dict(net.named_parameters())
    found = gradients(loss, {**named, **state.alphas})
    path = drawn(state, "rsws/step", 0, 0)
    alone = BASE.resized(primitives=path.primitives(BASE.groups)).supernet().double()
    alone.load_state_dict(
        {name: value for name, value in net.state_dict().items() if name in alone.state_dict()}
    )
    alone_named = dict(alone.named_parameters())
    # Weight 1 on every op of a space that has this path alone: the network of the genotype.
    expected = gradients(F.cross_entropy(alone(batch.images).logits, batch.labels), alone_named)
    assert all(
        (found[name] is None) == (name not in expected or expected[name] is None) for name in found
    )
    assert all(
        torch.allclose(found[name], g, rtol=0, atol=1e-10)
        for name, g in expected.items()
        if g is not None
    )


class Many(Noise):
    """Enough validation images to distinguish architectures; a limit takes the first of them."""

    def evaluation(self, split, batch=256, limit=None):
        batches = [self._at(split, "evaluation", k) for k in range(6)]
        yield from batches[: limit and limit // self.batch]


def test_the_best_of_the_samples_then_of_the_finalists():
    m, data = method("rsws", BASE, samples=23, images=16, finalists=4), Many()
    found = run(m, data=data)
    state, notes = found.state, [decision.note for decision in found.state.decisions]
    pool = [drawn(state, "rsws/sample", k) for k in range(23)]

    def judged(chosen, limit=None):
        return accuracies(
            state.nets["search"],
            chosen,
            BASE.groups,
            tuple(data.evaluation("val", limit=limit)),
            state.seed,
            "rsws",
        )

    few = judged(pool, 16)
    order = sorted(range(23), key=lambda k: -few[k])[:4]
    assert len(notes) == 14 and notes[9]["samples"] == 23
    assert notes[9]["best"] == [[k, few[k]] for k in order]
    assert notes[4] == {"samples": 11, "accuracy": max(few[:11]), "best": notes[4]["best"]}
    whole = judged([pool[k] for k in order])
    assert [note["accuracy"] for note in notes[10:]] == whole and [
        note["finalist"] for note in notes[10:]
    ] == order
    assert found.genotype == pool[order[whole.index(max(whole))]]
    assert len(set(whole)) > 1


def test_a_sample_is_judged_as_it_was_trained(monkeypatch):
    """The mixture of a sample has the changes of other patches, such as the edge weights of PC-DARTS."""
    m, seen = method("rsws+pcdarts", BASE, rsws={"samples": 2, "finalists": 1}), []
    monkeypatch.setattr(
        import_module("archgrad.methods.rsws"),
        "accuracy",
        lambda net, mixture, *rest, **more: (seen.append(mixture), (0.5, 0))[1],
    )
    state = run(m).state
    shares = edge_softmax(state.alphas["cell/edge"].detach(), BASE.groups["cell"])
    assert len(seen) == 2 and shares.min() < 0.4
    for k, mixture in enumerate(seen):
        one = drawn(state, "rsws/sample", k).one_hot(BASE.groups)
        assert torch.equal(mixture.weights["cell"], one.weights["cell"] * shares[:, None])
        assert mixture.active is one.active is None or torch.equal(
            mixture.active["cell"], one.active["cell"]
        )


def test_one_finalist_is_chosen_at_once_and_few_samples_are_few_decisions():
    found = run(method("rsws", BASE, samples=3, finalists=1))
    assert len(found.state.decisions) == 3 and all(
        len(d.note["best"]) == 1 for d in found.state.decisions
    )


def test_a_search_resumes_between_any_two_decisions(tmp_path):
    m, data = method("rsws", BASE, samples=4, images=16, finalists=2), Many()
    saves = Saves([("decision", n, 0) for n in range(1, 7)], tmp_path)
    found = run(m, [saves], data=data)
    for path in saves.files.values():
        again, _ = gone_on(m, path, data=data)
        assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state))
        assert again.genotype == found.genotype


def test_the_terminal_prints_a_decision_as_numbers():
    console = Console(file=StringIO(), width=200)
    found = run(method("rsws", BASE, samples=3, finalists=2), [bar := Bar(console)])
    bar.close()
    said = [line for line in console.file.getvalue().splitlines() if line.startswith("decided")]
    assert said[0].startswith("decided 1: samples 1, accuracy ") and said[3].startswith(
        "decided 4: finalist "
    )
    assert len(said) == len(found.state.decisions) == 5 and not any("[" in line for line in said)
