"""The bundled NAS-Bench-201 table says what the benchmark's papers say."""

import json

import numpy as np
import pytest

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.tabular import benchmark_of, nasbench201, nasbenchmacro
from archgrad.tabular.nasbench201 import ACCURACIES, OPS, conv3x3, query, table, verdict

SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"


def test_the_table_is_whole():
    rows = table()
    assert len(rows) == len(rows.row) == 15625
    assert {tuple(ops) for ops in rows.ops.tolist()} == set(np.ndindex(*[len(OPS)] * 6))
    assert set(rows.accuracy) == {*ACCURACIES, "cifar10_valid_12_epochs"}
    for column in rows.accuracy.values():
        assert column.shape == (15625,)
        assert 0 < column.min() < column.max() < 100


def test_known_accuracies():
    rows = table()
    assert [
        rows.best_accuracy(f"{images}_test") for images in ("cifar10", "cifar100", "imagenet16")
    ] == [
        94.373,
        73.513,
        47.311,
    ]
    assert int((rows.accuracy["cifar10_test"] >= 94.0).sum()) == 43
    skips = query(SKIPS)  # what first-order DARTS finds
    assert (
        round(skips["cifar10_test"], 2),
        round(skips["cifar100_test"], 2),
        round(skips["imagenet16_test"], 2),
    ) == (
        54.30,
        15.61,
        16.32,
    )
    assert query(conv3x3())["cifar10_test"] == 93.76
    assert rows.genotype(0) == Genotype.parse(
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    assert query(rows.genotype(0))["cifar10_test"] == 85.863


def test_params_and_macs_follow_from_the_ops():
    """A 3x3 convolution with its BN costs 9 C^2 + 2 C, a 1x1 one C^2 + 2 C, in 5 cells of each of three widths."""
    rows, widths = table(), np.array([16, 32, 64])
    per_op = {
        op: 5 * int((size * widths**2 + 2 * widths).sum()) if size else 0
        for op, size in zip(OPS, (0, 0, 1, 9, 0))
    }
    bare = query(SKIPS)["params"]
    cost = np.array([per_op[op] for op in OPS])[rows.ops].sum(1)
    assert np.array_equal(rows.params, bare + cost)
    # size * C^2 * H * W multiply-adds per op and cell; the source rounds to thousands
    macs = sum(5 * c * c * side * side for c, side in ((16, 32), (32, 16), (64, 8)))
    per_op_macs = np.array([0, 0, macs, 9 * macs, 0])
    assert np.abs(rows.macs - query(SKIPS)["macs"] - per_op_macs[rows.ops].sum(1)).max() <= 1000


def test_rank_and_distance():
    rows = table()
    best = query(rows.genotype(int(rows.accuracy["cifar10_test"].argmax())))
    assert (best["rank"], best["of"], best["distance"]) == (1, 15625, 0.0)
    bar = query(conv3x3())
    assert bar["rank"] == 1 + sum(
        accuracy > 93.76 for accuracy in rows.accuracy["cifar10_test"].tolist()
    )
    assert bar["distance"] == 0.613
    worst = query(rows.genotype(int(rows.accuracy["cifar10_test"].argmin())))
    assert worst["rank"] + worst["tied"] == 15625


def test_a_query_is_plain_json_and_takes_any_notation():
    found = query(SKIPS)
    assert json.loads(json.dumps(found)) == found
    assert found["arch"] == SKIPS
    shuffled = CellGenotype("cell", tuple(reversed(Genotype.parse(SKIPS).cells[0].links)), (3,))
    assert (
        query(Genotype((shuffled,))) == query(json.dumps(Genotype.parse(SKIPS).to_json())) == found
    )


@pytest.mark.parametrize("index", [0, 1, 7777, 15624])
def test_every_index_leads_back_to_itself(index):
    assert query(table().genotype(index))["index"] == index


def test_verdict_sets_the_bar_beside_the_find():
    found, bar = verdict(SKIPS)
    assert (found["cell"], found["cifar10_test"]) == ("found", 54.297)
    assert (bar["cell"], bar["cifar10_test"]) == ("all nor_conv_3x3", 93.76)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("DARTS_V2", "one group 'cell', not 'normal', 'reduce'"),
        ("|none~0|+|none~0|none~1|", "six edges"),
        (SKIPS.replace("skip_connect~2", "skip_conect~2"), "did you mean 'skip_connect'"),
        (Genotype((CellGenotype("cell", (Link(0, 1, "none"),) * 6, (3,)),)), "six edges"),
        (Genotype(()), "not none"),
        ("|none~0|+|none", "node 2"),
    ],
)
def test_what_is_no_cell_is_refused_in_one_line(wrong, says):
    with pytest.raises(ValueError) as error:
        query(wrong)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_index_out_of_range():
    with pytest.raises(ValueError, match="0 to 15624, not -1"):
        table().genotype(-1)


def test_lookup_by_space():
    assert benchmark_of("nasbench201") is nasbench201
    assert benchmark_of("nasbenchmacro") is nasbenchmacro
    assert benchmark_of("darts") is None


def test_nas_bench_macro_says_what_its_authors_published():
    """data/nas-bench-macro_cifar10.json: "22212220" is the best, "22222222" the largest."""
    rows = nasbenchmacro.table()
    assert len(rows) == 6561 and rows.test.shape == (6561, 3)
    best, bar = nasbenchmacro.query("22212220"), nasbenchmacro.query(nasbenchmacro.largest())
    assert (best["rank"], best["distance"], best["cifar10_test"], best["params"], best["macs"]) == (
        1,
        0.0,
        93.127,
        1985514,
        85164544,
    )
    assert (bar["arch"], bar["cifar10_test"], bar["rank"], bar["params"]) == (
        "22222222",
        92.953,
        21,
        2932586,
    )
    assert rows.params.max() == bar["params"] and rows.macs.max() == bar["macs"]
    assert rows.test[int("02012100", 3)].tolist() == [89.47, 88.95, 89.17]
    found, beside, *_ = nasbenchmacro.verdict("02012100")
    assert (found["cell"], found["cifar10_test"], beside["cell"]) == ("found", 89.197, "all mb6_k5")
    assert json.loads(json.dumps(best)) == best
    assert nasbenchmacro.standing({"cifar10_test": rows.accuracy.max()})["cifar10_regret"] == 0
    assert nasbenchmacro.standing({}) == {}


def test_networks_that_are_the_same_were_trained_once():
    rows = nasbenchmacro.table()
    names = [str(rows.genotype(index)) for index in range(len(rows))]
    assert len({nasbenchmacro.trained(name) for name in names}) == 3969
    assert (
        nasbenchmacro.trained("01020012") == "01020012"
        and nasbenchmacro.trained("00102002") == "00120020"
    )
    for index, name in enumerate(names):
        assert np.array_equal(rows.test[index], rows.test[int(nasbenchmacro.trained(name), 3)])


@pytest.mark.parametrize("wrong", ["DARTS_V2", "CDARTS_A", "mb3_k3|mb3_k3"])
def test_other_genotypes_are_no_networks_of_nas_bench_macro(wrong):
    with pytest.raises(ValueError, match="8 layers in stages of 2, 3, 3"):
        nasbenchmacro.query(wrong)
