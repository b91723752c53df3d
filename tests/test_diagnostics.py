"""What is measured is exact where it can be known, and measuring it leaves no trace."""

from __future__ import annotations

import math
import re
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import archgrad
from archgrad import run
from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Output
from archgrad.components.schedules import geometric
from archgrad.diagnostics import entropy
from archgrad.diagnostics.gap import gap
from archgrad.diagnostics.sharpness import mean_interval, sharpness, supernet_sharpness
from archgrad.methods import method as build
from archgrad.observers import probes
from archgrad.observers.recording import Checkpoints, Interrupted
from archgrad.run import config
from archgrad.searching import checkpoint
from archgrad.searching.compose import compose
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.storage.records import read_measured
from fakes import Noise
from watching import Rows, Several, assert_equal, trace

GROUP = EdgeGroup(
    "g",
    (Edge(0, 1, ("a", "b", "c")), Edge(0, 2, ("a",)), Edge(1, 2, ())),
    concat=(2,),
    keep=1,
    least=1,
)


# Entropies and margins.
def test_entropies_and_margins_by_hand():
    mixture = Mixture(
        {"g": torch.tensor([[1.0, 1.0, 2.0], [3.0, 0, 0], [0, 0, 0]])}
    )  # need not sum to 1
    found = entropy.edge_entropies(mixture, {"g": GROUP})
    assert found == {"g": [pytest.approx(1.5 * math.log(2)), 0.0]}
    assert entropy.margins(mixture, {"g": GROUP}) == {"g": [pytest.approx(0.25)]}
    assert (
        entropy.mean_entropy(mixture, {"g": GROUP})
        == entropy.mean_over_edges(found)
        == pytest.approx(0.75 * math.log(2))
    )
    assert entropy.mean_over_edges({"g": []}) == 0


def test_a_second_op_of_weight_zero_is_not_padding():
    mixture = Mixture(
        {"g": torch.tensor([[[1.0, 0, 0]] * 3, [[0.0, 0, 1]] * 3])}
    )  # cells differ: their mean counts
    assert entropy.margins(mixture, {"g": GROUP}) == {"g": [0.0]}


# The gap.
class Hand(nn.Module):
    """One edge of two ops: ``a`` is the right answer times ln 3, ``b`` the wrong one. images (B, 1, 1, 2) one-hot by label."""

    def forward(self, images: Tensor, mixture: Mixture) -> Output:
        a, b = mixture.weights["g"][0].to(images.dtype)
        x = images.flatten(1)
        return Output(math.log(3) * (a * x + b * x.flip(1)))


EDGE = {"g": EdgeGroup("g", (Edge(0, 1, ("a", "b")),), concat=(1,))}


def only(name: str) -> Mixture:
    return Genotype((CellGenotype("g", (Link(0, 1, name),), (1,)),)).one_hot(EDGE)


@pytest.mark.parametrize(
    ("chosen", "right", "loss"), [("a", 1.0, math.log(4 / 3)), ("b", 0.0, math.log(4))]
)
def test_gap_of_a_supernet_built_by_hand(chosen, right, loss):
    images = torch.eye(2, dtype=torch.float64).view(2, 1, 1, 2)
    batches = [
        Batch(images, torch.tensor([0, 1]), torch.arange(2)),
        Batch(images[:1], torch.tensor([0]), torch.arange(1)),
    ]
    mixture = Mixture({"g": torch.tensor([[0.75, 0.25]], dtype=torch.float64)}, dropout={"a": 0.9})
    mixed = math.log(1 + 3**-0.5)  # logits 3/4 ln 3 and 1/4 ln 3
    expected = {
        "mixture_accuracy": 1.0,
        "mixture_loss": mixed,
        "discrete_accuracy": right,
        "discrete_loss": loss,
    }
    expected |= {"gap_accuracy": 1 - right, "gap_loss": loss - mixed}
    assert gap(Hand(), mixture, only(chosen), lambda: batches, 0) == pytest.approx(
        expected, rel=0, abs=1e-15
    )


class Normalised(nn.Module):
    """logits (x, -x), x the normalised brightness, whatever the mixture."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(1, eps=1e-30, affine=False).double()
        self.bn.running_mean.fill_(100)

    def forward(self, images: Tensor, mixture: Mixture) -> Output:
        x = self.bn(images.flatten(1))
        return Output(torch.cat([x, -x], 1))


def test_gap_reads_the_statistics_of_each_batch_and_keeps_the_running_ones():
    pairs = [torch.tensor([1.0, 3.0]), torch.tensor([10.0, 14.0])]  # normalised, both are (-1, 1)
    batches = [
        Batch(pair.double().view(2, 1, 1, 1), torch.tensor([1, 1]), torch.arange(2))
        for pair in pairs
    ]
    net = Normalised().eval()
    found = gap(net, only("a"), only("b"), lambda: batches, 0)
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert found["mixture_accuracy"] == 0.5 and found["mixture_loss"] == pytest.approx(
        (right + wrong) / 2, rel=0, abs=1e-15
    )
    assert found["gap_accuracy"] == found["gap_loss"] == 0
    assert (
        net.bn.running_mean.item() == 100
        and net.bn.num_batches_tracked.item() == 0
        and not net.bn.training
    )


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        gap(Hand(), only("a"), only("a"), lambda: [], 0)


# Sharpness.
A = torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.0, 0.0], [0.5, 0.0, 0.25]], dtype=torch.float64)
X = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def quadratic(named):
    x = torch.cat([named["left"], named["right"]])
    return 0.5 * x @ A @ x


POINT = {"left": X[:1], "right": X[1:], "idle": torch.ones(2, dtype=torch.float64)}


def test_one_step_on_a_quadratic():
    """Over one tensor and over all: ``rho |g| + rho^2 g'Ag / (2 |g|^2)``."""
    g, rho = A @ X, 0.3
    joint = rho * g.norm() + rho**2 * (g @ A @ g) / (2 * g @ g)
    assert sharpness(quadratic, POINT, rho) == pytest.approx(joint.item(), rel=1e-13)
    left = rho * g[0].abs() + rho**2 * A[0, 0] / 2
    assert sharpness(
        lambda moved: quadratic({**POINT, **moved}), {"left": POINT["left"]}, rho
    ) == pytest.approx(left.item(), rel=1e-13)


def test_several_steps_reach_the_maximum_over_the_ball():
    """At a maximum on the sphere ``(lambda - A) e = Ax``, with lambda above every eigenvalue and ``|e| = rho``."""
    rho, values, vectors = 0.7, *torch.linalg.eigh(A)
    along = vectors.T @ (A @ X)
    low, high = values.max().item(), 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (along / (middle - values)).norm() > rho else (low, middle)
    e = vectors @ (along / (high - values))
    best = (0.5 * (X + e) @ A @ (X + e) - 0.5 * X @ A @ X).item()
    assert sharpness(quadratic, POINT, rho, steps=300) == pytest.approx(best, rel=1e-12)
    rises = [sharpness(quadratic, POINT, rho, steps) for steps in (1, 2, 5, 300)]
    assert rises == sorted(rises) and rises[0] < 0.999 * rises[-1]


def test_sharpness_is_never_below_zero_and_says_when_it_overflows():
    at = {"x": torch.zeros(1, dtype=torch.float64)}
    assert (
        sharpness(lambda moved: -((moved["x"] - 0.01) ** 2).sum(), at, rho=1.0) == 0
    )  # the step jumps over the top
    assert (
        sharpness(lambda moved: (moved["x"] ** 2).sum(), at, rho=1.0, steps=3) == 0
    )  # the gradient vanishes
    assert sharpness(lambda moved: torch.tensor(3.0), at, rho=1.0) == 0  # nothing is reached
    assert math.isnan(
        sharpness(
            lambda moved: (moved["x"] + (moved["x"] - 0.5).clamp_min(0) * math.nan).sum(),
            at,
            rho=1.0,
        )
    )


@pytest.mark.parametrize(
    "wrong", [{"rho": 0.0}, {"rho": -1.0}, {"rho": math.nan}, {"rho": 1.0, "steps": 0}]
)
def test_sharpness_refuses(wrong):
    with pytest.raises(ValueError, match="radius above 0 and at least 1 step"):
        sharpness(quadratic, POINT, **wrong)


def test_the_interval_is_students():
    assert mean_interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.302652729911275 / math.sqrt(3)))
    assert mean_interval([4.0]) == (4.0, None)
    with pytest.raises(ValueError, match="no batches"):
        mean_interval([])


@pytest.mark.parametrize("over", ["weights", "alphas", "both"])
def test_sharpness_of_a_supernet_against_moving_it_for_real(over):
    space = archgrad.space("nasbench201", channels=2, cells=1, classes=4)
    m = build("darts", space)
    state = m.start(seed=0, epochs=1, steps=1)
    net = state.nets["search"].double()
    alphas = {name: a.detach().double().requires_grad_() for name, a in state.alphas.items()}
    batches = list(Several(dtype=torch.float64).evaluation("train"))
    context = m.context(state, "readout")
    found = supernet_sharpness(
        net, alphas, lambda a: m.mixture(a, context), batches, 0, over=(over,), rho=0.1
    )[over]

    def rise(batch: Batch) -> float:
        moved = deepcopy(net)
        a = {name: value.detach().clone().requires_grad_() for name, value in alphas.items()}

        def loss() -> Tensor:
            return F.cross_entropy(moved(batch.images, m.mixture(a, context)).logits, batch.labels)

        before = loss()
        before.backward()
        tensors = [
            *(moved.parameters() if over != "alphas" else ()),
            *(a.values() if over != "weights" else ()),
        ]
        reached = [t for t in tensors if t.grad is not None]
        norm = torch.stack([t.grad.square().sum() for t in reached]).sum().sqrt()
        with torch.no_grad():
            for t in reached:
                t += 0.1 * t.grad / norm
            return (loss() - before).item()

    rises = torch.tensor([rise(batch) for batch in batches], dtype=torch.float64)
    assert (rises > 0).all()
    assert found.mean == pytest.approx(rises.mean().item(), rel=1e-10)
    assert found.interval == pytest.approx(
        4.302652729911275 * rises.std().item() / math.sqrt(3), rel=1e-8
    )


# The observers.
ALL = (probes.Gap(every=1), probes.Sharpness(every=1, rho=0.1, batch=8), probes.Entropies())
COLUMNS = {
    "mixture_accuracy",
    "mixture_loss",
    "discrete_accuracy",
    "discrete_loss",
    "gap_accuracy",
    "gap_loss",
}
COLUMNS |= {
    f"sharpness_{name}{end}" for name in ("weights", "alphas", "both") for end in ("", "_interval")
}
COLUMNS |= {"entropy_edges", "margin", "margin_edges"}


def searcher(space: str, name: str = "darts") -> Method:
    own = {"nasbench201": {"cells": 1}, "darts": {"cells": 3, "nodes": 2}}.get(space, {"cells": 3})
    return build(
        name,
        archgrad.space(space, channels=2, classes=4, **own),
        alphas={"lr": 0.1},
    )


@pytest.mark.parametrize("space", ["nasbench201", "s4", "darts"])
def test_a_watched_search_is_the_same_search(space):
    m, kept = searcher(space), Rows()
    bare = search(m, Several(), 2)
    watched = search(m, Several(), 2, observers=[*ALL, kept])
    net = "search"
    assert_equal(
        trace(watched.state, watched.state.nets[net]), trace(bare.state, bare.state.nets[net])
    )
    assert_equal(
        watched.state.optimizers["weights"].state_dict()["state"],
        bare.state.optimizers["weights"].state_dict()["state"],
    )
    assert all(row.keys() >= COLUMNS for row in kept.kept)
    assert all(
        math.isfinite(row[name])
        for row in kept.kept
        for name in COLUMNS
        if not name.endswith("_edges")
    )
    assert all(
        row["sharpness_both"] > 0 and row["sharpness_weights"] > 0 and row["sharpness_alphas"] > 0
        for row in kept.kept
    )


@pytest.mark.parametrize("observer", ALL[:2], ids=["gap", "sharpness"])
@pytest.mark.parametrize("breaks", [1, 9])
def test_no_trace_is_left_even_when_it_raises(observer, breaks):
    m = searcher("s4")
    state = search(m, Noise(), 1).state
    net = state.nets["search"]
    next(net.children()).eval()  # a mode of its own
    before = trace(state, net)
    if breaks < 3:
        with pytest.raises(OSError, match="disk"):
            observer.on_epoch(m, state, Several(breaks=breaks), {"epoch": 0})
    else:
        first, second = (observer.on_epoch(m, state, Several(), {"epoch": 0}) for _ in range(2))
        assert first == second  # its draws belong to its place
    assert_equal(trace(state, net), before)


def test_a_resumed_search_measures_the_same(tmp_path):
    m, whole, after = searcher("s4"), Rows(), Rows()
    search(m, Several(), 2, observers=[*ALL, whole])
    path, steps = tmp_path / "checkpoint.pt", iter(range(100))
    stopping = lambda: next(steps) >= 5  # noqa: E731 (it is asked four times an epoch)
    watchers = [*ALL, Checkpoints(path, seconds=math.inf, stopping=stopping)]
    with pytest.raises(Interrupted):
        search(m, Several(), 2, observers=watchers)
    state = checkpoint.restore(m, checkpoint.read(path))
    assert (state.epoch, state.step) == (1, 2)
    search(m, Several(), 2, state=state, observers=[*ALL, after])
    assert after.kept == whole.kept[1:]


def epochs_with(column: str, observer, epochs: int, *others) -> list[int]:
    kept = Rows()
    search(
        searcher("nasbench201"), Several(per_epoch=1), epochs, observers=[*others, observer, kept]
    )
    return [row["epoch"] + 1 for row in kept.kept if column in row]


class Stops:
    """After the third epoch."""

    def on_step(self, *_) -> None: ...
    def on_decision(self, *_) -> None: ...

    def on_epoch(self, method, state, data, row):
        return {"stop": "enough"} if state.epoch == 3 else None


def test_the_gap_is_measured_five_times_or_as_often_as_asked_and_always_last():
    assert epochs_with("gap_accuracy", probes.Gap(), 11) == [3, 5, 7, 9, 11]
    assert epochs_with("gap_accuracy", probes.Gap(), 3) == [1, 2, 3]
    assert epochs_with("gap_loss", probes.Gap(every=2), 5) == [2, 4, 5]
    assert epochs_with("gap_loss", probes.Gap(every=99), 5) == [5]
    assert epochs_with("gap_loss", probes.Gap(every=99), 5, Stops()) == [3]


def test_sharpness_is_of_the_last_epoch_unless_asked_for_more():
    assert epochs_with("sharpness_both", probes.Sharpness(over=("both",)), 3) == [3]
    assert epochs_with(
        "sharpness_alphas", probes.Sharpness(over=("alphas",), every=2), 5, Stops()
    ) == [2, 3]
    assert epochs_with("sharpness_weights", probes.Sharpness(over=("both",), every=1), 2) == []
    with pytest.raises(ValueError, match=r"sharpness over 'weight'.*weights"):
        epochs_with("sharpness_weights", probes.Sharpness(over=("weight",)), 1)


def test_entropies_at_their_epochs():
    assert epochs_with("margin", probes.Entropies(), 3) == [1, 2, 3]
    assert epochs_with("margin", probes.Entropies(every=2), 5) == [2, 4, 5]


def test_schedules_read_the_epoch_that_ended():
    """The temperature falls every epoch, and with it the entropy: that of the edges must be that of the row."""
    fall, read = geometric(1.0, 0.01), []

    def relax(alphas, context):
        if context.phase == "readout":
            read.append((context.progress.epoch, context.progress.step))
        return Mixture({name: (a / fall(context)).softmax(-1) for name, a in alphas.items()})

    m, kept = (
        Method(
            compose(Patch("cold", relax=relax)),
            archgrad.space("nasbench201", channels=2, cells=1, classes=4),
        ),
        Rows(),
    )
    search(m, Several(), 3, observers=[*ALL, kept])
    for row in kept.kept:
        assert entropy.mean_over_edges(row["entropy_edges"]) == pytest.approx(
            row["entropy"], abs=1e-4
        )
    assert set(read) == {
        (0, 3),
        (1, 3),
        (2, 3),
        (2, 0),
    }  # the last is the genotype that is returned: past the end, still of the last epoch


def test_random_search_has_no_gap():
    kept = Rows()
    search(searcher("nasbench201", "random"), Several(), 4, observers=[*ALL, kept])
    assert (
        [row["gap_accuracy"] for row in kept.kept]
        == [row["gap_loss"] for row in kept.kept]
        == [0] * 4
    )
    assert all(row["sharpness_alphas"] == 0 < row["sharpness_weights"] for row in kept.kept)
    assert all(row["margin"] is None and row["margin_edges"] == {"cell": []} for row in kept.kept)


def test_a_sharpness_that_overflows_is_recorded_as_null():
    assert [probes.finite_or_none(value) for value in (1.5, math.inf, math.nan, None)] == [
        1.5,
        None,
        None,
        None,
    ]


# The settings.
def small(tmp_path, **diagnostics):
    settings = {
        "data": "digits",
        "space": {"name": "nasbench201", "channels": 2, "cells": 1},
        "out": str(tmp_path / "run"),
        "threads": 1,
    }
    settings["search"] = {"epochs": 2, "limit": 40, "batch": 20}
    return config.read(("test", settings | {"diagnostics": diagnostics}))


def test_what_is_on_by_default(tmp_path):
    assert run.diagnostics(small(tmp_path)) == (probes.Gap(None, 1024), probes.Entropies(1))


def test_every_setting_reaches_its_observer(tmp_path):
    given = {
        "gap_every": 3,
        "gap_images": 64,
        "entropy_every": 2,
        "sharpness": True,
        "sharpness_every": 4,
        "sharpness_over": "alphas",
    }
    given |= {"sharpness_rho": 0.2, "sharpness_steps": 3, "sharpness_batches": 5}
    sharp = probes.Sharpness(every=4, over=("alphas",), rho=0.2, steps=3, batches=5, batch=20)
    settings = small(tmp_path, **given)
    assert run.diagnostics(settings) == (probes.Gap(3, 64), sharp, probes.Entropies(2))
    again = config.read(("again", settings.to_mapping()))  # as a resumed run reads them
    assert again.diagnostics == settings.diagnostics and run.diagnostics(again) == run.diagnostics(
        settings
    )


def test_a_diagnostic_that_is_off_has_no_observer(tmp_path, monkeypatch):
    calls: list[str] = []
    for owner, name in (
        (probes, "gap"),
        (probes, "supernet_sharpness"),
        (entropy, "margins"),
        (entropy, "edge_entropies"),
    ):
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner,
            name,
            lambda *a, _name=name, _real=real, **k: calls.append(_name) or _real(*a, **k),
        )
    quiet = Console(quiet=True)
    run.search(small(tmp_path / "off", gap=False, entropy=False), console=quiet)
    assert calls == ["edge_entropies"] * 2  # the one mean of every row
    assert not COLUMNS & read_measured(tmp_path / "off" / "run" / "metrics.jsonl")[-1].keys()
    calls.clear()
    run.search(small(tmp_path / "on", sharpness=True, sharpness_over="both"), console=quiet)
    assert {name: calls.count(name) for name in calls} == {
        "edge_entropies": 4,
        "margins": 2,
        "gap": 2,
        "supernet_sharpness": 1,
    }
    last = read_measured(tmp_path / "on" / "run" / "metrics.jsonl")[-1]
    assert COLUMNS - last.keys() == {
        f"sharpness_{name}{end}" for name in ("weights", "alphas") for end in ("", "_interval")
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"gap_images": 0},
            "diagnostics.gap_images: Input should be greater than or equal to 1, not 0",
        ),
        (
            {"gap_every": 0},
            "diagnostics.gap_every: Input should be greater than or equal to 1, not 0",
        ),
        (
            {"entropy_every": -1},
            "diagnostics.entropy_every: Input should be greater than or equal to 1, not -1",
        ),
        ({"sharpness_rho": 0}, "diagnostics.sharpness_rho: Input should be greater than 0, not 0"),
        (
            {"sharpness_rho": math.inf},
            "diagnostics.sharpness_rho: Input should be a finite number, not inf",
        ),
        (
            {"sharpness_steps": 0},
            "diagnostics.sharpness_steps: Input should be greater than or equal to 1, not 0",
        ),
        ({"sharpness_batches": 1.5}, "diagnostics.sharpness_batches: "),
        (
            {"sharpness_over": "edges"},
            "diagnostics.sharpness_over: Input should be 'weights', 'alphas', 'both' or 'all', not 'edges'",
        ),
        ({"gab": True}, "unknown option of diagnostics 'gab': did you mean 'gap'?"),
    ],
)
def test_settings_are_refused_in_one_line(tmp_path, given, says):
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        small(tmp_path, **given)
    assert "\n" not in str(refused.value)
