"""What ops add up to is what the derived network has, counted: of random genotypes, and of the whole NAS-Bench-201 table."""

from __future__ import annotations

import csv
import gzip
import io
from importlib.resources import files

import numpy as np
import pytest
import torch

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.components.select import uniform_genotype
from archgrad.cost.cost import expected
from archgrad.cost.counting import costs, count
from archgrad.spaces import SPACES, space
from archgrad.spaces.nasbench201 import ENDS, FIVE


@pytest.mark.parametrize("name", SPACES)
def test_what_ops_add_up_to_is_what_the_derived_network_has(name):
    made = space(name, in_channels=2, classes=7)
    options = {"channels": 8} | ({"cells": 4} if "cells" in made.spec() else {})
    found = costs(made, (20, 33), **options)
    for place in range(3):
        genotype = uniform_genotype(made.groups, place)
        with torch.device("meta"):
            counted = count(made.derive(genotype, **options), (20, 33), 2)
        assert {kind: cost.sum_over_ops(genotype) for kind, cost in found.items()} == counted
        assert place or {kind: cost.value_of(genotype) for kind, cost in found.items()} == counted


def test_options_are_those_of_derive():
    made = space("darts", channels=8, partial_channels=2, extras=("skip_connect",))
    options = {"channels": 6, "cells": 5, "classes": 100, "stem": "imagenet"}
    genotype, found = uniform_genotype(made.groups, 1), costs(made, 64, **options)
    with torch.device("meta"):
        counted = count(made.derive(genotype, **options), 64)
    assert {kind: cost.sum_over_ops(genotype) for kind, cost in found.items()} == counted


def test_every_row_of_the_nasbench201_table():
    text = gzip.decompress(
        files("archgrad.data_files").joinpath("nasbench201.csv.gz").read_bytes()
    ).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    ops = np.array([[int(digit) for digit in row["ops"]] for row in rows])
    for kind, column in (("params", "params_M"), ("macs", "macs_M")):  # of 6 and 3 decimals
        cost = costs(space("nasbench201"), 32)[kind]
        values = np.array(
            [
                [cost.ops["cell"][source, target, primitive] for primitive in FIVE]
                for source, target in ENDS
            ]
        )
        found = cost.base + values[np.arange(6), ops].sum(1)
        written = np.array([float(row[column]) for row in rows])
        assert np.abs(found / 1e6 - written).max() < {"params": 1e-9, "macs": 0.000501}[kind]
    assert len(rows) == 15_625


def test_a_sum_is_an_upper_bound_where_nodes_are_left_out():
    made = space("darts")
    found = costs(made, 32, cells=4, channels=8)
    links = (Link(0, 2, "sep_conv_3x3"), Link(0, 3, "skip_connect"), Link(1, 3, "dil_conv_5x5"))
    sparse = Genotype(tuple(CellGenotype(group, links, (2, 3, 4, 5)) for group in made.groups))
    for cost in found.values():
        assert cost.value_of(sparse) < cost.sum_over_ops(sparse)


def test_the_expected_cost_of_a_search_has_the_gradient_of_its_alphas():
    made = space("s1")
    cost = costs(made, 32, cells=3, channels=4)["macs"]
    alphas = [torch.randn(14, 2, dtype=torch.float64, requires_grad=True) for _ in made.groups]
    masks = [group.mask() for group in made.groups.values()]

    def value(*alphas):
        rows = [
            alpha.masked_fill(~mask, float("-inf")).softmax(1) for alpha, mask in zip(alphas, masks)
        ]
        return expected(cost, Mixture(dict(zip(made.groups, rows))), made.groups) / 1e6

    assert torch.autograd.gradcheck(value, alphas)
