"""FairDARTS: its zero-one loss by hand, its gradient as the paper has it, and what its threshold selects."""

import math
from types import SimpleNamespace

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.links import Link
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Progress
from archgrad.components.relax import sigmoid
from archgrad.components.select import strongest_genotype
from archgrad.methods import method
from archgrad.methods.fairdarts import select_above, zero_one
from archgrad.spaces import space
from archgrad.spaces.cells import Cell
from archgrad.spaces.primitives import Style, primitive
from searching import DATA, run

NAMES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
RAGGED = {
    "one": EdgeGroup(
        "one", (Edge(0, 1, ("none", "a", "b")), Edge(0, 2, ("a",)), Edge(1, 2, ())), (2,)
    ),
    "two": EdgeGroup("two", (Edge(0, 1, ("none", "b")),), (1,), hidden=()),
}


def at(groups):
    return Context(groups, Progress(0, 0, 50, 3, 0, 50), "alpha", {}, 0)


def logit(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize(
    ("power", "expected"),
    [(2, -(0.4**2 + 0.25**2 + 0 + 0.5**2) / 4), (1, -(0.4 + 0.25 + 0 + 0.5) / 4)],
)
def test_zero_one_loss_by_hand(power, expected):
    """Over the ops of both groups together. The logits of `none` and of padding are 3: they must not count."""
    alphas = {
        "one": torch.tensor(
            [[3.0, logit(0.9), logit(0.25)], [0.0, 3.0, 3.0], [3.0, 3.0, 3.0]], requires_grad=True
        ),
        "two": torch.tensor([[3.0, -200.0]], requires_grad=True),
    }
    loss = zero_one(power)(SimpleNamespace(alphas=alphas, context=at(RAGGED)))
    assert loss.item() == pytest.approx(expected)
    assert (
        zero_one(power)(
            SimpleNamespace(alphas={"two": torch.zeros(1, 2)}, context=at({"two": RAGGED["two"]}))
        ).item()
        == 0
    )
    first, _ = torch.autograd.grad(loss, list(alphas.values()))
    assert first[0, 1] < 0 < first[0, 2]  # away from 1/2
    assert not first[0, 0] and not first[1, 1:].any() and not first[2].any()


def test_gradient_of_the_alphas_is_the_papers():
    """L = |node|^2 / 2 - s mean (sigma(a) - 1/2)^2 with node = sum sigma(a_k) o_k(x):
    dL/da_k = sigma'(a_k) (<node, o_k> - 2 s (sigma(a_k) - 1/2) / n), n ops without `none`, which has no gradient at all."""
    torch.manual_seed(0)
    group = EdgeGroup("one", (Edge(0, 1, NAMES),), (1,))
    cell = Cell(group, [torch.nn.Identity()], 4, 1, Style()).double()
    x, a = torch.randn(3, 4, 8, 8).double(), {"one": torch.randn(1, 4).double().requires_grad_()}
    context = at({"one": group})
    loss = cell([x], sigmoid(a, context).cell("one", 0)).square().sum() / 2
    loss = loss + 10 * zero_one(2)(SimpleNamespace(alphas=a, context=context))
    (found,) = torch.autograd.grad(loss, a["one"])
    with torch.no_grad():
        ops = [
            cell.ops(0, name)(x.relu() if primitive(name, 1).rectified else x) for name in NAMES[1:]
        ]
        s = a["one"][0, 1:].sigmoid()
        node = sum(s_k * o for s_k, o in zip(s, ops))
        expected = (
            s * (1 - s) * (torch.stack([(node * o).sum() for o in ops]) - 2 * 10 * (s - 0.5) / 3)
        )
    torch.testing.assert_close(found[0, 1:], expected, rtol=1e-10, atol=1e-10)
    assert found[0, 0] == 0


def test_ops_do_not_compete_and_padding_weighs_nothing():
    a = torch.tensor([[2.0, 2.0, 2.0], [2.0, 2.0, 2.0], [2.0, 2.0, 2.0]], requires_grad=True)
    weights = sigmoid({"one": a}, at({"one": RAGGED["one"]})).weights["one"]
    s = 1 / (1 + math.exp(-2))
    torch.testing.assert_close(weights, torch.tensor([[s, s, s], [s, 0, 0], [0, 0, 0]]))
    (found,) = torch.autograd.grad(weights[0, 1], a)
    assert (found != 0).sum() == 1


def rows(space_, strong, weak=0.3):
    """Mixture weights: those of ``strong`` {(group, source, target, primitive): weight}, the rest ``weak``."""
    weights = {
        name: torch.full((len(group.edges), group.width), weak)
        for name, group in space_.groups.items()
    }
    for (name, source, target, op), value in strong.items():
        group = space_.groups[name]
        e = [(edge.source, edge.target) for edge in group.edges].index((source, target))
        weights[name][e, group.edges[e].primitives.index(op)] = value
    return Mixture(weights)


def links(genotype, group):
    return next(cell.links for cell in genotype.cells if cell.group == group)


def test_a_node_keeps_its_two_strongest_above_the_threshold_and_may_keep_none():
    darts = space("darts", channels=4, cells=3, nodes=3, classes=4)
    strong = {
        ("normal", 0, 2, "none"): 0.99,  # never
        ("normal", 0, 2, "skip_connect"): 0.9,
        ("normal", 0, 2, "sep_conv_3x3"): 0.91,  # one op an edge
        ("normal", 1, 2, "sep_conv_5x5"): 0.85,  # at the threshold
        ("normal", 0, 4, "max_pool_3x3"): 0.86,  # the third of its node
        ("normal", 1, 4, "max_pool_3x3"): 0.88,
        ("normal", 2, 4, "max_pool_3x3"): 0.87,
        ("reduce", 1, 3, "dil_conv_3x3"): 0.95,
    }
    genotype = select_above(0.85)(rows(darts, strong), darts.groups)
    assert links(genotype, "normal") == (
        Link(0, 2, "sep_conv_3x3"),
        Link(1, 2, "sep_conv_5x5"),
        Link(1, 4, "max_pool_3x3"),
        Link(2, 4, "max_pool_3x3"),
    )
    assert links(genotype, "reduce") == (Link(1, 3, "dil_conv_3x3"),)
    genotype.check(darts.groups)
    net = darts.derive(genotype, channels=4, cells=3)
    assert {cell.group: cell.concat for cell in genotype.cells} == {
        "normal": (2, 3, 4),
        "reduce": (2, 3, 4),
    }  # the supernet's
    assert net.space.concat == {
        "normal": (2, 4),
        "reduce": (3,),
    }  # nodes nothing leads to leave the derived network
    assert net(next(DATA.evaluation("val")).images).shape == (8, 4)


@pytest.mark.parametrize(
    "strong", [{}, {("normal", 2, 3, "skip_connect"): 0.9, ("normal", 0, 2, "none"): 0.99}]
)
def test_a_cell_nothing_would_reach_is_selected_without_the_threshold(strong):
    """An op behind a node without inputs reaches nothing either. The other cell keeps its threshold."""
    darts = space("darts", channels=4, cells=3, nodes=2, classes=4)
    mixture = rows(
        darts,
        strong | {("reduce", 0, 2, "skip_connect"): 0.9, ("normal", 0, 3, "sep_conv_3x3"): 0.5},
    )
    genotype = select_above(0.85)(mixture, darts.groups)
    assert len(links(genotype, "normal")) == 4 and Link(0, 3, "sep_conv_3x3") in links(
        genotype, "normal"
    )
    assert links(genotype, "reduce") == (Link(0, 2, "skip_connect"),)
    darts.derive(genotype, channels=4, cells=3)


def test_in_nasbench201_an_edge_below_the_threshold_is_none():
    bench = space("nasbench201", channels=4, cells=1, classes=4)
    strong = {
        ("cell", 0, 3, "nor_conv_3x3"): 0.9,
        ("cell", 1, 2, "none"): 0.8,
        ("cell", 1, 2, "skip_connect"): 0.7,
    }
    genotype = select_above(0.85)(rows(bench, strong), bench.groups)
    assert str(genotype) == "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    bench.derive(genotype)
    none = select_above(0.85)(rows(bench, {("cell", 1, 2, "skip_connect"): 0.7}), bench.groups)
    assert (
        str(none)
        == "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    )
    fewer = bench.resized(
        primitives=("skip_connect", "nor_conv_3x3")
    )  # without `none` every edge keeps its strongest
    assert "none" not in str(
        select_above(0.85)(rows(fewer, {("cell", 0, 3, "nor_conv_3x3"): 0.9}), fewer.groups)
    )


def test_threshold_0_is_darts_selection_of_visible_ops():
    torch.manual_seed(0)
    darts = space("s1", channels=4, cells=3)
    mixture = Mixture(
        {name: torch.rand(len(group.edges), group.width) for name, group in darts.groups.items()}
    )
    assert select_above(0.0)(mixture, darts.groups) == strongest_genotype(mixture, darts.groups)


def test_settings_of_the_authors_and_the_loss_drives_apart():
    made = method("fairdarts", space("nasbench201", channels=4, cells=1, classes=4))
    assert (
        made.alphas.lr,
        made.alphas.beta1,
        made.alphas.decay,
        made.alphas.init,
        made.weights.lr,
    ) == (3e-3, 0.9, 1e-3, 0.0, 0.005)
    assert not made.start(seed=0, epochs=4, steps=3).alphas["cell"].any()
    far = []
    for strength in (0.0, 100.0):
        found = run(
            method(
                "fairdarts",
                space("nasbench201", channels=4, cells=1, classes=4),
                strength=strength,
                alphas={"init": 0.1},
            )
        )
        far.append((found.state.alphas["cell"].sigmoid() - 0.5).square().mean().item())
    assert far[0] < far[1]
