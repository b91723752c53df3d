"""P-DARTS: its stages, what each keeps and how long its alphas rest, dropout behind skips, and cells of few skips."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.links import Link
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Progress
from archgrad.components.relax import softmax
from archgrad.components.schedules import constant
from archgrad.components.select import strongest_genotype
from archgrad.methods import method
from archgrad.methods.pdarts import dropout_behind_skips, select_with_few_skips
from archgrad.methods.stages import InitialCells, strongest_primitives
from archgrad.searching.start import initial_alphas, initialise
from archgrad.searching.steps import set_learning_rate
from archgrad.spaces import space
from archgrad.spaces.cells import Cell
from archgrad.spaces.primitives import Style, primitive
from searching import content, run, same

SMALL = {"channels": 2, "cells": 3, "nodes": 2, "classes": 4}
NAMES = ("max_pool_3x3", "sep_conv_3x3", "skip_connect")


def at(groups, epoch=0, epochs=75, phase="weight"):
    begins = [0, round(epochs / 3), round(2 * epochs / 3), epochs]
    born = max(begin for begin in begins[:-1] if begin <= epoch)
    return Context(
        groups,
        Progress(epoch, 0, epochs, 3, born, min(end for end in begins if end > born)),
        phase,
        {},
        0,
    )


def test_gradient_of_the_alphas_is_the_papers():
    """L = |node|^2 / 2, node = sum p_k o_k, the skip behind dropout: dL/da_k = p_k (<node, o_k> - sum_j p_j <node, o_j>)."""
    torch.manual_seed(0)
    group = EdgeGroup("one", (Edge(0, 1, NAMES),), (1,))
    cell = Cell(group, [torch.nn.Identity()], 4, 1, Style()).double()
    x, a = torch.randn(3, 4, 8, 8).double(), {"one": torch.randn(1, 3).double().requires_grad_()}
    context = at({"one": group})
    mixture = dropout_behind_skips(constant(0.4))(softmax(a, context), a, context)
    torch.manual_seed(1)
    loss = cell([x], mixture.cell("one", 0)).square().sum() / 2
    (found,) = torch.autograd.grad(loss, a["one"])
    with torch.no_grad():
        torch.manual_seed(1)
        ops = [
            cell.ops(0, name)(x.relu() if primitive(name, 1).rectified else x) for name in NAMES[:2]
        ] + [F.dropout(x, 0.4)]
        p = a["one"][0].softmax(0)
        node = sum(p_k * o for p_k, o in zip(p, ops))
        slopes = torch.stack([(node * o).sum() for o in ops])
    torch.testing.assert_close(found[0], p * (slopes - (p * slopes).sum()), rtol=1e-10, atol=1e-10)


def test_an_edge_keeps_its_strongest_ops():
    """The strongest, in their order; `none` like any; the first of equals; small and removed edges as they are."""
    five = ("none", "a", "b", "c", "d")
    group = EdgeGroup(
        "g",
        (
            Edge(0, 1, five),
            Edge(0, 2, five),
            Edge(1, 2, ("a", "b")),
            Edge(0, 3, ()),
            Edge(1, 3, five),
        ),
    )
    alphas = torch.tensor(
        [
            [0.1, 0.5, 0.4, 0.3, -0.2],
            [0.9, 0.1, 0.1, 0.1, 0.1],
            [-3.0, -4.0, 0.0, 0.0, 0.0],
            [0.0] * 5,
            [-1.0, -5.0, -2.0, -3.0, -4.0],
        ]
    )
    assert strongest_primitives(group, alphas, 3) == (
        ("a", "b", "c"),
        ("none", "a", "b"),
        ("a", "b"),
        (),
        ("none", "b", "c"),
    )
    assert strongest_primitives(group, alphas, 5) == (five, five, ("a", "b"), (), five)


@pytest.mark.parametrize(
    ("name", "cells", "depths", "sizes"),
    [
        ("darts", 8, [5, 11, 17], [8, 5, 3]),
        (
            "darts",
            4,
            [3, 6, 8],
            [8, 5, 3],
        ),  # 2 would both reduce, and pruning read alphas of no cell
        ("darts", 3, [3, 4, 6], [8, 5, 3]),
        ("s1", 8, [5, 11, 17], [2, 2, 2]),
        ("nasbench201", 5, [5, 5, 5], [5, 4, 3]),
    ],
)
def test_depth_and_ops_of_the_stages(name, cells, depths, sizes):
    base = space(name, cells=cells)
    made, state = (
        method("pdarts", base),
        SimpleNamespace(space=base, alphas={}, memory={"pdarts": InitialCells()}),
    )
    state.memory["pdarts"].bind(state)
    for stage, depth, size in zip(made.stages, depths, sizes, strict=True):
        state.alphas = initial_alphas(state.space, {}, 1.0, 0, torch.device("cpu"))
        state.space = stage.change(made, state)
        assert state.space.cells == depth and all(
            group.cells for group in state.space.groups.values()
        )
        assert {
            len(edge.primitives) for group in state.space.groups.values() for edge in group.edges
        } == {size}
    assert (
        name == "s1"
        or len({edge.primitives for edge in next(iter(state.space.groups.values())).edges}) > 1
    )  # each edge by itself


def test_a_stage_starts_anew():
    """From fresh weights, alphas and optimizers, over the ops strongest in the one before. Alphas rest in two fifths of each."""
    made = method("pdarts", space("darts", **SMALL))
    state = made.start(seed=1, epochs=15, steps=3)
    moves, rates = [], []
    for epoch in range(15):
        state.epoch = epoch
        before, alphas = state.space, {name: a.detach() for name, a in state.alphas.items()}
        made.begin_epoch(state)
        moves.append(made.moves_alphas(state))
        set_learning_rate(made, state, "weights")
        rates.append(state.optimizers["weights"].param_groups[0]["lr"])
        if epoch in (5, 10):
            fresh = initialise(state.space.supernet(), 1)
            assert same(dict(state.nets["search"].state_dict()), dict(fresh.state_dict()))
            assert same(state.alphas, initial_alphas(state.space, {}, 1e-3, 1, state.device))
            assert not state.optimizers["alphas"].state
            for name, group in state.space.groups.items():
                assert tuple(edge.primitives for edge in group.edges) == strongest_primitives(
                    before.groups[name], alphas[name], {5: 5, 10: 3}[epoch]
                )
        with torch.no_grad():
            for a in (*state.alphas.values(), *state.nets["search"].parameters()):
                a.add_(torch.rand(a.shape, generator=torch.Generator().manual_seed(epoch)))
    assert moves == ([False] * 2 + [True] * 3) * 3
    assert rates[:5] == rates[5:10] == rates[10:] and rates[0] == 0.025 and rates[4] < 0.003


def test_dropout_is_the_authors():
    """25 epochs a stage, 10 at rest; initial rates 0, 0.4 and 0.7."""
    rate = method("pdarts", space("darts")).patch.scalars["skip_dropout"]
    found = [rate(at({}, epoch)) for epoch in range(75)]
    assert found[:25] == [0.0] * 25
    for begin, p in ((25, 0.4), (50, 0.7)):
        expected = [p * (25 - epoch - 1) / 25 for epoch in range(10)] + [
            p * math.exp(-(epoch - 10) * 0.2) for epoch in range(10, 25)
        ]
        assert found[begin : begin + 25] == pytest.approx(expected)
    assert rate(at({}, 52, 150)) == pytest.approx(
        0.4 * (1 - 3 / 50)
    )  # a search of another length: the same over its shares
    assert rate(at({}, 75, 150)) == pytest.approx(0.4 * math.exp(-0.2 * 2.5))


def test_dropout_is_behind_skips_and_not_in_what_is_read_off():
    reshape = dropout_behind_skips(constant(0.4))
    mixture = Mixture({}, dropout={"avg_pool_3x3": 0.1})
    assert reshape(mixture, {}, at({})).dropout == {"avg_pool_3x3": 0.1, "skip_connect": 0.4}
    assert reshape(mixture, {}, at({}, phase="readout")) is mixture
    assert dropout_behind_skips(constant(0.0))(mixture, {}, at({})) is mixture


def cell_of(rows, name="normal", keep=2, hidden=("none",)):
    """Edges 0_2, 1_2, 0_3, 1_3, 2_3 of (none, skip, sep), and their weights."""
    ends = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    ops = ("none", "skip_connect", "sep_conv_3x3")
    group = EdgeGroup(
        name, tuple(Edge(s, t, ops) for s, t in ends), (2, 3), keep=keep, hidden=hidden
    )
    return Mixture({name: torch.tensor(rows)}), {name: group}


ROWS = [[0.1, 0.6, 0.3], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4], [0.1, 0.8, 0.1], [0.3, 0.2, 0.5]]


def test_at_most_two_skips():
    """DARTS takes the skips 0_2, 1_2, 1_3 (and of 0_3 and 2_3 the first). The weakest, 0_3 (0.5), falls: 2_3 has a convolution of 0.5.
    Then 0_2 (0.6): it must stay as its node's second input, with its convolution."""
    mixture, groups = cell_of(ROWS)
    skip, sep = "skip_connect", "sep_conv_3x3"
    assert strongest_genotype(mixture, groups).cells[0].links == (
        Link(0, 2, skip),
        Link(1, 2, skip),
        Link(0, 3, skip),
        Link(1, 3, skip),
    )
    assert select_with_few_skips(3)(mixture, groups).cells[0].links == (
        Link(0, 2, skip),
        Link(1, 2, skip),
        Link(1, 3, skip),
        Link(2, 3, sep),
    )
    assert select_with_few_skips(2)(mixture, groups).cells[0].links == (
        Link(0, 2, sep),
        Link(1, 2, skip),
        Link(1, 3, skip),
        Link(2, 3, sep),
    )
    assert select_with_few_skips(0)(mixture, groups).cells[0].links == (
        Link(0, 2, sep),
        Link(1, 2, sep),
        Link(0, 3, sep),
        Link(2, 3, sep),
    )
    assert select_with_few_skips(4)(mixture, groups) == strongest_genotype(mixture, groups)
    assert (
        mixture.weights["normal"].tolist() == torch.tensor(ROWS).tolist()
    )  # looked at, not touched


def test_reduction_cells_keep_their_skips_and_an_edge_that_has_nothing_else_too():
    mixture, groups = cell_of(ROWS, "reduce")
    assert select_with_few_skips(2)(mixture, groups) == strongest_genotype(mixture, groups)
    only = {
        "normal": EdgeGroup(
            "normal", tuple(Edge(s, 3, ("skip_connect",)) for s in range(3)), (3,), keep=2
        )
    }
    assert select_with_few_skips(0)(
        Mixture({"normal": torch.ones(3, 1)}), only
    ) == strongest_genotype(Mixture({"normal": torch.ones(3, 1)}), only)


def test_where_every_edge_stays_its_next_op_takes_over():
    mixture, groups = cell_of(ROWS, "cell", keep=None, hidden=())
    found = [link.primitive for link in select_with_few_skips(2)(mixture, groups).cells[0].links]
    assert found == ["sep_conv_3x3", "skip_connect", "sep_conv_3x3", "skip_connect", "sep_conv_3x3"]


def test_one_stage_without_anything_is_darts_bit_for_bit():
    settled = {"weights": {"lr_end": 0.001}, "alphas": {"lr": 3e-4}}
    none = {"keep": (), "depth": (1.0,), "dropout": (0.0,), "rest": 0.0, "skips": None}
    base = space("nasbench201", channels=2, cells=1, classes=4)
    made = [method(name, base, **settled, **own) for name, own in (("darts", {}), ("pdarts", none))]
    plain, neutral = (content(one, run(one).state) | {"memory": {}} for one in made)
    assert same(plain, neutral)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError,
        match=r"no room for its 3 stages: more epochs, or fewer stages by --pdarts\.keep",
    ):
        run(method("pdarts", space("darts", **SMALL)), epochs=2)
    with pytest.raises(
        ValueError, match=r"a value for each of the 2 stages that pdarts\.keep makes"
    ):
        method("pdarts", space("darts", **SMALL), keep=(3,))


@pytest.mark.parametrize("times", [2.0, 1.0])
def test_a_chain_keeps_its_depth_or_says_so_before_the_search(times):
    made = method("pdarts", space("nasbenchmacro", channels=2, classes=4), depth=(1.0, times))
    if times == 1:
        assert [
            len(group.edges[0].primitives) for group in run(made).state.space.groups.values()
        ] == [2] * 8
        return
    with pytest.raises(
        ValueError,
        match="the depth of space 'nasbenchmacro' is searched, so no stage has 2 times its cells",
    ):
        made.begin_epoch(made.start(seed=0, epochs=4, steps=3))
