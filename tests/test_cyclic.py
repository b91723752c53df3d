"""The cycle of CDARTS: whom a loss reaches and whom a step moves, a joint step worked out plainly, what lives on from cycle to cycle."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.components.losses import task
from archgrad.methods import method
from archgrad.searching.loop import initial_state
from archgrad.searching.method import Method
from archgrad.spaces import space
from fakes import Noise
from searching import run, same

SPACES = {
    "nasbench201": {"channels": 2, "cells": 1, "classes": 4},
    "darts": {"channels": 2, "cells": 3, "nodes": 2, "classes": 4},
    "s1": {"channels": 2, "cells": 3, "classes": 4},
}
EPOCHS, STEPS = 3, 2


def made(name: str = "nasbench201", settings: dict | None = None, **options) -> Method:
    """An evaluation network of 4 cells in the DARTS space; alphas that differ; what presets say is said here."""
    options = {
        "depth": 4 / 3 if name == "darts" else 1.0,
        "joint": 2,
        "fix_heads": True,
        "fade": 2 / 3,
    } | options
    return method(
        "cdarts",
        space(name, **SPACES[name]),
        alphas={"lr": 3e-4, "init": 0.5},
        **(settings or {}),
        cdarts=options,
    )


def place(m: Method, state, phase: str) -> None:
    """The first step of a phase, in the first epoch that has it."""
    stepper = m.stepper
    state.epoch, state.step = (0 if phase == "pretraining" else m.alpha_from(EPOCHS)), 0
    m.begin_epoch(state)
    state.step = stepper.warmup * stepper.pass_steps(state.plan) if phase == "joint" else 0
    assert m.phase(state) == phase


def started(m: Method, phase: str = "joint", dtype: torch.dtype = torch.float32):
    state = m.start(seed=2, epochs=EPOCHS, steps=STEPS)
    for net in state.nets.values():
        net.to(dtype)
    state.alphas = {name: a.detach().to(dtype).requires_grad_() for name, a in state.alphas.items()}
    state.optimizers = m.stepper.optimizers(m, state)
    place(m, state, phase)
    return state


def batches(dtype: torch.dtype = torch.float32, step: int = 0):
    data = Noise(dtype=dtype)
    return (next(data.batches(split, 0, step)) for split in ("train", "val"))


def sets(state) -> dict[str, list[torch.Tensor]]:
    """Everything that is trained, by whose it is."""
    search, evaluation, heads = state.nets["search"], state.nets["evaluation"], state.nets["heads"]

    def own(net):
        return [
            p
            for name, p in net.named_parameters()
            if name.split(".")[0] not in ("stem", "classifier")
        ]

    return {
        "stem": list(search.stem.parameters()),
        "w_S": own(search), "fc_S": list(search.classifier.parameters()), "alphas": list(state.alphas.values()),
        "w_E": own(evaluation), "fc_E": list(evaluation.classifier.parameters()),
        "heads": list(heads.stages.parameters()), "ensemble": [heads.ensemble],
    }  # fmt: skip


def reached(loss: torch.Tensor, state) -> set[str]:
    """The sets in which anything has a gradient that is not 0."""
    found = set()
    for name, tensors in sets(state).items():
        asked = [t for t in tensors if t.requires_grad]
        slopes = (
            torch.autograd.grad(loss, asked, retain_graph=True, allow_unused=True) if asked else ()
        )
        found |= {name} if any(slope is not None and slope.any() for slope in slopes) else set()
    return found


SEARCH, EVALUATION = {"stem", "w_S", "fc_S", "alphas"}, {"stem", "w_E", "fc_E"}
VARIANTS = [
    {"detach_teacher": detach, "share_fc": share, "fix_heads": frozen, "ensemble": "fixed" if frozen and share else "learned"}
    for detach in (False, True) for share in (False, True) for frozen in (True, False)
]  # fmt: skip


REACH = [
    *(("nasbench201", options) for options in VARIANTS),
    ("darts", VARIANTS[0]),
    ("darts", VARIANTS[-1]),
]
UPDATE = [
    *(("nasbench201", VARIANTS[i]) for i in (0, 3, 5, 6)),
    ("darts", VARIANTS[5]),
]  # of any two options each pair


def expected(options: dict, names: set[str]) -> set[str]:
    """Without what this variant holds still; a shared classifier is both networks'."""
    still = ({"heads"} if options["fix_heads"] else set()) | (
        {"ensemble"} if options["ensemble"] == "fixed" else set()
    )
    fc = {"fc_S", "fc_E"}
    return (names | fc if options["share_fc"] and names & fc else names) - still


@pytest.mark.parametrize(("name", "options"), REACH, ids=str)
def test_each_loss_has_gradients_for_its_own_parameters_alone(name, options):
    m = made(name, **options)
    state = started(m)
    met = m.stepper.joint_loss(m, state, next(Noise().batches("val", 0)))
    taught = SEARCH | {"heads", "ensemble"} | (set() if options["detach_teacher"] else EVALUATION)
    assert reached(task(met.search), state) == expected(options, SEARCH)
    assert reached(task(met.evaluation), state) == expected(options, EVALUATION)
    assert reached(met.distillation, state) == expected(options, taught)
    assert reached(met.further, state) == {"alphas"}
    assert reached(met.loss, state) == expected(
        options, SEARCH | EVALUATION | {"heads", "ensemble"}
    )
    torch.testing.assert_close(met.labels, task(met.search) + task(met.evaluation))
    torch.testing.assert_close(met.loss, met.labels + met.distillation + met.further)
    shared = (
        state.nets["search"].classifier is state.nets["evaluation"].classifier,
        state.nets["search"].stem is state.nets["evaluation"].stem,
    )
    assert shared == (options["share_fc"], True)
    # Its own answers: through E's passes alone nothing comes where the teacher is detached.
    outputs = (*met.evaluation.output.features, met.evaluation.output.logits)
    through = torch.autograd.grad(met.distillation, outputs, allow_unused=True)
    assert all(slope is None for slope in through) == options["detach_teacher"]


def moved(state, act) -> set[str]:
    before = {name: [t.detach().clone() for t in tensors] for name, tensors in sets(state).items()}
    act()
    assert all(t.grad is None for tensors in sets(state).values() for t in tensors)
    return {
        name
        for name, tensors in sets(state).items()
        if not same(before[name], [t.detach() for t in tensors])
    }


@pytest.mark.parametrize(("name", "options"), UPDATE, ids=str)
def test_each_step_moves_its_own_parameters_alone(name, options):
    m = made(name, pretrain=1, **options)
    train, val = batches()
    every = SEARCH | EVALUATION | {"heads", "ensemble"}
    for phase, names in {
        "pretraining": {"stem", "w_S", "fc_S"},
        "warm-up": EVALUATION,
        "joint": every,
    }.items():
        state = started(m, phase)
        for _ in range(STEPS):  # the second has momentum
            assert m.phase(state) == phase
            assert moved(state, lambda state=state: m.step(state, train, val)) == expected(
                options, names
            ), phase


@pytest.mark.parametrize("share_fc", [False, True])
def test_the_validation_half_leaves_the_search_network_alone(share_fc):
    """But for what is E's too, and the gradient it has there goes nowhere: no momentum, no clipping of others."""
    m = made(share_fc=share_fc)
    state, (_, val) = started(m), batches()
    names = {"stem", "alphas", "w_E", "fc_E", "ensemble"} | ({"fc_S"} if share_fc else set())
    assert moved(state, lambda: m.stepper.joint_step(m, state, val)) == names
    assert not state.optimizers["weights"].state
    assert all(p.requires_grad for p in state.nets["search"].parameters())


# A joint step, plainly.


def plain_answer(heads, output, summed: bool) -> torch.Tensor:
    """ReLU, pool, 1x1, BN, ReLU, 2x2, BN, ReLU, mean, linear at both stages; the classifier; softmax(r) of them."""
    logits = []
    for head, x in zip(heads.stages, output.features, strict=False):
        x = F.conv2d(F.avg_pool2d(x.relu(), min(6, x.shape[2]), 2), head.conv1.weight)
        x = F.batch_norm(x, None, None, training=True).relu()
        x = F.pad(x, (0, max(2 - x.shape[3], 0), 0, max(2 - x.shape[2], 0)))
        x = (
            F.batch_norm(F.conv2d(x, head.conv2.weight), None, None, training=True)
            .relu()
            .mean((2, 3))
        )
        logits.append(x @ head.classifier.weight.T + head.classifier.bias)
    logits.append(output.logits)
    e = heads.ensemble.exp()
    parts = [e[i] / e.sum() * logits[i] for i in range(3)]
    return parts[0] + parts[1] + parts[2] if summed else torch.cat(parts)


def plain_distance(student: torch.Tensor, teacher: torch.Tensor, o: dict) -> torch.Tensor:
    tau = o.get("tau", 2.0)
    if o.get("distance") == "smooth_l1":
        d = (student - teacher).abs()
        return tau**2 * torch.where(d < 1, d**2 / 2, d - 0.5).mean()
    p, q = ((z / tau).exp() / (z / tau).exp().sum(1, keepdim=True) for z in (teacher, student))
    each = (p * (p / q).log()).sum(1)
    return tau**2 * each.mean() / (p.shape[1] if o.get("mean") == "all" else 1)


def plain_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.exp().sum(1).log() - logits[torch.arange(len(labels)), labels]).mean()


def plain_mixture(alphas: dict) -> Mixture:
    return Mixture({name: a.exp() / a.exp().sum(1, keepdim=True) for name, a in alphas.items()})


def plain_one_hot(genotype: Genotype, groups) -> Mixture:
    weights = {name: torch.zeros(len(group.edges), group.width) for name, group in groups.items()}
    for cell in genotype.cells:
        for link in cell.links:
            (edge,) = [
                e
                for e in groups[cell.group].edges
                if (e.source, e.target) == (link.source, link.target)
            ]
            weights[cell.group][
                groups[cell.group].edges.index(edge), edge.primitives.index(link.primitive)
            ] = 1
    return Mixture(weights, {name: w > 0 for name, w in weights.items()})


def plain_regulariser(alphas: dict, groups, strength: float) -> torch.Tensor:
    """``none`` on average in NAS-Bench-201, the sum of all weight-free ops in the DARTS space."""
    if "cell" in groups:
        return strength * alphas["cell"][:, 0].abs().mean()
    free = [
        groups["normal"].edges[0].primitives.index(name)
        for name in ("max_pool_3x3", "avg_pool_3x3", "skip_connect")
    ]
    return strength * sum(alphas[name][:, free].abs().sum() for name in ("normal", "reduce"))


@torch.no_grad()
def plain_sgd(
    named: dict, buffers: dict, whose: str, lr: float, decay: float, clip: float
) -> float:
    """Clipped as one set, decay, momentum 0.9; what has no gradient stays as it is. The norm before."""
    norm = math.sqrt(
        sum(p.grad.square().sum().item() for p in named.values() if p.grad is not None)
    )
    for name, p in named.items():
        if p.grad is not None:
            g = p.grad * min(1.0, clip / (norm + 1e-6)) + decay * p
            buffers[whose, name] = buffers[whose, name] * 0.9 + g if (whose, name) in buffers else g
            p -= lr * buffers[whose, name]
    return norm


@torch.no_grad()
def plain_adam(alphas: dict, buffers: dict, t: int, lr: float) -> None:
    for name, a in alphas.items():
        m, v = buffers.get(name, (0.0, 0.0))
        m, v = 0.5 * m + 0.5 * a.grad, 0.999 * v + 0.001 * a.grad**2
        buffers[name] = (m, v)
        a -= lr * (m / (1 - 0.5**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)


STEP = [
    ("nasbench201", {}),
    ("darts", {}),
    ("nasbench201", {"merge": "sum", "fix_heads": False}),
    ("darts", {"distance": "smooth_l1", "share_fc": True}),
    ("nasbench201", {"divide": True, "strength": 0.25}),
    ("nasbench201", {"mean": "all", "tau": 3.0}),
    ("nasbench201", {"detach_teacher": True, "fix_heads": False}),
    (
        "nasbench201",
        {"detach_teacher": True, "share_fc": True, "ensemble": "fixed", "bn_affine": True},
    ),
    ("darts", {"preset": "released"}),
    ("nasbench201", {"strength": 0.0}),
]


@pytest.mark.parametrize(("name", "options"), STEP, ids=str)
def test_two_joint_steps_worked_out_plainly(name, options):
    """A lap each, so that the regulariser falls between them; in float64, with clipping at work in both sets."""
    m = made(name, {"weights": {"clip": 0.3}}, pretrain=0, warmup=0, joint=2, share=0.5, **options)
    state = started(m, dtype=torch.float64)
    o = (
        {"distance": "smooth_l1", "divide": True, "times": 3}
        if options.get("preset") == "released"
        else options
    )
    nets, groups = copy.deepcopy(state.nets), state.space.groups
    assert nets["search"].stem is nets["evaluation"].stem
    alphas = {group: a.detach().clone().requires_grad_() for group, a in state.alphas.items()}
    one_hot, buffers, moments = plain_one_hot(state.genotype, groups), {}, {}
    strength, gone = o.get("strength", 1.0), EPOCHS * 2 * 2 / 3
    for t in range(2):
        train, val = batches(torch.float64, t)
        values = m.step(state, train, val)

        search, evaluation = (
            nets["search"](val.images, plain_mixture(alphas)),
            nets["evaluation"](val.images, one_hot),
        )
        student, teacher = (
            plain_answer(nets["heads"], output, o.get("merge") == "sum")
            for output in (search, evaluation)
        )
        apart = (
            strength
            * plain_distance(student, teacher.detach() if o.get("detach_teacher") else teacher, o)
            if strength
            else torch.zeros(())
        )
        labels = plain_cross_entropy(search.logits, val.labels) + plain_cross_entropy(
            evaluation.logits, val.labels
        )
        regulariser = plain_regulariser(alphas, groups, 5 * o.get("times", 1) * (1 - t / gone))
        (labels / (strength if o.get("divide") else 1) + apart + regulariser).backward()
        named = {
            f"{net}.{key}": p
            for net in ("evaluation", "heads")
            for key, p in nets[net].named_parameters()
        }
        norms = [plain_sgd(named, buffers, "E", 0.08, 3e-4, 0.3)]
        plain_adam(alphas, moments, t + 1, 3e-4)
        for p in (*nets["search"].parameters(), *named.values(), *alphas.values()):
            p.grad = None  # what w_S and fc_S received

        mixture = plain_mixture({group: a.detach() for group, a in alphas.items()})
        plain_cross_entropy(nets["search"](train.images, mixture).logits, train.labels).backward()
        norms.append(
            plain_sgd(dict(nets["search"].named_parameters()), buffers, "S", 0.08, 3e-4, 0.3)
        )
        for p in nets["search"].parameters():
            p.grad = None

        assert min(norms) > 0.3  # both were clipped
        close = {"rtol": 0, "atol": 1e-10}
        assert (values["distillation"] - apart).abs() < 1e-10 and (
            values["regulariser"] - regulariser
        ).abs() < 1e-10
        for group in alphas:
            torch.testing.assert_close(state.alphas[group], alphas[group], **close)
        for net in nets:
            torch.testing.assert_close(
                dict(state.nets[net].named_parameters()),
                dict(nets[net].named_parameters()),
                **close,
            )
    assert regulariser > 0 and (apart > 0) == (strength > 0)


@pytest.mark.parametrize("phase", ["pretraining", "warm-up"])
def test_steps_of_one_network_worked_out_plainly(phase):
    """S learns from training images under its mixture, E from validation images under the genotype."""
    m = made("nasbench201", {"weights": {"clip": 0.3}}, pretrain=1)
    state = started(m, phase, torch.float64)
    train, val = batches(torch.float64)
    nets = copy.deepcopy(state.nets)
    if phase == "pretraining":
        net, batch, mixture = (
            nets["search"],
            train,
            plain_mixture({name: a.detach() for name, a in state.alphas.items()}),
        )
    else:
        net, batch, mixture = (
            nets["evaluation"],
            val,
            plain_one_hot(state.genotype, state.space.groups),
        )
    loss = plain_cross_entropy(net(batch.images, mixture).logits, batch.labels)
    loss.backward()
    assert plain_sgd(dict(net.named_parameters()), {}, phase, 0.08, 3e-4, 0.3) > 0.3
    values, prefix = m.step(state, train, val), {"pretraining": "train", "warm-up": "warmup"}[phase]
    assert values.keys() == {f"{prefix}_loss", f"{prefix}_accuracy"}
    torch.testing.assert_close(values[f"{prefix}_loss"], loss.detach(), rtol=0, atol=1e-10)
    for name in nets:
        torch.testing.assert_close(
            dict(state.nets[name].named_parameters()),
            dict(nets[name].named_parameters()),
            rtol=0,
            atol=1e-10,
        )


# What lives on from cycle to cycle.


def chosen(state, genotype: Genotype) -> None:
    """Alphas that select it."""
    for name, weights in plain_one_hot(genotype, state.space.groups).weights.items():
        state.alphas[name].data.copy_(3 * weights)


def cell(group: str, concat, *links) -> CellGenotype:
    return CellGenotype(group, tuple(Link(*link) for link in links), concat)


SEP, DIL, POOL, SKIP = "sep_conv_3x3", "dil_conv_5x5", "max_pool_3x3", "skip_connect"
# Of three cycles. Node 2 keeps both its edges throughout; of node 3 one op leaves in the second cycle, and comes back in the third.
DARTS = [
    [(0, 2, SEP), (1, 2, DIL), (0, 3, SEP), (2, 3, DIL)],
    [(0, 2, SEP), (1, 2, DIL), (1, 3, SEP), (2, 3, DIL)],
    [(0, 2, SEP), (1, 2, DIL), (0, 3, SEP), (2, 3, DIL)],
]
THREE, ONE = "nor_conv_3x3", "nor_conv_1x1"
CELLS = [
    [(0, 1, THREE), (0, 2, ONE), (1, 2, THREE), (0, 3, ONE), (1, 3, THREE), (2, 3, THREE)],
    [(0, 1, THREE), (0, 2, ONE), (1, 2, THREE), (0, 3, THREE), (1, 3, SKIP), (2, 3, THREE)],
    [(0, 1, THREE), (0, 2, ONE), (1, 2, THREE), (0, 3, ONE), (1, 3, THREE), (2, 3, THREE)],
]
CYCLES = {
    "darts": [
        Genotype((cell("normal", (2, 3), *links), cell("reduce", (2, 3), *links)))
        for links in DARTS
    ],
    "nasbench201": [Genotype((cell("cell", (3,), *links),)) for links in CELLS],
}


def trained(state) -> dict[tuple, list[torch.Tensor]]:
    """The weights of every op of E, by (group, edge, primitive)."""
    net = state.nets["evaluation"]
    found = {}
    for name, group in state.space.groups.items():
        for e, edge in enumerate(group.edges):
            for primitive in edge.primitives:
                weights = [
                    p.detach().clone()
                    for op in net.ops(name, e, primitive)
                    for p in op.parameters()
                ]
                found |= {(name, (edge.source, edge.target), primitive): weights} if weights else {}
    return found


def linked(genotype: Genotype) -> set[tuple]:
    return {
        (cell.group, (source, target), primitive)
        for cell in genotype.cells
        for source, target, primitive in cell.links
    }


@pytest.mark.parametrize("keep", [False, True], ids=["fresh optimizers", "kept optimizers"])
@pytest.mark.parametrize("name", CYCLES)
def test_weights_live_on_from_cycle_to_cycle(name, keep):
    """Every op kept goes on from what it was, on both edges of every node; one that pauses keeps what it had; the others never moved."""
    m = made(name, pretrain=0, joint=1, keep_optimizers=keep)
    data = Noise(per_epoch=STEPS)
    state = initial_state(m, data, EPOCHS, seed=1)
    after = trained(state)
    for genotype in CYCLES[name]:
        chosen(state, genotype)
        m.begin_epoch(state)
        assert linked(state.genotype) == linked(genotype)
        assert same(trained(state), after)  # nothing is built anew, nothing lost
        assert not any(optimizer.state for optimizer in state.optimizers.values()) or (
            keep and state.epoch
        )
        streams = (
            data.batches(split, state.epoch, 0, m.steps(state)) for split in ("train", "val")
        )
        before, active = after, linked(genotype)
        for train, val in zip(*streams, strict=True):
            m.step(state, train, val)
            assert linked(state.genotype) == linked(
                genotype
            )  # of the cycle, whatever the alphas say by now
        after = trained(state)
        for op, weights in after.items():
            assert same(weights, before[op]) == (op not in active), op
        m.end_epoch(state, data)
    assert len(active & set(after)) == sum(
        len(links.links) for links in genotype.cells
    )  # each link had weights to lose


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in SPACES]
    + [("darts", {"bn_affine": True, "pool_bn": True}), ("nasbench201", {"bn_affine": True})],
    ids=str,
)
def test_the_evaluation_network_is_the_derived_one(name, options):
    """Bit for bit, with its weights by name, in training mode and by running statistics."""
    m = made(name, pretrain=0, joint=1, **options)
    state = run(m, epochs=1).state
    net, weights = state.nets["evaluation"], state.nets["evaluation"].state_dict()
    sizes = {
        "channels": 2,
        "cells": {"nasbench201": 1, "darts": 4, "s1": 3}[name],
        "affine": options.get("bn_affine", False),
        "track": True,
    }
    sizes |= {} if name == "nasbench201" else {"pool_bn": options.get("pool_bn", False)}
    network = m.base.derive(state.genotype, **sizes).network
    assert network.state_dict().keys() < weights.keys()
    network.load_state_dict({key: weights[key] for key in network.state_dict()})
    images = next(Noise().batches("val", 9)).images
    for train in (True, False):
        with torch.no_grad():
            ours, theirs = (
                net.train(train)(images, state.genotype.one_hot(state.space.groups)),
                network.train(train)(images),
            )
        assert torch.equal(ours.logits, theirs.logits) and same(ours.features, theirs.features), (
            train
        )


def test_both_networks_of_a_chain_are_equally_deep():
    with pytest.raises(
        ValueError,
        match="the depth of space 'nasbenchmacro' is searched, so both networks of cdarts share it",
    ):
        method("cdarts", space("nasbenchmacro", channels=2, classes=4), depth=2.0).start(
            seed=0, epochs=4, steps=3
        )
