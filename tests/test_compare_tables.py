"""What may be said of a few seeds: statistics by hand, tables from summaries, and the pages that hold them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from archgrad.compare import difference, markdown, spread, study, summary, tables
from archgrad.compare.jobs import Home, runs_of
from archgrad.config import read_yaml

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path.parent for path in (ROOT / "benchmarks" / "studies").glob("*/study.yaml"))



def test_mean_and_bootstrap_interval_by_hand():
    """All 256 resamples of 90, 92, 94, 96: the mean is 90.5 or less in 5 of them (under 2.5 %), 91 or less in 15 (over it)."""
    found = spread([90, 92, 94, 96])
    assert (found.n, found.mean, found.low, found.high) == (4, 93, 91, 95) and found.sd == pytest.approx(math.sqrt(20 / 3))
    assert spread([90, 92, 94, 96]) == found  # seeded
    assert spread([3.0]).to_json() == {"n": 1, "mean": 3.0, "sd": None, "low": None, "high": None}
    assert spread([2.0, 2.0]).to_json() == {"n": 2, "mean": 2.0, "sd": 0.0, "low": 2.0, "high": 2.0}


def test_paired_difference_by_hand():
    """t(0.975, 3) = 3.18245; differences 1, 2, 1, 2 have sd 0.57735, and 1, -2, 3, -1 have 2.21736."""
    control = {1: 90.0, 2: 92.0, 3: 94.0, 4: 96.0}
    clear = difference({4: 98.0, 3: 95.0, 2: 94.0, 1: 91.0, 5: 0.0}, control)
    assert clear is not None and clear.n == 4 and clear.clear is True
    assert (clear.mean, clear.low, clear.high) == pytest.approx((1.5, 1.5 - 0.918693, 1.5 + 0.918693), abs=1e-5)
    noise = difference({1: 91.0, 2: 90.0, 3: 97.0, 4: 95.0}, control)
    assert noise is not None and noise.clear is False
    assert (noise.mean, noise.low, noise.high) == pytest.approx((0.25, 0.25 - 3.528308, 0.25 + 3.528308), abs=1e-5)


def test_what_cannot_be_judged_is_not():
    assert difference({1: 1.0}, {2: 1.0}) is None
    one = difference({1: 3.0}, {1: 1.0})
    assert one is not None and (one.mean, one.low, one.clear) == (2.0, None, None)
    same = difference({1: 0.3, 2: 0.1 + 0.2}, {1: 0.0, 2: 0.0})  # equal but for rounding
    assert same is not None and same.sd == 0 and same.clear is None


def made(arm: str, seed: int, accuracy: float, **final: float) -> summary.Summary:
    return {"arm": arm, "seed": seed, "final": {"cifar10_test": accuracy, **final}, "seconds": 10.0 * seed, "benchmark": BAR}


BAR = [{"cell": "found", "cifar10_test": 1.0}, {"cell": "all nor_conv_3x3", "cifar10_test": 93.76, "rank": 166}]
MADE = [
    *(made("darts", seed, value, entropy=1.0 + seed / 10) for seed, value in enumerate((90, 92, 94, 96), 1)),
    *(made("cold", seed, value, entropy=0.1) for seed, value in enumerate((91, 94, 95, 98), 1)),
    *(made("random", seed, value) for seed, value in enumerate((91, 90, 97), 1)),
]


def test_markdown():
    assert markdown(MADE, "darts", ["darts", "cold"]) == """\
| arm | seeds | CIFAR-10 |
|---|---|---|
| darts | 1 to 4 | 93.00 (91.00 to 95.00) |
| cold | 1 to 4 | 94.50 (92.00 to 97.00) |
| random | 1 to 3 | 92.67 (90.00 to 97.00) |
| all nor_conv_3x3 | - | 93.76 |
| cold, minus darts | paired | **+1.500 ± 0.9187** |
| random, minus darts | paired | +0.6667 ± 6.252 |

| arm | seeds | entropy, nats | seconds |
|---|---|---|---|
| darts | 1 to 4 | 1.250 (1.150 to 1.350) | 25.00 (15.00 to 35.00) |
| cold | 1 to 4 | 0.1000 (0.1000 to 0.1000) | 25.00 (15.00 to 35.00) |
| random | 1 to 3 | - | 20.00 (10.00 to 30.00) |
| cold, minus darts | paired | **-1.150 ± 0.2054** | 0.0000 |
| random, minus darts | paired | - | 0.0000 |
"""


def test_the_terminal_says_what_is_noise(capsys):
    Console(width=80).print(tables.table(tables.comparison(MADE, "darts", ["darts", "cold"])))
    shown = capsys.readouterr().out
    assert re.search(r"cold .*\+1\.500 ± 0\.9187 .*clear", shown) and re.search(r"random .*\+0\.6667 ± 6\.252 .*noise", shown)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_recorded_studies_stand_in_the_results(folder):
    """Once all its runs are there, a study's tables stand in docs/results.md as they follow from its summaries."""
    whole = study.read(read_yaml(folder / "study.yaml"))
    if all(one.done for one in runs_of(whole, Home(folder))):
        found = summary.read_all(folder / "summaries")
        for table in markdown(found, whole.control, tuple(whole.arms)).split("\n\n"):
            assert table.strip() in (ROOT / "docs" / "results.md").read_text("utf-8")
        recorded = json.loads((folder / "compare.json").read_text())
        assert recorded == tables.comparison(found, whole.control, tuple(whole.arms)).to_json()
