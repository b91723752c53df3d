from __future__ import annotations

from collections import Counter

import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.links import Link
from archgrad.arch.mixture import Mixture
from archgrad.components.select import strongest_genotype, uniform_genotype

OPS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


def cell(*edges, **options):
    return {"normal": EdgeGroup("normal", tuple(edges), concat=(2, 3), **options)}


def test_hand_worked_cell():
    """Two inputs a node by their strongest visible op; `none` counts for nothing, however strong; ties go to the lower index."""
    groups = cell(*(Edge(s, t, OPS) for t in (2, 3) for s in range(t)), keep=2)
    weights = torch.tensor(
        [
            [0.70, 0.10, 0.15, 0.05],  # 0 -> 2
            [0.10, 0.40, 0.40, 0.10],  # 1 -> 2: a tie of max_pool and skip
            [0.97, 0.01, 0.01, 0.01],  # 0 -> 3: weakest, for all its `none`
            [0.25, 0.25, 0.20, 0.30],  # 1 -> 3
            [0.25, 0.15, 0.30, 0.30],  # 2 -> 3: ties with 1 -> 3, both are kept
        ]
    )
    (found,) = strongest_genotype(Mixture({"normal": weights}), groups).cells
    assert found.links == (
        Link(0, 2, "skip_connect"), Link(1, 2, "max_pool_3x3"), Link(1, 3, "sep_conv_3x3"), Link(2, 3, "skip_connect"),
    )  # fmt: skip
    assert found.concat == (2, 3)


def test_edges_tie_to_the_lower_index():
    groups = cell(*(Edge(s, 3, OPS[1:]) for s in range(3)), keep=2)
    (found,) = strongest_genotype(Mixture({"normal": torch.full((3, 3), 1 / 3)}), groups).cells
    assert found.links == (Link(0, 3, "max_pool_3x3"), Link(1, 3, "max_pool_3x3"))


def test_all_edges_and_nothing_hidden_is_the_argmax():
    groups = {
        "cell": EdgeGroup(
            "cell", (Edge(0, 1, OPS), Edge(0, 2, OPS), Edge(1, 2, OPS)), concat=(2,), hidden=()
        )
    }
    (found,) = strongest_genotype(Mixture({"cell": torch.eye(4)[[0, 3, 2]]}), groups).cells
    assert found.links == (
        Link(0, 1, "none"),
        Link(0, 2, "sep_conv_3x3"),
        Link(1, 2, "skip_connect"),
    )


def test_ragged_removed_and_hidden_only_edges():
    groups = cell(
        Edge(0, 2, ("skip_connect",)),
        Edge(1, 2, ()),
        Edge(0, 3, ("none",)),
        Edge(1, 3, ("none", "skip_connect")),
        keep=2,
    )
    weights = torch.tensor(
        [[1.0, 9.0], [9.0, 9.0], [1.0, 9.0], [0.9, 0.1]]
    )  # 9: padding, which must not be read
    (found,) = strongest_genotype(Mixture({"normal": weights}), groups).cells
    assert found.links == (
        Link(0, 2, "skip_connect"),
        Link(0, 3, "none"),
        Link(1, 3, "skip_connect"),
    )


def test_several_ops_an_edge_and_cells_that_differ():
    groups = cell(Edge(0, 2, OPS), pick=2)
    two = torch.tensor(
        [[[0.0, 0.0, 0.2, 0.8]], [[0.0, 0.6, 0.4, 0.0]]]
    )  # the mean over cells: 0, .3, .3, .4
    (found,) = strongest_genotype(Mixture({"normal": two}), groups).cells
    assert found.links == (Link(0, 2, "sep_conv_3x3"), Link(0, 2, "max_pool_3x3"))


def test_uniform_draws_are_uniform_and_a_function_of_the_place():
    groups = cell(*(Edge(s, 3, OPS) for s in range(3)), keep=2)
    assert (
        uniform_genotype(groups, 1, "x")
        == uniform_genotype(groups, 1, "x")
        != uniform_genotype(groups, 2, "x")
    )
    draws = [uniform_genotype(groups, seed) for seed in range(600)]
    inputs = Counter(link.source for g in draws for link in g.cells[0].links)
    ops = Counter(link.primitive for g in draws for link in g.cells[0].links)
    assert all(abs(inputs[s] - 400) < 60 for s in range(3)) and set(ops) == set(OPS[1:])
    assert all(abs(ops[p] - 400) < 60 for p in OPS[1:])
    unequal = cell(
        Edge(0, 3, OPS), Edge(1, 3, OPS[2:3]), keep=1
    )  # an edge with many ops is not drawn more often
    assert (
        abs(sum(uniform_genotype(unequal, s).cells[0].links[0].source for s in range(600)) - 300)
        < 60
    )
