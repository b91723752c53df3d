"""sTDARTS: its temperatures against the authors' lists and a sequence worked by hand, and each of its parts off."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch

from archgrad import run
from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.components.context import Context, Progress
from archgrad.components.schedules import epoch_at_share
from archgrad.methods import method
from archgrad.methods.stdarts import EntropyAdaptive
from archgrad.run.config import SearchConfig
from archgrad.searching import checkpoint
from archgrad.searching.method import Method
from archgrad.spaces import space
from searching import Record, resumed, same
from searching import run as searched

C = 1e-3 / math.sqrt(2 * math.pi)  # E[max(0, a)] of a = 1e-3 * N(0, 1)
SMALL = {"channels": 2, "cells": 1, "classes": 4}


def at(
    epoch: int,
    epochs: int = 50,
    *,
    init: float = 1e-3,
    memory=None,
    groups=None,
    phase: str = "readout",
) -> Context:
    return Context(
        groups or {}, Progress(epoch, 0, epochs, 3, 0, epochs), phase, memory or {}, 0, init
    )


def stdarts(name: str = "darts", settings: dict | None = None, **options) -> Method:
    return method("stdarts", space(name), **(settings or {}), stdarts=options)


def temperatures(epochs: int = 50, init: float = 1e-3, **options) -> list[float]:
    """Return the temperatures of all epochs by a rule that depends on time alone."""
    rule = stdarts(**options).patch.scalars["temperature"]
    return [rule(at(epoch, epochs, init=init)) for epoch in range(epochs)]


def adapted(
    monkeypatch,
    epochs: int = 50,
    *,
    name: str = "darts",
    entropy: float = math.log(7),
    init: float = 1e-3,
    **options,
):
    """Temperatures of every epoch by the adaptive rule where the entropy never moves, and the epochs at which it updated."""
    patch = stdarts(name, **options).patch
    memory = {"temperature": patch.memory["temperature"]()}
    monkeypatch.setattr(memory["temperature"], "entropy", lambda state, context: entropy)
    found = []
    for epoch in range(epochs):
        found.append(patch.scalars["temperature"](at(epoch, epochs, init=init, memory=memory)))
        memory["temperature"].after_epoch(
            None, None, None, at(epoch, epochs, init=init, memory=memory)
        )
    assert found == [
        patch.scalars["temperature"](at(epoch, epochs, init=init, memory=memory))
        for epoch in range(epochs)
    ]  # of the past too
    return found, [epoch for epoch, _ in memory["temperature"].growths]


def test_the_authors_temperatures(monkeypatch):
    """Check row: DARTS space, H = ln 7."""
    found, updates = adapted(monkeypatch)
    assert found[:5] == [1.0] * 5
    expected = {5: 7.03e-3, 10: 2.47e-3, 20: 1.10e-3, 35: 6.72e-4, 40: 4.56e-4, 49: 2.49e-4}
    assert {epoch: float(f"{found[epoch]:.2e}") for epoch in expected} == expected
    assert updates == [*range(5, 41, 5), *range(41, 50)]
    assert found[6] == found[5] == found[9] > found[10] and found[41] < found[40]


def entropy_of(rows: list[list[float]], t: float) -> list[float]:
    """-sum p ln p of softmax(a / t), edge by edge, as on paper."""
    found = []
    for row in rows:
        e = [math.exp((a - max(row)) / t) for a in row]
        found.append(-sum(x / sum(e) * math.log(x / sum(e)) for x in e if x))
    return found


@pytest.mark.parametrize("over", ["mean", "sum"])
def test_five_updates_worked_by_hand(over):
    """A search of six epochs: an update before each of the epochs 1 to 5, the last of them in the last fifth, at twice the strength."""
    groups = {
        "one": EdgeGroup("one", (Edge(0, 1, ("a", "b", "c")), Edge(0, 2, ("a", "b")))),
        "two": EdgeGroup(
            "two", (Edge(0, 1, ("a", "b", "c")), Edge(0, 2, ()))
        ),  # an edge that is no more counts nowhere
    }
    base = [[1e-3, -2e-3, 0.5e-3], [0.3e-3, -0.1e-3], [2e-3, 1e-3, 1.5e-3]]
    memory = {
        "temperature": EntropyAdaptive(
            0.06, over, epoch_at_share(0.1, of=1), epoch_at_share(0.1, of=1), 1.0
        )
    }
    t, delta = 1.0, 0.0
    for k in range(1, 6):
        rows = [[a * k for a in row] for row in base]  # the alphas grow
        h = sum(entropy_of(rows, t)) / (3 if over == "mean" else 1)
        delta = 0.5 * (0.12 if k == 5 else 0.06) * h + 0.5 * delta
        t = C / math.log(1 + delta * k)
        alphas = {
            "one": torch.tensor([rows[0], [*rows[1], 0.0]]),
            "two": torch.tensor([rows[2], [0.0] * 3]),
        }
        memory["temperature"].after_epoch(
            None, SimpleNamespace(alphas=alphas), None, at(k - 1, 6, memory=memory, groups=groups)
        )
        assert memory["temperature"](at(k, 6, memory=memory, groups=groups)) == pytest.approx(
            t, rel=1e-4
        ), k
    assert 1e-4 < t < 1e-2 and h < 0.95 * (2 * math.log(3) + math.log(2)) / (
        3 if over == "mean" else 1
    )  # the entropy had a say


def test_the_first_temperatures_by_numbers():
    """One edge of two undecided ops: H = ln 2, delta = 0.03 ln 2 = 0.020794, T = 3.9894e-4 / ln(1.020794) = 0.019384."""
    groups = {"one": EdgeGroup("one", (Edge(0, 1, ("a", "b")),))}
    memory = {
        "temperature": EntropyAdaptive(
            0.06, "mean", epoch_at_share(1, of=10), epoch_at_share(1, of=10), 1.0
        )
    }
    state = SimpleNamespace(alphas={"one": torch.zeros(1, 2)})
    for epoch in range(2):
        memory["temperature"].after_epoch(
            None, state, None, at(epoch, 10, memory=memory, groups=groups)
        )
    assert memory["temperature"](at(1, 10, memory=memory)) == pytest.approx(0.019384, rel=1e-4)
    assert memory["temperature"](at(2, 10, memory=memory)) == pytest.approx(
        3.98942e-4 / math.log(1 + 2 * 0.0311916), rel=1e-4
    )


def test_alphas_of_entropy_0_keep_the_temperature():
    groups = {"one": EdgeGroup("one", (Edge(0, 1, ("a",)),))}
    memory = {
        "temperature": EntropyAdaptive(
            0.06, "mean", epoch_at_share(1, of=10), epoch_at_share(1, of=10), 1.0
        )
    }
    memory["temperature"].after_epoch(
        None,
        SimpleNamespace(alphas={"one": torch.zeros(1, 1)}),
        None,
        at(0, 10, memory=memory, groups=groups),
    )
    assert memory["temperature"](at(1, 10, memory=memory)) == 1.0


def test_exponential():
    found = temperatures(temperature="exponential")
    assert found == pytest.approx(
        [1.0] * 5 + [0.00039894 / math.log(1 + 0.09 * k) for k in range(1, 46)], rel=1e-4
    )
    assert found[49] == pytest.approx(2.5e-4, rel=0.02)
    assert temperatures(temperature="exponential", delta=0.5)[5] == pytest.approx(
        0.00039894 / math.log(1.5), rel=1e-4
    )
    assert temperatures(temperature="exponential", warmup=0)[0] == found[5]
    assert temperatures(10, temperature="exponential")[9] == pytest.approx(
        found[49]
    )  # another length ends as cold


def test_cyclic():
    """The authors' list: up and down every ten epochs, in the last ten only down."""
    t = [1.0] + [0.00039894 / math.log(1 + 0.11 * k) for k in range(1, 11)]
    up_and_down = [t[k] for k in (0, 1, 2, 3, 4, 5, 4, 3, 2, 1)]
    assert temperatures(temperature="cyclic") == pytest.approx(up_and_down * 4 + t[1:], rel=1e-4)


def test_geometric_and_constant():
    assert temperatures(temperature="geometric") == pytest.approx(
        [2.5e-4 ** (e / 50) for e in range(50)]
    )
    assert temperatures(temperature="geometric", hot=0.5, cold=0.1)[25] == pytest.approx(
        math.sqrt(0.05)
    )
    assert set(temperatures(temperature="constant")) == {1.0} and set(
        temperatures(temperature="constant", hot=0.2)
    ) == {0.2}


def test_temperature_follows_the_scale_of_the_alphas(monkeypatch):
    for rule in ("exponential", "cyclic"):
        small, large = (temperatures(init=init, temperature=rule)[-1] for init in (1e-3, 1e-2))
        assert large == pytest.approx(10 * small)
    assert adapted(monkeypatch, init=1e-2)[0][-1] == pytest.approx(10 * adapted(monkeypatch)[0][-1])
    m = method("stdarts", space("nasbench201", **SMALL), alphas={"init": 1e-2})
    assert m.context(m.start(seed=0, epochs=2, steps=1), "alpha").init == 1e-2


@pytest.mark.parametrize("rule", ["adaptive", "exponential", "cyclic"])
def test_alphas_that_start_at_zero_are_refused_beforehand(rule):
    m = stdarts("nasbench201", {"alphas": {"init": 0}}, temperature=rule)
    with pytest.raises(ValueError, match=r"set alphas.init above 0$") as caught:
        m.start(seed=0, epochs=50, steps=1)
    assert "\n" not in str(caught.value)
    stdarts("nasbench201", {"alphas": {"init": 0}}, temperature="constant").start(
        seed=0, epochs=50, steps=1
    )


@pytest.mark.parametrize(
    ("epochs", "options", "updates"),
    [
        (100, {}, [*range(10, 81, 10), *range(81, 100)]),
        (20, {}, [2, 4, 6, 8, 10, 12, 14, 16, 17, 18, 19]),
        (5, {}, [1, 2, 3, 4]),
        (2, {}, [1]),
        (1, {}, []),
        (10, {"warmup": 3, "interval": 2}, [3, 5, 7, 8, 9]),
        (10, {"warmup": 0, "interval": 4}, [1, 5, 8, 9]),
        (20, {"name": "nasbench201"}, [4, 6, 8, 10, 12, 14, 16, 17, 18, 19]),
    ],
)
def test_warmup_and_interval_keep_their_share(monkeypatch, epochs, options, updates):
    found, seen = adapted(monkeypatch, epochs, **options)
    assert seen == updates
    assert [e for e in range(1, epochs) if found[e] != found[e - 1]] == updates


@pytest.mark.parametrize(
    ("name", "kappa", "over", "begins"),
    [
        ("darts", 0.06, "mean", 5), ("s1", 0.12, "mean", 5), ("s2", 0.24, "mean", 5), ("s3", 0.48, "mean", 5), ("s4", 0.96, "mean", 5),
        ("nasbench201", 0.04, "sum", 10),
    ],
)  # fmt: skip
def test_presets_of_the_spaces(monkeypatch, name, kappa, over, begins):
    def made(**options):
        m = method("stdarts", space(name), **options)
        return m.patch.memory["temperature"](), m

    rule, m = made()
    assert (rule.kappa, rule.reduction, rule.begin(50), m.alpha_from(50), m.alphas.decay) == (
        kappa,
        over,
        begins,
        begins,
        0,
    )
    rule, m = made(kappa=0.5, warmup=7)
    assert (rule.kappa, rule.reduction, rule.begin(50), m.alpha_from(50)) == (0.5, over, 7, 7)
    settings = SearchConfig(
        method="stdarts", space={"name": name}, methods={"stdarts": {"interval": 3}}
    )
    resolved = run.resolve(settings, run.build(settings)).methods["stdarts"]
    assert (resolved["kappa"], resolved["entropy"], resolved["interval"]) == (
        kappa,
        over,
        3,
    )  # what stands in the run's settings
    # The strength is that of the rule: its first update is c / ln(1 + kappa H / 2).
    assert adapted(monkeypatch, name=name)[0][begins] == pytest.approx(
        C / math.log1p(0.5 * kappa * math.log(7))
    )


class Alphas:
    """The alphas after every epoch."""

    def __init__(self):
        self.seen, self.phases, self.temperatures = [], [], []

    def on_step(self, method, state, values): ...

    def on_epoch(self, method, state, data, row):
        self.seen.append({name: a.detach().clone() for name, a in state.alphas.items()})
        self.phases.append(row["phase"])
        self.temperatures.append(row["temperature"])

    def on_decision(self, method, state, decision): ...


@pytest.mark.parametrize("freeze", [True, False])
def test_alphas_are_frozen_in_the_warmup(freeze):
    m, watch = (
        method(
            "stdarts", space("nasbench201", **SMALL), warmup=2, freeze=freeze, alphas={"lr": 3e-4}
        ),
        Alphas(),
    )
    start = m.start(seed=1, epochs=4, steps=3).alphas
    searched(m, [watch])
    assert watch.phases == (["weights only"] * 2 if freeze else ["search"] * 2) + ["search"] * 2
    assert [same(dict(start), seen) for seen in watch.seen] == [freeze, freeze, False, False]
    assert (
        watch.temperatures[:2] == [1.0, 1.0] and watch.temperatures[2] < 0.1
    )  # what the metrics say


@pytest.mark.parametrize("place", [("step", 1, 2), ("epoch", 2, 0), ("step", 3, 1)])
def test_resumed_searches_cool_alike(place, tmp_path):
    m, whole = method("stdarts", space("nasbench201", **SMALL)), Record()
    found = searched(m, [whole])
    again, rows = resumed(m, place, tmp_path / "checkpoint.pt")
    cooling = [row["temperature"] for row in whole.rows]
    assert [row["temperature"] for row in rows] == cooling and len(set(cooling)) == 4
    assert (
        again.state.memory["temperature"].state_dict()
        == found.state.memory["temperature"].state_dict()
        != {"delta": 0.0, "growths": []}
    )


def test_the_step_runs_at_the_temperature_of_its_epoch():
    """The mixture of every step is as cold as its epoch's row says."""

    mixtures = []

    class Watch(Alphas):
        def on_step(self, method, state, values):
            if state.step == 3:  # the epoch's last: its alphas are those of `seen`
                mixtures.append(
                    method.mixture(state.alphas, method.context(state, "weight"))
                    .weights["cell"]
                    .detach()
                )

    m, watch = method("stdarts", space("nasbench201", **SMALL), alphas={"lr": 3e-4}), Watch()
    searched(m, [watch])
    assert watch.temperatures == sorted(watch.temperatures, reverse=True)
    for mixture, alphas, t in zip(mixtures, watch.seen, watch.temperatures, strict=True):
        torch.testing.assert_close(mixture, (alphas["cell"] / t).softmax(-1), rtol=1e-4, atol=1e-6)


@cache
def packed(name: str = "stdarts", **options) -> dict:
    """Return the content of a checkpoint without the memories."""
    m = method(name, space("nasbench201", **SMALL), alphas={"lr": 3e-4, "decay": 0}, **options)
    return {
        key: value
        for key, value in checkpoint.pack(m, searched(m).state).items()
        if key not in ("method", "identity", "memory")
    }


OFF = {"noise": "none", "temperature": "constant", "freeze": False, "warmup": 0}


def test_with_every_part_off_it_is_darts():
    assert same(packed("darts"), packed(**OFF))
    assert same(
        packed("darts"), packed(**OFF | {"noise": "gradient"})
    )  # at T = 1 there is no second term
    assert not same(
        packed("darts")["alphas"], packed(**OFF | {"noise": "gaussian", "sigma": 0.1})["alphas"]
    )


def test_each_part_is_switched_off_alone():
    options = (
        {},
        {"noise": "none"},
        {"temperature": "exponential"},
        {"temperature": "constant"},
        {"noise": "gumbel"},
    )
    kept = [set(method("stdarts", space("nasbench201"), **one).patch.memory) for one in options]
    assert kept == [{"temperature"}, {"temperature"}, set(), set(), {"temperature"}]
    for one, other in combinations(options, 2):
        assert not same(packed(**one)["alphas"], packed(**other)["alphas"]), (one, other)
    assert all(torch.isfinite(packed(**one)["alphas"]["cell"]).all() for one in options)
