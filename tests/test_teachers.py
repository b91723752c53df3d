"""The content, the logits, the passes and the bytes of each kind of teachers."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from rich.filesize import decimal
from torch.func import functional_call

import archgrad.methods.sddarts_teachers as teachers_module
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Output
from archgrad.cli import main
from archgrad.components.context import Context, Forward, Progress
from archgrad.components.relax import softmax
from archgrad.methods import method
from archgrad.methods.sddarts import sddarts
from archgrad.methods.sddarts_teachers import RememberedLogits
from archgrad.searching import checkpoint, steps
from archgrad.searching.compose import compose
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.types import Plan
from archgrad.seeds import generator
from archgrad.spaces import space
from fakes import Noise
from patches import dropout, stages, unrolled
from running import SMALL as CLI
from searching import DATA, Record, Watch, run, same, values_of

SMALL = {"channels": 2, "cells": 1, "classes": 4}
KINDS = ("snapshots", "remembered", "average")
EPOCHS = 3


def made(*others: Patch, order: str | None = None, **options) -> Method:
    """SD-DARTS with further patches, over the smallest space."""
    return Method(
        compose(sddarts(**options), *others, settle=Patch("user", order=order)),
        space("nasbench201", **SMALL),
    )


# Snapshots.


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (
            {"k": 2, "interval": 2, "unit": "step"},
            [4, 6, 8],
        ),  # of nine steps, three an epoch; the newest is not asked yet
        ({"k": 9, "interval": 4, "unit": "step"}, [4, 8]),
        ({"k": 2}, [6, 9]),
        ({}, [3, 6, 9]),
        ({"k": 3, "interval": 2}, [6]),
    ],
    ids=str,
)
def test_snapshots_are_the_last_supernets(options, kept):
    seen = {}

    def look(m, state, steps):
        seen[steps] = {
            "weights": values_of(state),
            "alphas": {name: a.detach().clone() for name, a in state.alphas.items()},
        }

    found = run(made(order="alpha_first", **options), [Watch(look)], epochs=EPOCHS)
    assert same(found.state.memory["teachers"].kept, [seen[steps] for steps in kept])


@pytest.fixture(scope="module")
def searched():
    """A state in the middle of a search with K = 2 snapshots, a batch, and a dropout of ops close to 1."""
    m = made(dropout(), k=2, level="both")
    state = run(m, epochs=EPOCHS).state
    state.epoch = 2
    batch = next(DATA.batches("train", 2, 1))
    return m, state, batch


def passed(m: Method, state, batch: Batch, phase: str = "weight") -> Forward:
    return steps.forward(
        m, state, "search", phase, batch, {name: a.detach() for name, a in state.alphas.items()}
    )


@pytest.mark.parametrize("phase", ["weight", "alpha"])
def test_a_snapshot_has_the_logits_of_its_supernet(searched, phase):
    """In training mode, on the same batch, without dropout of ops: a plain recomputation agrees to the last bit."""
    m, state, batch = searched
    forward = passed(m, state, batch, phase)
    assert forward.mixture.dropout == {"skip_connect": 0.3}
    logits, known = state.memory["teachers"].recall(forward)
    assert logits.shape == (2, 8, 4) and not logits.requires_grad and known.all()
    for k, teacher in enumerate(state.memory["teachers"].kept):
        net = copy.deepcopy(state.nets["search"]).train()
        mixture = softmax(teacher["alphas"], forward.context)
        with torch.no_grad():
            plain = functional_call(net, teacher["weights"], (batch.images, mixture)).logits
        assert torch.equal(logits[k], plain)
    assert not torch.equal(logits[0], logits[1])


def test_a_teacher_takes_no_part_in_the_dropout(searched):
    """A teacher with the weights of the student has other logits than the student, whose ops are dropped."""
    m, state, batch = searched
    m = made(
        Patch(
            "always",
            reshape=(
                lambda mixture, alphas, context: Mixture(
                    mixture.weights, dropout={"skip_connect": 0.9}
                ),
            ),
        ),
        k=2,
    )
    forward = passed(m, state, batch)
    again = forward.again(state.alphas, None).logits
    assert not torch.equal(again, forward.output.logits)
    with torch.no_grad():
        assert torch.equal(
            again,
            copy.deepcopy(state.nets["search"])(
                batch.images, softmax(state.alphas, forward.context)
            ).logits,
        )


def test_a_teacher_draws_what_its_student_drew():
    """S4's noise op: the student's own weights as teacher say the same to the last bit, whatever the global generator is at."""
    m = Method(Patch("darts"), space("s4", channels=2, cells=1, classes=4))
    state = m.start(seed=0, epochs=2, steps=3)
    forward = passed(m, state, next(DATA.batches("train", 0)))
    torch.rand(3)
    assert torch.equal(forward.again(state.alphas, None).logits, forward.output.logits)
    state.step = 1  # another place, another draw
    assert not torch.equal(passed(m, state, forward.batch).output.logits, forward.output.logits)


def test_teachers_leave_no_trace(searched):
    m, state, batch = searched
    forward = passed(m, state, batch)
    net = state.nets["search"]
    before, rng = {name: b.clone() for name, b in net.state_dict().items()}, torch.get_rng_state()
    state.memory["teachers"].recall(forward)
    assert same(dict(net.state_dict()), before) and torch.equal(torch.get_rng_state(), rng)
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    with pytest.raises(RuntimeError):  # also where it fails half-way
        forward.again(
            state.alphas,
            {"classifier.weight": torch.zeros(1, 1), "classifier.bias": torch.zeros(1)},
        )
    assert same(dict(net.state_dict()), before)
    passed(m, state, batch)
    assert not same(dict(net.state_dict()), before)  # a student's own pass does leave one


# Remembered outputs.


@dataclass(frozen=True)
class Ragged(Noise):
    """Each epoch sees 24 of 40 images, in another order."""

    def count(self, split: str = "train") -> int:
        return 40

    def batches(self, split, epoch, start=0, steps=None):
        order = torch.randperm(40, generator=generator("ragged", split, epoch))
        for step, batch in enumerate(super().batches(split, epoch, start, steps), start):
            yield batch._replace(index=order[8 * step : 8 * step + 8])


@pytest.mark.parametrize(("k", "interval"), [(2, 1), (3, 1), (2, 2), (1, 3)])
def test_remembered_logits_are_the_earlier_logits_of_the_student(k, interval):
    """For every image of every step, in both halves: exactly the last k times that count, to half precision, and nothing else."""
    said: dict[tuple[str, int, int], torch.Tensor] = {}  # half, epoch, image -> logits
    checked = []

    def spy(forward):
        phase, epoch, index = (
            forward.context.phase,
            forward.context.progress.epoch,
            forward.batch.index.tolist(),
        )
        found = forward.context.memory["teachers"].recall(forward)
        if epoch == 0:
            assert found is None
        else:
            logits, known = found
            assert logits.shape == (k, 8, 4)
            for i, image in enumerate(index):
                recalled = sorted(logits[j, i].tolist() for j in range(k) if known[j, i])
                counts = [
                    e for e in range(epoch) if e % interval == 0 and e >= epoch - k * interval
                ]
                own = [said[phase, e, image] for e in counts if (phase, e, image) in said]
                assert recalled == sorted(one.half().float().tolist() for one in own), (
                    epoch,
                    image,
                )
                checked.append(len(own))
        for i, image in enumerate(index):
            said[phase, epoch, image] = forward.output.logits[i].detach().clone()
        return forward.output.logits.new_zeros(())

    m = made(
        Patch("spy", weight_terms=(spy,), alpha_terms=(spy,)),
        teachers="remembered",
        k=k,
        interval=interval,
        level="both",
    )
    run(m, epochs=6, data=Ragged())
    assert (
        set(checked) == set(range(k + 1)) and len(checked) == 5 * 3 * 8 * 2
    )  # none, some and all of the teachers


def test_a_second_order_asks_the_same_teachers():
    """Weights first: the alpha step goes over the training batch again, twice, when its images were already seen in this epoch."""
    asked: dict[tuple[int, int], list[torch.Tensor]] = {}

    def spy(forward):
        found = forward.context.memory["teachers"].recall(forward)
        said = torch.zeros(()) if found is None else torch.cat([part.flatten() for part in found])
        asked.setdefault(forward.context.progress[:2], []).append(said)
        return forward.output.logits.new_zeros(())

    run(
        made(
            unrolled(), Patch("spy", weight_terms=(spy,)), teachers="remembered", k=1, level="both"
        ),
        epochs=2,
    )
    assert [len(calls) for calls in asked.values()] == [3] * 6
    for calls in asked.values():
        assert torch.equal(calls[0], calls[1]) and torch.equal(calls[0], calls[2])


def bound(
    k: int = 2,
    top: int | None = None,
    classes: int = 4,
    images=(6, 5),
    limit: float = 4.0,
    phases=("weight",),
    alpha_split="val",
) -> RememberedLogits:
    memory = RememberedLogits(k, 1, phases, top, limit)
    plan, groups = Plan(50, 3, images, alpha_split), space("nasbench201").groups
    memory.bind(
        SimpleNamespace(
            space=SimpleNamespace(classes=classes, groups=groups),
            plan=plan,
            device=torch.device("cpu"),
        )
    )
    return memory


@pytest.mark.parametrize(("split", "count"), [("val", 5), ("train", 6)])
def test_a_half_remembers_the_images_it_learns_from(split, count):
    """SNAS's alphas learn from training images, of which there may be more."""
    tables = bound(phases=("weight", "alpha"), alpha_split=split).tables
    assert (tables["weight"]["epoch"].shape[1], tables["alpha"]["epoch"].shape[1]) == (6, count)
    assert (
        method("snas+sddarts", space("nasbench201", **SMALL))
        .start(seed=0, epochs=4, steps=3)
        .plan.alpha_split
        == "train"
    )


def test_candidates_of_random_search_do_not_teach_each_other():
    known = []

    class Looks(Record):
        def on_step(self, m, state, values):
            known.append(
                int((state.memory["teachers"].tables["weight"]["epoch"] >= 0).any(0).sum())
            )

    m = method(
        "random+sddarts",
        space("nasbench201", **SMALL),
        random={"draws": 2},
        sddarts={"teachers": "remembered"},
    )
    run(m, [Looks()], epochs=4)
    assert known == 2 * [8, 16, 24, 24, 24, 24]


def place(
    epoch: int, index: list[int], logits: list[list[float]] | None = None, phase: str = "weight"
) -> Forward:
    z = torch.tensor(logits or [[0.0] * 4] * len(index))
    batch = Batch(z, torch.zeros(len(index), dtype=torch.long), torch.tensor(index))
    context = Context({}, Progress(epoch, 0, 50, 3, 0, 50), phase, {}, 0)
    return Forward(
        {},
        Mixture({}),
        Output(z),
        batch,
        torch.nn.Module(),
        context,
        lambda alphas, weights: Output(z),
    )


def test_only_the_top_logits():
    memory = bound(top=2)
    memory.after_step(place(0, [4, 1], [[3.0, 1.0, 0.0, -2.0], [-1.0, -5.0, 2.0, -3.0]]))
    logits, known = memory.recall(place(1, [1, 4, 0]))
    assert logits[0, :2].tolist() == [[-1.0, -1.0, 2.0, -1.0], [3.0, 1.0, 1.0, 1.0]]
    assert known.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    everything = bound(top=9)  # more than there are
    everything.after_step(place(0, [0], [[3.0, 1.0, 0.0, -2.0]]))
    assert everything.recall(place(1, [0]))[0][0, 0].tolist() == [3.0, 1.0, 0.0, -2.0]


def test_logits_too_large_for_half_precision_stay_finite():
    memory = bound()
    memory.after_step(place(0, [0], [[1e6, -1e6, 0.0, 1.0]]))
    assert memory.recall(place(1, [0]))[0][0, 0].tolist() == [65504.0, -65504.0, 0.0, 1.0]


def test_an_image_that_comes_twice_is_no_teacher_of_itself():
    memory = bound()
    for epoch in (0, 1):
        memory.after_step(place(epoch, [0], [[float(epoch)] * 4]))
    logits, known = memory.recall(place(1, [0]))
    assert known[:, 0].tolist() == [1.0, 0.0] and logits[0, 0].tolist() == [0.0] * 4


def test_the_two_halves_of_a_step_remember_separate_logits():
    memory = bound(phases=("weight", "alpha"))
    memory.after_step(place(0, [2], [[1.0, 2, 3, 4]]))
    memory.after_step(place(0, [3], [[5.0, 6, 7, 8]], "alpha"))
    for phase, image, own in (("weight", 2, [1.0, 2, 3, 4]), ("alpha", 3, [5.0, 6, 7, 8])):
        logits, known = memory.recall(place(1, [2, 3], phase=phase))
        assert logits[0, image - 2].tolist() == own and known[0].tolist() == [
            float(image == 2),
            float(image == 3),
        ]


# The average.


@pytest.mark.parametrize(
    ("unit", "interval", "steps"), [("step", 4, 4), ("epoch", 1, 3), ("epoch", 2, 6)]
)
def test_average_after_three_steps(unit, interval, steps):
    seen, alphas, found = [], [], {}

    def look(m, state, done):
        seen.append(values_of(state)), alphas.append(state.alphas["cell"].detach().clone())
        if done == 3:
            found.update(copy.deepcopy(state.memory["teachers"].teacher))

    run(
        made(teachers="average", unit=unit, interval=interval, order="alpha_first"),
        [Watch(look)],
        epochs=EPOCHS,
    )
    d = math.exp(-1 / steps)
    for mean, (one, two, three) in [
        *((found["weights"][name], [w[name] for w in seen[:3]]) for name in seen[0]),
        (found["alphas"]["cell"], alphas[:3]),
    ]:
        torch.testing.assert_close(
            mean, d * d * one + d * (1 - d) * two + (1 - d) * three, rtol=1e-5, atol=1e-7
        )


# What they cost and weigh.


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"strength": 0}, 2),
        ({"teachers": "remembered"}, 2),
        ({"teachers": "remembered", "level": "both"}, 2),
        ({"teachers": "average"}, 3),
        ({"teachers": "average", "level": "both"}, 4),
        ({"k": 1}, 3),
        ({"k": 2}, 4),
        ({"k": 2, "level": "alphas"}, 4),
        ({"k": 2, "level": "both"}, 6),
    ],
    ids=str,
)
def test_passes_of_the_supernet_in_a_step(options, passes):
    count = []

    def look(m, state, done):
        count.append(0)
        if done == 1:
            state.nets["search"].register_forward_hook(lambda *a: count.append(1))

    run(made(**options), [Watch(look)], epochs=EPOCHS)
    ends = [i for i, one in enumerate(count) if one == 0]
    assert [b - a - 1 for a, b in pairwise(ends)][-3:] == [passes] * 3  # of the last epoch


def held(saved) -> int:
    """Bytes of all tensors in there."""
    if isinstance(saved, torch.Tensor):
        return saved.numel() * saved.element_size()
    inner = (
        saved.values()
        if isinstance(saved, dict)
        else saved
        if isinstance(saved, list | tuple)
        else ()
    )
    return sum(map(held, inner))


@pytest.mark.parametrize(
    "options",
    [{"teachers": "snapshots"}, {"k": 2, "unit": "step"}, {"teachers": "average"}, {"teachers": "remembered"},
     {"teachers": "remembered", "level": "both", "k": 2}, {"teachers": "remembered", "top": 2}],
    ids=str,
)  # fmt: skip
def test_size_is_what_is_held_at_the_end(options):
    memory = run(made(**options), epochs=EPOCHS).state.memory["teachers"]
    assert memory.size() == held(memory.state_dict()) > 0


def test_the_command_line_says_what_teachers_take(tmp_path, capsys):
    assert main(["search", *CLI, "--method", "sddarts", "--out", str(tmp_path / "run")]) == 0
    saved = checkpoint.read(tmp_path / "run" / "checkpoint.pt")["memory"]["teachers"]
    assert (
        f"extra memory for teachers: {decimal(held(saved))}" in capsys.readouterr().out
        and held(saved) > 5e4
    )
    assert (
        main(
            [
                "search",
                *CLI,
                "--method",
                "sddarts",
                "--sddarts.max-gb",
                "0.00005",
                "--out",
                str(tmp_path / "no"),
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert (
        f"would take {decimal(held(saved))}, more than 5e-05 GB" in error and error.count("\n") == 1
    )
    assert not (tmp_path / "no").exists()  # so that the mended command may use it


@pytest.mark.parametrize(
    ("options", "gigabytes"),
    [({}, "7.7"), ({"top": 300}, "4.6"), ({"k": 5}, "12.8"), ({"level": "both"}, "8.0")],
)
def test_imagenet_is_too_much_to_remember(monkeypatch, options, gigabytes):
    """3 x 1,281,167 x 1000 logits of two bytes and as many epochs of four; refused before anything is taken."""
    m = method(
        "sddarts",
        space("nasbench201", channels=1, cells=1, classes=1000),
        teachers="remembered",
        **options,
    )

    def never(*arguments, **settings):
        raise AssertionError("allocated before it was refused")

    real = m.build

    def build(state, base):
        monkeypatch.setattr(teachers_module, "torch", SimpleNamespace(zeros=never, full=never))
        real(state, base)

    object.__setattr__(m, "build", build)
    with pytest.raises(
        ValueError,
        match=f"would take {gigabytes} GB, more than 4 GB: .*sddarts.k.*sddarts.top.*sddarts.max_gb",
    ):
        m.start(seed=0, epochs=50, steps=5000, images=(1_281_167, 50_000))


def test_remembering_needs_to_know_how_many_images():
    with pytest.raises(ValueError, match="need the number of images"):
        made(teachers="remembered").start(seed=0, epochs=5, steps=3)


# Stages.


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_clears_supernets_and_keeps_outputs(kind):
    """At epoch 2 of 4 the space is pruned: other nets, other alphas."""
    held_at = {}

    def look(m, state, done):
        memory = state.memory["teachers"]
        held_at[done] = {
            "snapshots": lambda: len(memory.kept),
            "average": lambda: sum(map(torch.numel, memory.teacher["weights"].values())),
            "remembered": lambda: sorted(set(memory.tables["weight"]["epoch"].flatten().tolist())),
        }[kind]()

    state = run(made(stages(), teachers=kind), [Watch(look)], epochs=4).state
    before, after = held_at[6], held_at[7]
    size = sum(map(torch.numel, state.nets["search"].parameters()))
    assert (before, after) == {
        "snapshots": (1, 0),
        "average": (held_at[1], size),
        "remembered": ([-1, 0, 1], [-1, 0, 1, 2]),
    }[kind]
    assert kind != "average" or before > after
