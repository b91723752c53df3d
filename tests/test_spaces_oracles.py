"""Counts that must come out exactly: the official networks, the published genotypes, the NAS-Bench-201 table."""

import csv
import gzip
import io
from importlib.resources import files

import pytest
import torch

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.published import published
from archgrad.cost.counting import count
from archgrad.spaces import space
from archgrad.spaces.darts import EIGHT
from archgrad.spaces.nasbench201 import ENDS, FIVE

# Parameters at C=36, 20 cells for CIFAR-10 and CIFAR-100, at C=48, 14 cells for ImageNet; MACs (M) on CIFAR-10.
COUNTS = {
    "DARTS_V1": (3_169_414, 3_221_344, 4_510_432, 500.99),
    "DARTS_V2": (3_349_342, 3_401_272, 4_718_752, 528.36),
    "PDARTS": (3_433_798, 3_485_728, 4_944_352, 532.17),
    "PCDARTS": (3_634_678, 3_686_608, 5_270_560, 556.67),
    "CDARTS": (3_859_318, 3_911_248, 5_493_856, 590.07),
}
AUXILIARY = {"DARTS_V1": 3_645_840, "DARTS_V2": 3_825_768}
IMAGENET = {"channels": 48, "cells": 14, "classes": 1000, "stem": "imagenet"}


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def derived(made, genotype, **options):
    with torch.device("meta"):
        return made.derive(genotype, **options)


def test_darts_supernet():
    assert parameters(space("darts").supernet()) == 1_930_618


def test_counting_leaves_the_network_as_it_is():
    network = space("nasbench201", channels=4, cells=1).supernet()
    network.blocks.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    by_formula = (
        16 * 16 * 9 * 3 * 4
        + 64 * 9 * (4 * 8 + 8 * 8)
        + 64 * 4 * 8
        + 16 * 9 * (8 * 16 + 16 * 16)
        + 16 * 8 * 16
        + 16 * 10
    )
    by_formula += sum(
        6 * side * side * (1 + 9) * channels**2 for side, channels in ((16, 4), (8, 8), (4, 16))
    )
    assert count(network, 16)["macs"] == by_formula
    assert network.training and network.cells[0].training and not network.blocks[0].training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", COUNTS)
def test_derived_darts_networks(name):
    made, genotype = space("darts"), Genotype.parse(name)
    cifar10, cifar100, imagenet, macs = COUNTS[name]
    cost = count(derived(made, genotype), 32)
    assert cost["params"] == cifar10 and round(cost["macs"] / 1e6, 2) == macs
    assert parameters(derived(made, genotype, classes=100)) == cifar100
    assert parameters(derived(made, genotype, **IMAGENET)) == imagenet
    if name in AUXILIARY:
        assert count(derived(made, genotype, auxiliary=True), 32) == {
            "params": AUXILIARY[name],
            "macs": cost["macs"],
        }


def standard(genotype):
    """In the eight primitives or noise, one op an edge, and two inputs a node at most."""
    names = {link.primitive for cell in genotype.cells for link in cell.links}
    edges = [
        (cell.group, link.source, link.target) for cell in genotype.cells for link in cell.links
    ]
    inputs = [edge[::2] for edge in edges]
    return (
        names <= {*EIGHT, "noise"}
        and len(set(edges)) == len(edges)
        and all(inputs.count(edge) <= 2 for edge in inputs)
    )


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_published_genotypes_run_or_are_refused_by_what_they_have(every):
    ran, refused = set(), []
    for entry in published()[::every]:
        try:
            genotype = Genotype(entry.cells)
        except ValueError:
            continue
        nodes = max(link.target for cell in genotype.cells for link in cell.links) - 1
        made = space("darts", primitives=(*EIGHT, "noise"), nodes=max(nodes, 4), classes=3)
        if standard(genotype):
            if genotype not in ran:
                logits = made.derive(genotype, channels=2, cells=3)(torch.randn(2, 3, 8, 8))
                assert logits.shape == (2, 3) and logits.isfinite().all()
            ran.add(genotype)
        else:
            chains = r"the genotype has the cells \['stage1_1'"
            with pytest.raises(
                ValueError,
                match=rf"has no primitive '|has \d ops, the space allows 1|has \d inputs|{chains}",
            ):
                made.derive(genotype)
            refused.append(entry.qualified_name)
    assert len(ran) > 150 / every and len(refused) > 10 / every


def test_unconnected_nodes_leave_the_cell():
    """FairDARTS's cells: a node without inputs is not concatenated, and what would read it falls away."""
    links = (Link(0, 2, "skip_connect"), Link(3, 4, "sep_conv_3x3"), Link(2, 5, "skip_connect"))
    genotype = Genotype(
        tuple(CellGenotype(group, links, (2, 3, 4, 5)) for group in ("normal", "reduce"))
    )
    network = space("darts").derive(genotype, channels=4, cells=3)
    assert network.network.feature_channels == (16, 32, 32)
    assert not any("sep_conv" in name for name, _ in network.named_parameters())
    assert network(torch.randn(2, 3, 9, 9)).isfinite().all()
    empty = Genotype(tuple(CellGenotype(group, (), (2, 3, 4, 5)) for group in ("normal", "reduce")))
    assert (
        space("darts").derive(empty, channels=4, cells=3)(torch.randn(2, 3, 9, 9)).isfinite().all()
    )


def test_genotypes_concatenation_is_honoured():
    links = tuple(
        Link(source, target, "max_pool_3x3") for target in range(2, 6) for source in (0, 1)
    )
    genotype = Genotype(
        (CellGenotype("normal", links, (4, 5)), CellGenotype("reduce", links, (3, 4, 5)))
    )
    assert space("darts").derive(genotype, channels=4, cells=4).network.feature_channels == (
        24,
        48,
        32,
    )


def test_genotypes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="has no primitive"):
        space("s1").derive(Genotype.parse("DARTS_V1"))
    with pytest.raises(ValueError, match="the space has"):
        space("nasbench201").derive(Genotype.parse("DARTS_V1"))
    with pytest.raises(ValueError, match="unknown option 'chanels': did you mean 'channels'"):
        space("darts").derive(Genotype.parse("DARTS_V1"), chanels=4)


@pytest.mark.parametrize("cells", [1, 2, 3, 5, 8])
def test_reductions_and_stages_at_every_depth(cells):
    made = space("darts", channels=2, cells=cells, auxiliary=True)
    net = made.supernet()
    halvings = len({cells // 3, 2 * cells // 3})
    assert (made.groups["normal"].cells, made.groups["reduce"].cells) == (
        cells - halvings,
        halvings,
    )
    output = net(torch.randn(2, 3, 16, 16))
    assert [f.shape[1] for f in output.features] == list(
        net.feature_channels
    ) and output.auxiliary.shape == (2, 10)
    assert output.features[-1].shape[1:] == (8 * 2**halvings, 16 // 2**halvings, 16 // 2**halvings)
    assert net.eval()(torch.randn(2, 3, 16, 16)).auxiliary is None


@pytest.mark.parametrize(
    ("stem", "size"),
    [
        ("cifar", 8),
        ("cifar", 33),
        ("cifar", 64),
        ("imagenet", 9),
        ("imagenet", 96),
        ("imagenet", 224),
    ],
)
def test_stems_and_auxiliary_heads_adapt(stem, size):
    net = space("darts", channels=2, cells=3, nodes=2, stem=stem, auxiliary=True).supernet()
    output = net(torch.randn(2, 3, size, size))
    assert (
        output.logits.shape == output.auxiliary.shape == (2, 10)
        and output.auxiliary.isfinite().all()
    )


@pytest.mark.parametrize(
    "every", [623, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(0)])]
)
def test_nasbench201_table(every):
    """Every 623rd row: 26 cells; the slow one all 15,625, half an hour."""
    data = files("archgrad.data_files").joinpath("nasbench201.csv.gz").read_bytes()
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(data).decode())))
    made = space("nasbench201")
    for row in rows[::every]:
        links = tuple(
            Link(source, target, FIVE[int(op)]) for (source, target), op in zip(ENDS, row["ops"])
        )
        cost = count(derived(made, Genotype((CellGenotype("cell", links, (3,)),))), 32)
        assert f"{cost['params'] / 1e6:.6f}" == f"{float(row['params_M']):.6f}"
        assert abs(cost["macs"] / 1e6 - float(row["macs_M"])) < 6e-4
