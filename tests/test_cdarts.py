"""CDARTS: its schedule by hand, presets, lengths and phases, DARTS as its limit, what it refuses."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import pytest
import torch

from archgrad.arch.edges import Alphas, Edge, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Output
from archgrad.cli import main
from archgrad.components.context import Context, Forward, Progress
from archgrad.components.schedules import exact_epoch
from archgrad.methods import METHODS, method
from archgrad.methods.cdarts import cdarts, magnitude
from archgrad.searching.loop import initial_state
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.types import Plan
from archgrad.spaces import space
from fakes import Noise
from running import SMALL as CLI
from running import outcome
from searching import Record, run, same, values_of

SMALL = {"channels": 2, "cells": 1, "classes": 4}
SPACES = {
    "nasbench201": SMALL,
    "darts": {"channels": 2, "cells": 3, "nodes": 2, "classes": 4},
    **{name: {"channels": 2, "cells": 3, "classes": 4} for name in ("s1", "s2", "s3", "s4")},
}


def made(name: str = "nasbench201", settings: dict | None = None, **options) -> Method:
    """The evaluation network at the size of the search network, for speed."""
    return method(
        "cdarts", space(name, **SPACES[name]), **(settings or {}), cdarts={"depth": 1.0, **options}
    )


# The regulariser.


def coefficients(
    epochs: int, cycle: list[int], lap: int = 10, pretraining: int | None = None, **options
) -> list[list[float]]:
    """For each epoch, at the first step of each of its passes; ``cycle``: the steps at which these begin."""
    rule = cdarts(**options).scalars["regular"]
    begins = pretraining or 0
    found = []
    for epoch in range(epochs):
        steps = [0] if epoch < begins else cycle
        found.append(
            [
                rule(
                    Context(
                        {}, Progress(epoch, s, epochs, lap * len(steps), 0, epochs), "alpha", {}, 0
                    )
                )
                for s in steps
            ]
        )
    return found


def test_the_regulariser_of_cifar_by_hand():
    """Pretraining 2 of 32, two joint passes, over 2/3: the first cycle has 5 * (1 - (2 * 2 - 2) / (30 * 2 * 2/3)) = 5 * 38/40 = 4.75."""
    found = coefficients(32, [0, 10, 20], pretraining=2, pretrain=2, joint=2, fade=2 / 3)
    assert found[:2] == [[5.0], [5.0]]
    assert found[2] == pytest.approx([4.75, 4.75, 4.625])  # warm-up, then both joint passes
    assert found[3] == pytest.approx([4.5, 4.5, 4.375])
    assert found[11] == pytest.approx([2.5, 2.5, 2.375])
    assert found[20] == pytest.approx([0.25, 0.25, 0.125])
    assert [x for row in found[21:] for x in row] == [0.0] * 33
    third = coefficients(32, [0, 10, 20], pretraining=2, joint=2, fade=2 / 3)
    assert third == found  # 0.0625 of 32 are 2


def test_the_regulariser_changes_with_the_pass_not_within():
    rule = cdarts(pretrain=0, warmup=1, joint=2, fade=1.0).scalars["regular"]
    values = [rule(Context({}, Progress(0, s, 5, 12, 0, 5), "alpha", {}, 0)) for s in range(13)]
    assert values == [5.0] * 8 + [4.5] * 5  # the last is what the epoch's row says
    without = cdarts(pretrain=0, warmup=0, joint=2, fade=1.0).scalars["regular"]
    assert [without(Context({}, Progress(0, s, 5, 8, 0, 5), "alpha", {}, 0)) for s in range(8)] == [
        5.0
    ] * 4 + [4.5] * 4


def test_the_regulariser_with_one_joint_pass_by_hand():
    """The first cycle then has all of it: 5 * (1 - (2 - 2) / ...); and 20 cycles later nothing."""
    found = [
        row[-1] for row in coefficients(32, [0, 10], pretraining=2, pretrain=2, joint=1, fade=2 / 3)
    ]
    assert (
        found[:5] == pytest.approx([5, 5, 5, 4.75, 4.5])
        and found[21] == pytest.approx(0.25)
        and set(found[22:]) == {0.0}
    )
    imagenet = [
        row[-1]
        for row in coefficients(
            40, [0, 10, 20, 30], pretraining=10, pretrain=0.25, warmup=3, joint=1, fade=0.5
        )
    ]
    assert (
        imagenet[10:13] == pytest.approx([5, 5 - 1 / 3, 5 - 2 / 3])
        and imagenet[24] == pytest.approx(1 / 3)
        and set(imagenet[25:]) == {0.0}
    )


def test_an_op_of_the_regulariser_counts_once_in_each_stage():
    """Their sum was over the stages of the network, which share the alphas; of ``none`` it was a mean."""
    thrice = cdarts(pretrain=0, per_stage=True, regular=2.0).scalars["regular"]
    once = cdarts(pretrain=0, per_stage=True, regular=2.0, regular_on="none").scalars["regular"]
    here = Context({}, Progress(0, 0, 32, 30, 0, 32), "alpha", {}, 0)
    assert (thrice(here), once(here)) == (6.0, 2.0)


def asked(groups: dict[str, EdgeGroup], alphas: Alphas) -> Forward:
    context, x = Context(groups, Progress(0, 0, 1, 1, 0, 1), "alpha", {}, 0), torch.zeros(1, 1)
    return Forward(
        alphas,
        Mixture({}),
        Output(x),
        Batch(x, x, x),
        torch.nn.Module(),
        context,
        lambda alphas, weights: Output(x),
    )


def test_magnitudes_by_hand():
    """Of both cell types, padding apart."""
    free = ("pool", "skip")
    groups = {
        "normal": EdgeGroup(
            "normal",
            (Edge(0, 2, ("none", "pool", "conv", "skip")), Edge(1, 2, ("skip", "none"))),
            free=free,
        ),
        "reduce": EdgeGroup("reduce", (Edge(0, 2, ("conv", "pool")),), free=free),
    }
    alphas = {
        "normal": torch.tensor([[1.0, -2, 4, -8], [-16, 32, 64, 128]]),
        "reduce": torch.tensor([[256.0, -512]]),
    }
    given = {name: a.clone().requires_grad_() for name, a in alphas.items()}
    total = magnitude("free")(asked(groups, given))
    assert total.item() == 2 + 8 + 16 + 512
    slopes = torch.autograd.grad(total, list(given.values()))
    assert [slope.tolist() for slope in slopes] == [[[0, -1, 0, -1], [-1, 0, 0, 0]], [[0, -1]]]
    assert magnitude("none")(asked(groups, alphas)).item() == (1 + 32) / 2
    assert (
        magnitude("none")(asked({"reduce": groups["reduce"]}, alphas)).item() == 0
    )  # a space without it


# Presets.


@pytest.mark.parametrize("name", SPACES)
def test_presets_of_the_spaces(name):
    m, base = method("cdarts", space(name)), space(name)
    stepper, nasbench = m.stepper, name == "nasbench201"
    nets = stepper.nets(space(name, **SPACES[name]))
    assert (m.weights.lr, m.weights.per, m.weights.momentum, m.weights.nesterov) == (
        0.08,
        "never",
        0.9,
        False,
    )
    assert (m.weights.decay, m.weights.clip, m.alphas.decay, m.alphas.lr, m.alphas.beta1) == (
        3e-4,
        5.0,
        0.0,
        3e-4,
        0.5,
    )
    assert (m.alpha_from(32), m.alpha_from(50)) == ((0, 0) if nasbench else (2, 3))
    assert (stepper.warmup, stepper.joint, stepper.share, stepper.keep) == (
        1,
        1 if nasbench else 2,
        1.0,
        False,
    )
    assert (
        round(stepper.depth * base.spec()["cells"]),
        stepper.affine,
        stepper.share_classifier,
    ) == (5 if nasbench else 20, False, False)
    assert (stepper.strength, stepper.detach, stepper.divide) == (1.0, False, False)
    assert (
        nets["heads"].stages[0].conv1.weight.requires_grad == nasbench
        and nets["heads"].ensemble.requires_grad
    )
    assert [head.window for head in nets["heads"].stages] == [6, 6] and not nets["heads"].summed
    assert m.space.spec().get("pool_bn", False) is False


def options(space_name: str, preset: str | None) -> dict:
    return METHODS["cdarts"].resolved_options(space_name, {"preset": preset} if preset else {})


def test_named_presets_stand_over_the_space_s():
    m = method("cdarts", space("darts"), preset="imagenet")
    stepper, heads = m.stepper, m.stepper.nets(space("darts", **SPACES["darts"]))["heads"]
    assert (
        m.alpha_from(40),
        stepper.warmup,
        stepper.joint,
        stepper.share,
        round(8 * stepper.depth),
    ) == (10, 3, 1, 0.2, 14)
    assert (
        m.weights.decay,
        heads.stages[1].conv1.weight.requires_grad,
        [head.window for head in heads.stages],
    ) == (1e-5, True, [6, 5])
    released = {name: options(name, "released") for name in ("darts", "nasbench201")}
    for name, found in released.items():
        assert (
            found.items()
            >= {"distance": "smooth_l1", "mean": "all", "per_stage": True, "divide": True}.items()
        )
        assert (
            found.items()
            >= {key: value for key, value in options(name, None).items() if key != "joint"}.items()
        )
    assert (
        method(
            "cdarts", space("nasbench201"), preset="released", joint=3, distance="kl"
        ).stepper.joint
        == 3
    )  # the user's word is last
    assert options("darts", "cifar") == options("darts", None) != options("nasbench201", None)


# What an epoch is.


@pytest.mark.parametrize(
    ("given", "pretraining", "cycle"),
    [
        ({"warmup": 1, "joint": 2}, 10, 30),
        ({"warmup": 0, "joint": 1}, 10, 10),
        ({"warmup": 3, "joint": 1, "share": 0.2}, 2, 8),
        ({"warmup": 1, "joint": 1, "share": 0.01}, 1, 2),
    ],
    ids=str,
)
def test_steps_of_an_epoch(given, pretraining, cycle):
    m = made(pretrain=2, **given)
    assert [m.stepper.steps(m, Plan(6, 10), epoch) for epoch in range(6)] == [pretraining] * 2 + [
        cycle
    ] * 4
    state = m.start(seed=0, epochs=6, steps=10)
    state.epoch, state.step = 3, 1
    assert (m.steps_done(state), m.steps_left(state)) == (
        2 * pretraining + cycle + 1,
        3 * cycle - 1,
    )


class Phases(Record):
    """Of each step: its phase while it ran, and which optimizers stood behind it."""

    def __init__(self):
        super().__init__()
        self.seen, self.optimizers = [], []

    def on_step(self, method, state, values):
        state.step -= 1
        self.seen.append((state.epoch, method.phase(state)))
        state.step += 1
        self.optimizers.append((state.epoch, tuple(id(one) for one in state.optimizers.values())))


@pytest.mark.parametrize("keep", [False, True])
def test_epochs_are_iterations_and_rows_say_what_they_were(keep):
    m, watch = made(pretrain=1, joint=2, keep_optimizers=keep), Phases()
    found = run(m, [watch], epochs=3)
    cycle = ["warm-up"] * 3 + ["joint"] * 6
    assert watch.seen == [(0, "pretraining")] * 3 + [(1, phase) for phase in cycle] + [
        (2, phase) for phase in cycle
    ]
    assert found.state.epoch == 3 == len(watch.rows) and [row["phase"] for row in watch.rows] == [
        "pretraining",
        "joint",
        "joint",
    ]
    losses = {
        name: [f"{name}_loss" in row and f"{name}_accuracy" in row for row in watch.rows]
        for name in ("train", "val", "evaluation")
    }
    assert losses == {
        "train": [True] * 3,
        "val": [False, True, True],
        "evaluation": [False, True, True],
    }
    for name in ("warmup_loss", "warmup_accuracy", "distillation", "regulariser"):
        assert [math.isfinite(row.get(name, math.nan)) for row in watch.rows] == [
            False,
            True,
            True,
        ], name
    assert all(row["genotype"] and "regular" in row for row in watch.rows)
    lives = [{ids for epoch, ids in watch.optimizers if epoch == which} for which in range(3)]
    assert [len(one) for one in lives] == [1, 1, 1] and (lives[0] == lives[1] == lives[2]) == keep


@pytest.mark.parametrize("keep", [False, True])
def test_a_cycle_begins_with_new_optimizers_unless_they_are_kept(keep):
    m = made(pretrain=1, joint=1, keep_optimizers=keep)
    state = run(m, epochs=2).state
    state.plan, state.epoch = state.plan._replace(epochs=3), 2
    state.identity = m.identity(state.plan)  # the rate follows the length
    m.begin_epoch(state)
    assert [bool(optimizer.state) for optimizer in state.optimizers.values()] == [keep] * 3
    params = [
        len(group["params"])
        for optimizer in state.optimizers.values()
        for group in optimizer.param_groups
    ]
    assert list(state.optimizers) == ["weights", "alphas", "evaluation"] and min(params) > 0


@pytest.mark.parametrize(
    ("per", "last"),
    [("never", 0.08), ("epoch", 0.001 + 0.5 * 0.079 * (1 + math.cos(math.pi * 2 / 3)))],
)
def test_both_networks_have_the_learning_rate_of_the_epoch(per, last):
    """Constant, as the authors' was; falling by the user's own word."""
    state = run(made(pretrain=1, joint=1, settings={"weights": {"per": per}}), epochs=3).state
    assert [
        state.optimizers[name].param_groups[0]["lr"] for name in ("weights", "evaluation")
    ] == pytest.approx([last] * 2)


def test_the_genotype_of_a_cycle_is_what_the_alphas_said_at_its_start():
    """Here the alphas run away from it at once; the row's genotype is the newest, as is the search's."""

    class Watch(Record):
        def on_step(self, method, state, values):
            first.append(state.genotype)
            last.append(method.genotype(state))

    first, last = [], []
    found = run(made(pretrain=1, joint=1, settings={"alphas": {"lr": 0.5}}), [Watch()], epochs=3)
    assert first[:3] == [None] * 3 and len(set(first[3:9])) == 1 and len(set(first[9:])) == 1
    assert first[3] == last[2] and first[9] == last[8] != first[3] and found.genotype == last[-1]


# Without the evaluation network.


@pytest.mark.parametrize(("name", "pretrain"), [("nasbench201", 0), ("nasbench201", 1), ("s1", 1)])
def test_without_the_evaluation_network_it_is_darts(name, pretrain):
    """Strength, regulariser and warm-up 0, E's step skipped: DARTS with alphas first at equal settings, bit for bit."""
    off = {
        "strength": 0.0,
        "regular": 0.0,
        "warmup": 0,
        "joint": 1,
        "keep_optimizers": True,
        "pretrain": pretrain,
    }
    ours = made(name, settings={"alphas": {"lr": 0.1}}, **off)
    weights = {
        "lr": 0.08,
        "per": "never",
        "momentum": 0.9,
        "nesterov": False,
        "decay": 3e-4,
        "clip": 5.0,
    }
    late = Patch(
        "late",
        alpha_from=exact_epoch(pretrain, "late"),
        order="alpha_first",
        weights=weights,
        alphas={"decay": 0.0, "lr": 0.1},
    )
    darts = Method(
        late, space(name, **SPACES[name], **({} if name == "nasbench201" else {"pool_bn": False}))
    )

    def searched(m: Method, skip: bool):
        state, record = initial_state(m, Noise(), 2, seed=1), Record()
        if skip:
            state.optimizers["evaluation"].param_groups[0]["params"] = []
        found = run(m, [record], state, 2)
        rows = [
            {key: row[key] for key in ("train_loss", "val_loss", "genotype") if key in row}
            for row in record.rows
        ]
        return (
            values_of(state),
            dict(state.alphas),
            state.optimizers["alphas"].state_dict(),
            found.genotype,
            rows,
        )

    plain = searched(darts, False)
    assert same(searched(ours, True), plain)
    if name == "nasbench201":
        assert not same(searched(ours, False)[0], plain[0])  # through the stem


def test_strength_zero_does_not_run_the_heads():
    m = made(strength=0.0, regular=0.0, pretrain=0, warmup=0)
    state = m.start(seed=0, epochs=2, steps=3)
    m.begin_epoch(state)
    state.nets["heads"].stages[0].conv1.weight.data.fill_(math.nan)
    met = m.stepper.joint_loss(m, state, next(Noise().batches("val", 0)))
    assert met.distillation == 0 and met.further == 0 and torch.isfinite(met.loss)


# What it refuses, and the smallest images.


def flags(**given: str) -> list[str]:
    """The smallest search, with other settings."""
    said = {name.lstrip("-"): value for name, value in zip(CLI[::2], CLI[1::2], strict=True)} | {
        "method": "cdarts"
    }
    said["space.name"] = said.pop("space")
    return [part for name, value in (said | given).items() for part in ("--" + name, value) if part]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "space.name=darts space.cells=1",
            "a network of 1 cell has no normal cell in space darts: --space.cells must be at least 3",
        ),
        (
            "space.name=darts space.cells=3 cdarts.depth=0.3",
            "a head behind the first and the second stage .* 32 channels with 3 .* 16 with 1",
        ),
        ("cdarts.warmup=3", "cdarts.warmup is 3, but the search has 3 epochs: choose at most 2"),
        (
            "cdarts.pretrain=3",
            "cdarts.pretrain is 3, but the search has 3 epochs: choose at most 2",
        ),
        (
            "cdarts.pretrain=1.5",
            "cdarts.pretrain: whole epochs from 0 on, or a share of the search between 0 and 1, not 1.5",
        ),
        ("cdarts.warmup=-1", "cdarts.warmup: .*greater than or equal to 0, not -1"),
        ("cdarts.joint=0", "cdarts.joint: .*greater than or equal to 1, not 0"),
        ("cdarts.tau=0", "cdarts.tau: .*greater than 0, not 0"),
        ("cdarts.depth=0", "cdarts.depth: .*greater than 0, not 0"),
        ("cdarts.strength=-1", "cdarts.strength: .*greater than or equal to 0, not -1"),
        ("cdarts.share=0", "cdarts.share: .*greater than 0, not 0"),
        ("cdarts.share=1.5", "cdarts.share: .*less than or equal to 1, not 1.5"),
        ("cdarts.fade=0", "cdarts.fade: .*greater than 0, not 0"),
        ("cdarts.second_window=1", "cdarts.second_window: .*greater than or equal to 2, not 1"),
        ("cdarts.distance=l2", 'Invalid value "l2" for --cdarts.distance'),
        ("cdarts.preset=cifr", r"unknown preset 'cifr': did you mean 'cifar'\?"),
        ("cdarts.pool_bn", "unknown option 'pool_bn'"),  # NAS-Bench-201 has none
        ("darts.hypergradient=second_order", "its stepper does not read hypergradient"),
        ("darts.order=weight_first", "its stepper does not read order"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        main(
            [
                "search",
                *flags(**dict(option.partition("=")[::2] for option in options.split())),
                "--out",
                str(out),
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error), error
    assert not out.exists()


def test_a_space_without_stages_is_refused():
    net = SimpleNamespace(feature_channels=())
    mine = SimpleNamespace(
        name="mine",
        classes=4,
        spec=lambda: {"cells": 3},
        supernet=lambda: net,
        resized=lambda **changes: mine,
    )
    with pytest.raises(
        ValueError, match="in space 'mine' the stages have no channels with 3 cells, no with 3"
    ) as caught:
        made().stepper.nets(mine)
    assert "\n" not in str(caught.value)


def test_the_preset_of_imagenet_in_a_chain():
    """The space has no pools, and both networks are equally deep."""
    assert (
        method("cdarts", space("mbconv", classes=4), preset="imagenet", depth=1.0).stepper.warmup
        == 3
    )


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_a_preset_of_a_space_is_never_too_long(epochs):
    for name in SPACES:
        method("cdarts", space(name)).check(epochs)


@pytest.mark.parametrize(
    "name",
    ["darts", *(pytest.param(name, marks=pytest.mark.slow) for name in ("s1", "s2", "s3")), "s4"],
)
def test_images_of_eight_pixels(name):
    """Stages of 4 and 2 pixels; the evaluation network deeper than the search network, the whole preset of the space."""
    m = method("cdarts", space(name, **SPACES[name], in_channels=1))
    record = Record()
    found = run(m, [record], epochs=2, data=Noise(in_channels=1, per_epoch=1))
    assert (
        len(found.state.nets["evaluation"].cells)
        == round(2.5 * SPACES[name]["cells"])
        > len(found.state.nets["search"].cells)
    )
    assert [row["phase"] for row in record.rows] == ["pretraining", "joint"]
    assert all(
        math.isfinite(value)
        for row in record.rows
        for value in row.values()
        if isinstance(value, float)
    )
    derived = m.base.derive(found.genotype, channels=2, cells=3).eval()
    assert derived(next(Noise(in_channels=1).evaluation("val")).images).shape == (8, 4)


def test_digits_in_the_darts_space(tmp_path):
    folder = tmp_path / "run"
    small = {
        "space.name": "darts",
        "space.cells": "3",
        "space.nodes": "2",
        "search.limit": "20",
        "search.epochs": "2",
    }
    assert main(["search", *flags(**small), "--out", str(folder)]) == 0
    assert [row["phase"] for row in outcome(folder)["metrics"]] == ["pretraining", "joint"]
