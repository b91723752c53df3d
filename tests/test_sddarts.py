"""SD-DARTS: the divergence and the votes against closed forms, when it begins; and together with sTDARTS: everywhere, every way."""

from __future__ import annotations

import math
import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
import yaml

from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Output
from archgrad.cli import main
from archgrad.components.context import Context, Forward, Progress
from archgrad.methods import METHODS, method
from archgrad.methods.sddarts import VOTES, sddarts, self_distillation
from archgrad.run import config
from archgrad.searching import checkpoint
from archgrad.searching.compose import compose
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.seeds import generator
from archgrad.spaces import space
from fakes import Noise
from running import SMALL as CLI
from searching import Saves, Watch, gone_on, run, same, values_of

SMALL = {"channels": 2, "cells": 1, "classes": 4}
KINDS = ("snapshots", "remembered", "average")
EPOCHS = 3


def made(*others: Patch, order: str | None = None, **options) -> Method:
    """SD-DARTS with further patches, over the smallest space."""
    return Method(
        compose(sddarts(**options), *others, settle=Patch("user", order=order)),
        space("nasbench201", **SMALL),
    )


def trace(m: Method, epochs: int = EPOCHS) -> list[dict]:
    """The weights after each step."""
    found = []
    run(m, [Watch(lambda method, state, steps: found.append(values_of(state)))], epochs=epochs)
    return found


@cache
def darts_trace() -> list[dict]:
    return trace(Method(compose(), space("nasbench201", **SMALL)))


# The divergence and the votes.


def asked(
    z: torch.Tensor, logits: torch.Tensor | None, known: torch.Tensor | None = None
) -> Forward:
    """A pass with the logits ``z`` whose teachers say ``logits`` (K, B, C)."""
    known = (
        torch.ones(logits.shape[:2], dtype=z.dtype)
        if logits is not None and known is None
        else known
    )
    teachers = SimpleNamespace(recall=lambda forward: None if logits is None else (logits, known))
    context = Context({}, Progress(5, 0, 50, 3, 0, 50), "weight", {"teachers": teachers}, 0)
    return Forward(
        {},
        Mixture({}),
        Output(z),
        Batch(z, z, z),
        torch.nn.Module(),
        context,
        lambda alphas, weights: Output(z),
    )


@pytest.mark.parametrize("vote", VOTES)
@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_value_and_gradient_of_the_divergence(vote, tau):
    """d/dz tau^2 KL(p || softmax(z / tau)) / B = tau (softmax(z / tau) - p) / B; a sample no teacher knows counts 0 and has none."""
    rng = generator("divergence")
    z = torch.randn(5, 4, generator=rng, dtype=torch.float64).requires_grad_()
    logits = 3 * torch.randn(3, 5, 4, generator=rng, dtype=torch.float64)
    known = torch.tensor([[1, 1, 0, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0]], dtype=torch.float64)
    loss = self_distillation(VOTES[vote], tau)(asked(z, logits, known))
    slope = torch.autograd.grad(loss, z)[0]
    expected, total = torch.zeros(5, 4, dtype=torch.float64), 0.0
    for i in range(5):
        if not known[:, i].any():
            continue
        p = voted(vote, logits[known[:, i] > 0, i], tau)
        q = (z[i].detach() / tau).softmax(0)
        expected[i] = tau * (q - p) / 5
        total += (
            sum(
                tau**2 * x * math.log(x / y)
                for x, y in zip(p.tolist(), q.tolist(), strict=True)
                if x
            )
            / 5
        )
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-14)
    assert loss.item() == pytest.approx(total, rel=1e-12) and not slope[3].any()


def voted(vote: str, logits: torch.Tensor, tau: float) -> torch.Tensor:
    """Return the vote of teachers (K, C) on one sample, computed as the paper describes it."""
    if vote == "mean_probability":
        return torch.stack([(one / tau).softmax(0) for one in logits]).mean(0)
    if vote == "mean_logit":
        return (logits.mean(0) / tau).softmax(0)
    firsts = [one.argmax().item() for one in logits]
    return torch.tensor(
        [firsts.count(c) / len(firsts) for c in range(logits.shape[1])], dtype=torch.float64
    )


@pytest.mark.parametrize(
    ("vote", "everyone", "two"),
    [
        # (0.5 + 0.2 + 0.1) / 3, ...; without the third teacher (0.5 + 0.2) / 2, ...
        ("mean_probability", [0.8 / 3, 0.95 / 3, 1.25 / 3], [0.35, 0.425, 0.225]),
        # the geometric means: cube roots of 0.01, 0.015, 0.04; square roots of 0.1, 0.15, 0.05; made to sum to 1
        ("mean_logit", [0.267944, 0.306720, 0.425336], [0.341082, 0.417737, 0.241181]),
        ("majority", [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]),
    ],
)
def test_votes_by_hand(vote, everyone, two):
    """Three teachers, three classes; the second sample is unknown to the third teacher, the third to all."""
    tau = 2.0
    p = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
    logits = (tau * p.log())[:, None].expand(3, 3, 3)
    known = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0]], dtype=torch.float64)
    z = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(self_distillation(VOTES[vote], tau)(asked(z, logits, known)), z)[0]
    found = 1 / 3 - slope * 3 / tau  # the closed form of the gradient, solved for p
    torch.testing.assert_close(
        found[0], torch.tensor(everyone, dtype=torch.float64), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(found[1], torch.tensor(two, dtype=torch.float64), rtol=0, atol=1e-6)
    assert not slope[2].any()


def test_a_split_majority_follows_the_tau_of_nobody():
    logits, shares = (
        torch.tensor([[[2.0, 1, 0]], [[5.0, 4, 9]], [[1.0, 0, 0]]]),
        torch.full((3, 1, 1), 1 / 3),
    )
    for tau in (0.1, 10.0):
        torch.testing.assert_close(
            VOTES["majority"](logits, shares, tau), torch.tensor([[2 / 3, 0, 1 / 3]])
        )


# When it begins.


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_darts_bit_for_bit(kind):
    base = space("nasbench201", **SMALL)
    plain, zero = (
        method("darts", base),
        method("sddarts", base, teachers=kind, strength=0, first=0, level="both"),
    )
    aside = ("method", "identity", "memory")
    a, b = (
        {k: v for k, v in checkpoint.pack(m, run(m, epochs=EPOCHS).state).items() if k not in aside}
        for m in (plain, zero)
    )
    assert same(a, b)


@pytest.mark.parametrize(
    ("options", "step"),
    [
        (
            {"teachers": "snapshots", "first": 0},
            3,
        ),  # the first teacher is born with the end of the first epoch
        (
            {"teachers": "snapshots", "first": 0, "unit": "step", "interval": 2},
            4,
        ),  # a teacher is an interval old at least
        ({"teachers": "snapshots", "first": 0, "unit": "step", "k": 1}, 2),
        ({"teachers": "snapshots", "first": 0, "interval": 2}, 6),
        ({"teachers": "remembered", "first": 0}, 3),
        ({"teachers": "average", "first": 0}, 1),
        ({"teachers": "average"}, 3),  # the tenth part of a short search is one epoch
        *[({"teachers": kind, "first": 2}, 6) for kind in KINDS],
    ],
    ids=str,
)
def test_plain_cross_entropy_until_the_first_teacher(options, step):
    ours, darts = trace(made(strength=3.0, **options)), darts_trace()
    assert [same(a, b) for a, b in zip(ours, darts, strict=True)] == [
        done < step for done in range(9)
    ]


# Together with sTDARTS.

SPACES = {
    "nasbench201": SMALL,
    "darts": {"channels": 2, "cells": 3, "nodes": 2, "classes": 4},
    **{name: {"channels": 2, "cells": 3, "classes": 4} for name in ("s1", "s2", "s3", "s4")},
}


@pytest.mark.parametrize("hypergradient", ["second_order", "finite_differences"])
@pytest.mark.parametrize(
    ("name", "space_name"),
    [
        *(
            pytest.param(
                "stdarts+sddarts",
                name,
                marks=[pytest.mark.slow] if name in ("s1", "s2", "s3", "s4") else [],
            )
            for name in SPACES
        ),
        pytest.param("stdarts", "nasbench201", marks=pytest.mark.slow),
        pytest.param("sddarts", "nasbench201", marks=pytest.mark.slow),
        pytest.param("sddarts", "s4", marks=pytest.mark.slow),
    ],
)
def test_second_order_everywhere(name, space_name, hypergradient, tmp_path):
    """Finite, and gone on with from the middle of an epoch with teachers, bit for bit."""
    m = method(
        name, space(space_name, **SPACES[space_name]), darts={"hypergradient": hypergradient}
    )
    data, whole = Noise(per_epoch=2), Saves([("step", 1, 1)], tmp_path)
    found = run(m, [whole], epochs=2, data=data)
    assert all(
        math.isfinite(value)
        for row in whole.rows
        for value in row.values()
        if isinstance(value, float)
    )
    assert all(torch.isfinite(a).all() for a in found.state.alphas.values())
    again, rows = gone_on(m, whole.files["step", 1, 1], epochs=2, data=data)
    assert rows == whole.rows[1:] and same(
        checkpoint.pack(m, again.state), checkpoint.pack(m, found.state)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_teacher_survives_a_resume(kind, tmp_path):
    m = method(
        "stdarts+sddarts",
        space("nasbench201", **SMALL),
        sddarts={"teachers": kind, "level": "both"},
    )
    data = Noise(per_epoch=2)
    whole = Saves([("step", 2, 1), ("epoch", 1, 0)], tmp_path)
    found = run(m, [whole], epochs=3, data=data)
    assert all(path.exists() for path in whole.files.values())
    for place, path in whole.files.items():
        again, _ = gone_on(m, path, epochs=3, data=data)
        assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state)), place


def test_each_option_goes_to_its_owner(capsys, tmp_path):
    """Python, YAML and command line."""
    ours = method(
        "stdarts+sddarts",
        space("darts"),
        stdarts={"kappa": 0.5, "warmup": 0.3},
        sddarts={"k": 5, "first": 4},
    )
    assert ours.name == "stdarts+sddarts" and set(ours.patch.memory) == {"temperature", "teachers"}
    assert (
        ours.patch.memory["temperature"]().kappa,
        ours.patch.memory["teachers"]().k,
        ours.alpha_from(20),
    ) == (0.5, 5, 6)
    sections = {"stdarts": {"kappa": 0.5, "warmup": 0.3}, "sddarts": {"k": 5, "first": 4}}
    read = config.read(
        (
            "recipe",
            yaml.safe_load(
                yaml.safe_dump({"method": "stdarts+sddarts", "space": "darts", **sections})
            ),
        )
    )
    assert read.methods == sections
    flags = [
        "--stdarts.kappa",
        "0.5",
        "--stdarts.warmup",
        "0.3",
        "--sddarts.k",
        "5",
        "--sddarts.first",
        "4",
    ]
    assert (
        main(
            [
                "search",
                "--data",
                "digits",
                "--space",
                "darts",
                "--method",
                "stdarts+sddarts",
                *flags,
                "--dry-run",
            ]
        )
        == 0
    )
    shown = yaml.safe_load(capsys.readouterr().out)
    assert {
        name: {key: shown[name][key] for key in given} for name, given in sections.items()
    } == sections
    assert type(shown["sddarts"]["first"]) is int


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("sddarts.k=0", "sddarts.k: .*greater than or equal to 1, not 0"),
        ("sddarts.interval=0", "sddarts.interval: .*greater than or equal to 1, not 0"),
        (
            "sddarts.interval=3",
            "sddarts.interval is 3, but the search has 3 epochs: choose at most 2",
        ),
        (
            "sddarts.teachers=average sddarts.interval=3",
            "sddarts.interval is 3, but the search has 3 epochs: choose at most 2",
        ),
        (
            "sddarts.unit=step sddarts.interval=9",
            "sddarts.interval is 9 steps, but the search has 9: choose at most 8",
        ),
        (
            "sddarts.unit=step sddarts.teachers=average sddarts.interval=9",
            "sddarts.interval is 9 steps, but the search has 9",
        ),
        ("sddarts.first=3", "sddarts.first is 3, but the search has 3 epochs: choose at most 2"),
        ("sddarts.first=1.5", "sddarts.first: .*not 1.5"),
        ("sddarts.tau=0", "sddarts.tau: .*greater than 0, not 0"),
        ("sddarts.tau=-1", "sddarts.tau: .*greater than 0, not -1"),
        ("sddarts.strength=-1", "sddarts.strength: .*greater than or equal to 0, not -1"),
        ("sddarts.vote=loudest", "loudest"),
        (
            "stdarts.warmup=1.5",
            "stdarts.warmup: whole epochs from 0 on, or a share of the search between 0 and 1, not 1.5",
        ),
        (
            "stdarts.interval=0",
            "stdarts.interval: whole epochs from 1 on, or a share of the search between 0 and 1, not 0",
        ),
        (
            "sddarts.teachers=remembered sddarts.unit=step",
            "sddarts.unit is step, but an image comes once an epoch",
        ),
        ("sddarts.top=3", "sddarts.top is 3, but snapshots remember no logits"),
        ("stdarts.kappa=-1", "stdarts.kappa: .*greater than 0, not -1"),
        ("stdarts.kappa=0", "stdarts.kappa: .*greater than 0, not 0"),
        ("stdarts.warmup=3", "stdarts.warmup is 3, but the search has 3 epochs: choose at most 2"),
        (
            "stdarts.interval=3",
            "stdarts.interval is 3, but the search has 3 epochs: choose at most 2",
        ),
        ("stdarts.cold=0", "stdarts.cold: .*greater than 0, not 0"),
        ("alphas.init=0", "set alphas.init above 0"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message, tmp_path, capsys):
    out = tmp_path / "run"
    given = [part for option in options.split() for part in ("--" + option).split("=")]
    assert main(["search", *CLI, "--method", "stdarts+sddarts", *given, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error), error
    assert not out.exists()


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_a_preset_is_never_too_long(epochs):
    for name in SPACES:
        method("stdarts+sddarts", space(name)).check(epochs)


def test_the_methods_table_has_stdarts_and_sddarts():
    assert {"stdarts", "sddarts"} <= set(METHODS) and METHODS["stdarts"].presets["nasbench201"][
        "entropy"
    ] == "sum"
