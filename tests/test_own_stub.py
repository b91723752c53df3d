"""A module of the user's own runs by the file ``choices.py`` where archgrad is not installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import archgrad
from archgrad.modules import write_stub

NETS = '''
import copy

from archgrad import Choice, InputChoice, Repeat
from torch import nn


class Gate(nn.Module):
    """A block with a second argument and one by name."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x, gain, *, shift):
        return self.conv(x) * gain + shift


def conv(kernel):
    return nn.Sequential(nn.Conv2d(4, 4, kernel, padding=kernel // 2), nn.BatchNorm2d(4))


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        last = Choice({"linear": nn.Linear(4, classes), "deep": nn.Sequential(
            nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, classes))})  # made first, kept last
        Choice({"never": nn.Identity(), "kept": nn.Identity()})
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.first = Choice({"conv3": conv(3), "conv5": conv(5), "skip": nn.Identity()}, label="kernel")
        self.second = Choice({"conv3": conv(3), "conv5": conv(5), "skip": nn.Identity()}, label="kernel")
        self.depth = Repeat(lambda: conv(3), 0, 2)
        self.gates = Repeat(Gate, 1, 3)
        self.pair = InputChoice(3, keep=2, how="mean")
        self.one = InputChoice(2)
        self.head = last

    def forward(self, x):
        a = self.stem(x)
        b = self.second(self.first(a))
        c = self.depth(b)
        d = self.gates(c, 0.5, shift=a)
        e = self.one(d, self.pair([a, b, c]))
        return self.head(e.mean((2, 3)))


class Copied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Choice({"conv3": nn.Conv2d(1, 1, 3, padding=1), "skip": nn.Identity()})
        self.second = copy.deepcopy(self.first)

    def forward(self, x):
        return self.second(self.first(x)).flatten(1)
'''
ALONE = """
import sys

sys.modules["archgrad"] = None  # an import of archgrad fails
import torch

from nets import Net

expected = torch.load("expected.pt")
for _ in range(2):  # a second module has the same decisions
    net = Net().eval()
    assert list(net.state_dict()) == list(expected["weights"]), list(net.state_dict())
    net.load_state_dict(expected["weights"])
    assert torch.equal(net(expected["inputs"]), expected["logits"])
assert not [name for name in sys.modules if name.startswith("archgrad.")]
assert not {type(one).__module__ for one in net.modules()} - {"nets", "choices"} - {
    name for name in sys.modules if name.startswith("torch")}
"""
SELECTED = (
    {"kernel": ["conv5"], "depth": ["depth0"], "gates": ["depth3"], "pair": ["input0", "input2"]}
    | {"one": ["input1"], "head": ["deep"]},
    {"kernel": ["skip"], "depth": ["depth2"], "gates": ["depth1"], "pair": ["input1", "input2"]}
    | {"one": ["input0"], "head": ["linear"]},
)


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    spec = importlib.util.spec_from_file_location("nets", tmp_path / "nets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def genotype(selected):
    return archgrad.Genotype.from_json(
        {
            name: {"links": [[0, 1, one] for one in kept], "concat": [1]}
            for name, kept in selected.items()
        }
    )


def run_alone(folder: Path, network) -> None:
    """Run the module in a process in which archgrad cannot be imported."""
    inputs = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network.eval()
    content = {
        "weights": network.state_dict(),
        "inputs": inputs,
        "logits": network(inputs).detach(),
    }
    torch.save(content, folder / "expected.pt")
    (folder / "nets.py").write_text(NETS.replace("from archgrad import", "from choices import"))
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("selected", SELECTED)
def test_the_same_weights_and_logits_without_archgrad(tmp_path, nets, selected):
    space = archgrad.module_space(nets.Net, example=torch.zeros(1, 1, 8, 8))
    write_stub(tmp_path / "choices.py", space, genotype(selected))
    run_alone(tmp_path, space.derive(genotype(selected)).network.net)


def test_a_search_writes_the_file_of_its_network(tmp_path, nets):
    space = archgrad.module_space(nets.Net, example=torch.zeros(1, 1, 8, 8))
    search = archgrad.Search(space, "darts", epochs=1, steps=2)
    batch = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    for _ in range(2):
        search.step(batch, batch)
    search.write_stub(tmp_path / "choices.py")
    run_alone(tmp_path, search.derive("inherit", batches=[batch]))


def test_an_instance_has_a_stub_too(tmp_path, nets):
    net = nets.Net()
    nets.Net()  # choices of another module in between
    space = archgrad.module_space(net, example=torch.zeros(1, 1, 8, 8))
    found = archgrad.modules.stub.decided(space, genotype(SELECTED[0]))
    assert found == [
        ("head", ("deep",)),
        ("first", ("conv5",)),
        ("second", ("conv5",)),
        ("depth", ("depth0",)),
        ("gates", ("depth3",)),
        ("pair", ("input0", "input2")),
        ("one", ("input1",)),
    ]


def test_what_a_stub_cannot_say_is_refused(tmp_path, nets):
    space = archgrad.module_space(nets.Copied, example=torch.zeros(1, 1, 8, 8))
    differing = genotype({"first": ["conv3"], "second": ["skip"]})
    with pytest.raises(ValueError, match="'first' and 'second' are copies of one"):
        write_stub(tmp_path / "choices.py", space, differing)
    write_stub(tmp_path / "choices.py", space, genotype({"first": ["skip"], "second": ["skip"]}))
    with pytest.raises(ValueError, match=r"name that can be imported, not 'my-choices\.py'"):
        write_stub(tmp_path / "my-choices.py", space, differing)
    with pytest.raises(ValueError, match="the genotype has the cells"):
        write_stub(tmp_path / "choices.py", space, genotype({"first": ["skip"]}))


def test_the_file_has_about_thirty_lines_of_code(tmp_path, nets):
    space = archgrad.module_space(nets.Copied, example=torch.zeros(1, 1, 8, 8))
    write_stub(tmp_path / "choices.py", space, genotype({"first": ["skip"], "second": ["skip"]}))
    lines = (tmp_path / "choices.py").read_text().split('"""\n', 1)[1].splitlines()
    assert len([line for line in lines if line.strip() and not line.startswith("#")]) <= 36
