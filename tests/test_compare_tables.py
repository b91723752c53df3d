"""What may be said of a few seeds: statistics by hand, tables from summaries, and the pages that hold them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from archgrad.compare import (
    comparison,
    difference,
    pages,
    selection,
    spread,
    study,
    summary,
    tables,
    to_markdown,
    trajectory,
)
from archgrad.compare.jobs import StudyFolder, runs_of
from archgrad.compare.statistics import Difference, holm
from archgrad.compare.tidy import tidy_csv
from archgrad.run.config import read_yaml
from archgrad.tabular import nasbench201

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path.parent for path in (ROOT / "benchmarks" / "studies").glob("*/study.yaml"))


def test_mean_and_bootstrap_interval_by_hand():
    """All 256 resamples of 90, 92, 94, 96: the mean is 90.5 or less in 5 of them (under 2.5 %), 91 or less in 15 (over it)."""
    found = spread([90, 92, 94, 96])
    assert (found.n, found.mean, found.low, found.high) == (
        4,
        93,
        91,
        95,
    ) and found.sd == pytest.approx(math.sqrt(20 / 3))
    assert spread([90, 92, 94, 96]) == found  # seeded
    assert spread([3.0]).to_json() == {"n": 1, "mean": 3.0, "sd": None, "low": None, "high": None}
    assert spread([2.0, 2.0]).to_json() == {"n": 2, "mean": 2.0, "sd": 0.0, "low": 2.0, "high": 2.0}


def test_paired_difference_by_hand():
    """t(0.975, 3) = 3.18245; differences 1, 2, 1, 2 have sd 0.57735, and 1, -2, 3, -1 have 2.21736."""
    control = {1: 90.0, 2: 92.0, 3: 94.0, 4: 96.0}
    clear = difference({4: 98.0, 3: 95.0, 2: 94.0, 1: 91.0, 5: 0.0}, control)
    assert clear is not None and clear.n == 4 and clear.is_clear is True
    assert (clear.mean, clear.low, clear.high) == pytest.approx(
        (1.5, 1.5 - 0.918693, 1.5 + 0.918693), abs=1e-5
    )
    noise = difference({1: 91.0, 2: 90.0, 3: 97.0, 4: 95.0}, control)
    assert noise is not None and noise.is_clear is False
    assert (noise.mean, noise.low, noise.high) == pytest.approx(
        (0.25, 0.25 - 3.528308, 0.25 + 3.528308), abs=1e-5
    )


def test_p_values_by_hand_and_their_correction():
    """t = 1.5 / (0.57735 / 2) = 5.19615 of three degrees of freedom: p = 0.013847."""
    clear = difference({1: 91.0, 2: 94.0, 3: 95.0, 4: 98.0}, {1: 90.0, 2: 92.0, 3: 94.0, 4: 96.0})
    assert (
        clear is not None
        and clear.p == pytest.approx(0.013847, abs=1e-6)
        and clear.corrected == clear.p
    )

    def of(p: float | None) -> Difference:
        return Difference(4, 1.0, 1.0, 0.0, 2.0, p=p, corrected=p)

    found = holm(
        {"a": of(0.04), "b": of(0.01), "c": of(0.03), "none": of(None)}
    )  # 3 * 0.01; 2 * 0.03; 1 * 0.04, but no less than before
    assert {arm: one.corrected for arm, one in found.items()} == pytest.approx(
        {"a": 0.06, "b": 0.03, "c": 0.06, "none": None}
    )
    assert [found[arm].is_clear for arm in ("a", "b", "c", "none")] == [
        False,
        True,
        False,
        None,
    ] and found["a"].p == 0.04
    assert holm({"a": of(0.7), "b": of(0.8)})["a"].corrected == 1.0
    assert holm({}) == {}


def test_a_difference_without_a_test_has_no_p_value():
    assert difference({1: 1.0}, {2: 1.0}) is None
    one = difference({1: 3.0}, {1: 1.0})
    assert one is not None and (one.mean, one.low, one.is_clear) == (2.0, None, None)
    same = difference({1: 0.3, 2: 0.1 + 0.2}, {1: 0.0, 2: 0.0})  # equal but for rounding
    assert same is not None and same.sd == 0 and same.is_clear is None


CONVS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
BAR = [
    {"cell": "found", "cifar10_test": 1.0},
    {"cell": "all nor_conv_3x3", "cifar10_test": 93.76, "rank": 166},
]


def made(arm: str, seed: int, accuracy: float, **final: float) -> summary.Summary:
    return {
        "arm": arm,
        "seed": seed,
        "config": {"space": {"name": "nasbench201"}, "search": {"epochs": 3}},
        "final": {"cifar10_test": accuracy, **final},
        "seconds": 10.0 * seed,
        "benchmark": BAR,
        "genotype": {"text": CONVS},
        "epochs": {
            "genotype": [SKIPS, CONVS],
            "discrete_accuracy": [None, accuracy / 100],
        },  # stopped early
    }


MADE = [
    *(
        made("darts", seed, value, entropy=1.0 + seed / 10)
        for seed, value in enumerate((90, 92, 94, 96), 1)
    ),
    *(made("cold", seed, value, entropy=0.1) for seed, value in enumerate((91, 94, 95, 98), 1)),
    *(made("random", seed, value) for seed, value in enumerate((91, 90, 97), 1)),
]


def test_markdown():
    text = to_markdown(
        MADE, "darts", ["darts", "cold"], {"random": {4: "it broke"}, "gone": {1: "it broke"}}
    )
    assert (
        text
        == """\
| arm | seeds | CIFAR-10 |
|---|---|---|
| darts | 1 to 4 | 93.00 (91.00 to 95.00) |
| cold | 1 to 4 | 94.50 (92.00 to 97.00) |
| random | 1 to 3 (1 failed) | 92.67 (90.00 to 97.00) |
| gone | none (1 failed) | - |
| all nor_conv_3x3 | - | 93.76 |
| cold, minus darts | paired | **+1.500 ± 0.9187** |
| random, minus darts | paired | +0.6667 ± 6.252 |

| arm | seeds | regret, CIFAR-10 | over the average, %, CIFAR-10 |
|---|---|---|---|
| darts | 1 to 4 | 0.1877 (-0.0857 to 0.4610) | 6.827 (4.530 to 9.125) |
| cold | 1 to 4 | -0.0174 (-0.3590 to 0.3243) | 8.550 (5.679 to 11.42) |
| random | 1 to 3 (1 failed) | 0.2332 (-0.3590 to 0.5977) | 6.444 (3.381 to 11.42) |
| gone | none (1 failed) | - | - |
| all nor_conv_3x3 | - | 0.0838 | 7.700 |

| arm | seeds | true test accuracy, %, mean over the epochs |
|---|---|---|
| darts | 1 to 4 | 80.61 (80.61 to 80.61) |
| cold | 1 to 4 | 80.61 (80.61 to 80.61) |
| random | 1 to 3 (1 failed) | 80.61 (80.61 to 80.61) |
| gone | none (1 failed) | - |
| cold, minus darts | paired | 0.0000 |
| random, minus darts | paired | 0.0000 |

| CIFAR-10, of the genotype | after epoch 1 | after epoch 2 | after epoch 3 |
|---|---|---|---|
| darts | 54.30 (54.30 to 54.30) | 93.76 (93.76 to 93.76) | 93.76 (93.76 to 93.76) |
| cold | 54.30 (54.30 to 54.30) | 93.76 (93.76 to 93.76) | 93.76 (93.76 to 93.76) |
| random | 54.30 (54.30 to 54.30) | 93.76 (93.76 to 93.76) | 93.76 (93.76 to 93.76) |

| best by validation | seed | validation accuracy | CIFAR-10 |
|---|---|---|---|
| darts | 4 | 0.9600 | 96.00 |
| cold | 4 | 0.9800 | 98.00 |
| random | 3 | 0.9700 | 97.00 |

| arm | seeds | entropy, nats |
|---|---|---|
| darts | 1 to 4 | 1.250 (1.150 to 1.350) |
| cold | 1 to 4 | 0.1000 (0.1000 to 0.1000) |
| random | 1 to 3 (1 failed) | - |
| gone | none (1 failed) | - |
| cold, minus darts | paired | **-1.150 ± 0.2054** |

| arm | seeds | seconds | seconds, times darts |
|---|---|---|---|
| darts | 1 to 4 | 25.00 (15.00 to 35.00) | 1.000 (1.000 to 1.000) |
| cold | 1 to 4 | 25.00 (15.00 to 35.00) | 1.000 (1.000 to 1.000) |
| random | 1 to 3 (1 failed) | 20.00 (10.00 to 30.00) | 1.000 (1.000 to 1.000) |
| gone | none (1 failed) | - | - |
| cold, minus darts | paired | 0.0000 | - |
| random, minus darts | paired | 0.0000 | - |
"""
    )


def test_where_a_cell_stands():
    """0 is the best cell, 1 the average one, by the whole table."""
    columns = nasbench201.table().accuracy
    best, average = max(columns["cifar10_test"]), sum(columns["cifar10_test"]) / 15_625
    found = nasbench201.standing({"cifar10_test": 93.76, "entropy": 1.0})
    assert found == pytest.approx(
        {
            "cifar10_regret": (best - 93.76) / (best - average),
            "cifar10_relative": 100 * (93.76 / average - 1),
        }
    )
    assert (
        nasbench201.standing({"cifar100_test": float(max(columns["cifar100_test"]))})[
            "cifar100_regret"
        ]
        == 0
    )
    table = nasbench201.table()  # the cell of six convolutions is the largest as well
    largest = nasbench201.query(nasbench201.conv3x3())
    assert (table.params >= largest["params"]).sum() == 1 == (table.macs >= largest["macs"]).sum()


def test_a_trajectory_has_what_would_be_found():
    """Three epochs planned, two done: the last stands for the third. Of draws the best one that was judged."""
    one = made("darts", 1, 90.0)
    assert trajectory.of_run(one, nasbench201) == [54.297, 93.76, 93.76]
    drawn = one | {"epochs": {"genotype": [SKIPS, CONVS, CONVS], "draw_accuracy": [0.3, None, 0.2]}}
    assert trajectory.of_run(drawn, nasbench201) == [54.297] * 3
    assert trajectory.of_run(one | {"epochs": {}}, nasbench201) == []
    blind = [each | {"benchmark": None, "final": {"entropy": 1.0}} for each in MADE]
    found = comparison(blind, "darts")
    assert (
        found.trajectory is None
        and not found.bars
        and not [name for name in found.spreads if "regret" in name or "test" in name]
    )


def test_selection_is_by_validation_alone():
    rows = [
        {"genotype": "a", "discrete_accuracy": 0.5},
        {"genotype": "b", "discrete_accuracy": 0.4},
    ]
    assert selection.validation("b", rows) == 0.4  # of the last epoch
    assert (
        selection.validation("a", rows) is None
    )  # what a finalisation chose otherwise was not measured
    assert (
        selection.validation("a", rows, [{"note": {"accuracy": 0.1}}, {"note": {"accuracy": 0.7}}])
        == 0.7
    )
    assert selection.validation("a", rows, [{"note": {"edge": 3}}]) is None
    drawn = [
        {"genotype": "a", "draw_accuracy": 0.6},
        {"genotype": "b", "draw_accuracy": 0.5, "discrete_accuracy": 0.5},
    ]
    assert selection.validation("a", drawn) == 0.6
    runs = [
        made("darts", 1, 95.0, validation=0.5),
        made("darts", 2, 90.0, validation=0.6),
        made("darts", 3, 99.0, validation=0.6),
    ]
    (best,) = comparison(runs, "darts").best.values()
    assert (best.seed, best.validation, best.measures) == (
        2,
        0.6,
        {"cifar10_test": 90.0},
    )  # the first of equals, whatever the test says


def test_the_csv_has_a_row_for_each_arm_seed_and_measure():
    lines = tidy_csv(
        [MADE[0] | {"retrained": {"runs": [{"test": 80.0}, {"test": 82.0}]}}],
        "darts",
        {"cold": {2: "it broke"}},
    ).splitlines()
    assert lines[:2] == ["arm,seed,measure,value", "cold,2,failed,1"]
    assert {
        "darts,1,cifar10_test,90",
        "darts,1,retrained_test,81.0",
        "darts,1,retrained_test_2,82.0",
        "darts,1,seconds_times,1.0",
    } <= {*lines}
    assert len({line.rsplit(",", 1)[0] for line in lines}) == len(lines)


def test_the_terminal_says_what_is_noise(capsys):
    Console(width=tables.WIDTH).print(
        tables.table(comparison(MADE, "darts", ["darts", "cold"], {"gone": {1: "it broke"}}))
    )
    shown = capsys.readouterr().out
    assert re.search(r"cold .*\+1\.500 ± 0\.9187 .*clear, p 0\.028", shown) and re.search(
        r"random .*\+0\.6667 ± 6\.252 .*noise, p 0\.69", shown
    )
    assert (
        re.search(r"gone +0 \(1 failed\) +- ", shown) and "Failed: gone, seed 1: it broke." in shown
    )
    assert "No test image took part in the choice" in " ".join(shown.split())


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_recorded_studies_stand_in_the_results(folder, monkeypatch):
    """Once all its runs are there, a study's tables stand on its page in docs/studies as they follow from its summaries."""
    whole = study.read(read_yaml(folder / "study.yaml"), recorded=True)
    if all(one.is_done for one in runs_of(whole, StudyFolder(folder))):
        found = summary.read_all(folder / "summaries")
        compared = comparison(found, whole.control, tuple(whole.arms))  # takes seconds
        monkeypatch.setattr(pages, "comparison", lambda *arguments: compared)
        for table in to_markdown(found, whole.control, tuple(whole.arms)).split("\n\n"):
            assert table.strip() in (ROOT / "docs" / "studies" / f"{folder.name}.md").read_text(
                "utf-8"
            )
        recorded = json.loads((folder / "compare.json").read_text())
        assert recorded == json.loads(json.dumps(compared.to_json()))
        assert (folder / "compare.csv").read_text() == tidy_csv(found, whole.control)
