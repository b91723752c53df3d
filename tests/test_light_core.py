"""The core of archgrad works without the packages of its extras, and names the extra that is missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from archgrad.extras import EXTRAS

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
CORE = {"torch", "numpy", "scipy", "pydantic", "pyyaml", "rich", "safetensors", "lazy-loader"}

WITHOUT_EXTRAS = """
import sys
from archgrad.extras import EXTRAS

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in EXTRAS and EXTRA in ("", EXTRAS[top]):
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
"""

OWN_SEARCH = """
import torch
from torch import nn
import archgrad

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = archgrad.Choice({"wide": nn.Linear(6, 6), "skip": nn.Identity()})
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.block(x))

space = archgrad.module_space(Net, torch.zeros(1, 6))
search = archgrad.Search(space, "stdarts", epochs=2, steps=1, budget="macs=60%")
batch = torch.randn(4, 6), torch.tensor([0, 1, 0, 1])
while not search.is_over:
    search.step(batch, batch)
print(search.genotype, search.costs()["macs"], type(search.derive().block).__name__)
"""


def run(code: str, extra: str = "") -> subprocess.CompletedProcess[str]:
    """Run code where the packages of one extra, or of all, cannot be imported."""
    code = f"EXTRA = {extra!r}\n{WITHOUT_EXTRAS}{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def name_of(requirement: str) -> str:
    return requirement.partition(">")[0].partition("=")[0].strip().lower()


def test_an_own_module_is_searched_derived_and_counted_without_any_extra():
    found = run(OWN_SEARCH)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split()[-2:] == ["12", "Identity"]


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import archgrad; archgrad.load('digits')", "images"),
        ("import archgrad; archgrad.Genotype.parse('DARTS_V2')._repr_svg_()", "report"),
        ("from archgrad.retraining.measure import fabric; fabric('cpu', '32')", "train"),
        ("from archgrad.__main__ import main; sys.exit(main())", "cli"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(code, extra):
    found = run(code, extra)
    assert found.returncode
    assert f"pip install 'archgrad[{extra}]'" in found.stderr.splitlines()[-1], found.stderr


def test_the_core_requires_no_more_and_every_other_package_has_an_extra():
    assert {name_of(one) for one in PROJECT["dependencies"]} == CORE
    extras = PROJECT["optional-dependencies"]
    used = {extra for extra in EXTRAS.values()}
    assert extras["all"] == [
        f"archgrad[{','.join(dict.fromkeys(('images', 'train', 'cli', 'report')))}]"
    ]
    assert used == {"images", "train", "cli", "report"}
