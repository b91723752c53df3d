"""The imports of commands: they parse, list, look up and refuse without torch, and a search imports only the modules that it uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archgrad import options
from archgrad.arch.genotype import Genotype
from archgrad.arch.published import published
from archgrad.cli import tabulate
from archgrad.methods import METHODS
from archgrad.run import catalogue, config
from archgrad.run.subject import subject
from archgrad.spaces import SPACES

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
HELP = "search resume finish estimate derive compare retrain evaluate predict show count latency query genotypes methods spaces"
LOOKS = [
    *([command, "--help"] for command in HELP.split()),
    ["search", "--help-all"],
    ["query", "nasbench201", BEST],
    ["query", "nasbench201", BEST, "--device", "pixel3", "--json"],
    ["query", "nasbenchmacro", "02012100"],
    ["genotypes"],
    ["methods"],
    ["spaces"],
    ["count", "DARTS_V2"],
    ["count", "AutoDL-Projects:GDAS_V1", "--json"],
    ["show", "DARTS_V2"],
]
REFUSED = [
    ["search", "--data", "digits", "--method", "dart"],
    ["search", "--data", "digits", "--space", "nasbench"],
    ["search", "--data", "digits", "--drats.order", "weight_first"],
    ["search", "--data", "digits", "--darts.order", "weights_first"],
    ["search", "--data", "digits", "--search.epochs", "many"],
    ["search", "--data", "digits", "--search.epochs", "-1"],
    ["search", "--data", "digits", "--weights.lr", "-1"],
    ["search", "--data", "digits", "--stdarts.warmup", "1.5", "--method", "stdarts"],
    ["search", "--data", "digits", "--space.channels", "0"],
    ["search", "--data", "digits", "--space.nodes", "3"],
    ["search", "--data", "digits", "--space.primitives", "skip_conect"],
    ["search", "--data", "digits", "--space", "darts", "--space.stem", "cifra"],
    ["search", "--data", "digits", "--random.draws", "3"],
    ["search", "--data", "digits", "--data.size", "4"],
    ["search", "--data", "digits", "--budget", "macs=many"],
    ["search", "--data", "digits", "--config", "nowhere.yaml"],
    ["search", "--data", "digits", "--config", "bad.yaml"],
    ["search", "--data", "digits", "--out", "full"],
    ["search", "--data", "nowhere/at/all"],
    ["search", "--data", "bad.yaml"],
    ["search", "--data", "full"],
    ["search"],
    ["search", "digits"],
    ["resume", "full"],
    ["resume", "full", "--reopen"],
    ["finish", "full"],
    ["estimate"],
    ["estimate", "--data", "digits", "--method", "dart"],
    ["estimate", "--data", "digits", "--search.epoch", "3"],
    ["estimate", "--data", "digits", "--space.nodes", "3"],
    ["estimate", "--data", "digits", "--budget", "macs=many"],
    ["estimate", "--data", "nowhere/at/all"],
    ["estimate", "DARTS_V3", "--data", "digits"],
    ["estimate", "DARTS_V2", "--data", "nowhere/at/all"],
    ["estimate", "DARTS_V2", "--data", "digits", "--search.epochs", "3"],
    ["derive", "full", "--budget", "macs=3M"],
    ["retrain", "DARTS_V2"],
    ["retrain", "DARTS_V3", "--data", "digits"],
    ["retrain", "DARTS_V2", "--data", "digits", "--space", "dart"],
    ["retrain", "DARTS_V2", "--data", "nowhere/at/all"],
    ["evaluate", "full"],
    ["predict", "full"],
    ["predict", "full", "bad.yaml"],
    ["show", "nowhere/at/all"],
    ["count", "DARTS_V3"],
    ["count", "DARTS_V2", "--channels", "0"],
    ["count", "DARTS_V2", "--space", "dart"],
    ["show", "DARTS_V2", "--size", "4"],
    ["query", "nasbench101", BEST],
    ["query", "nasbench201", "DARTS_V2"],
    ["genotypes", "nothing-of-this-name"],
    ["methods", "--pairs", "--space", "dart"],
    ["latency"],
    ["latency", "--space", "nasbench201", "--nodes", "3"],
    ["compare", "--methods", "darts"],
    ["compare", "--methods", "dart", "--out", "study"],
    ["compare", "--methods", "darts,random", "--data", "nowhere/at/all", "--out", "study"],
]
CODE = """
import contextlib, io, json, sys
from archgrad.cli import main
sys.path.append(sys.argv[2])
from sharing import shared_flags
codes, imported, sharing = [], {}, contextlib.ExitStack()
sharing.enter_context(shared_flags())
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()):
        codes.append(main(arguments))
    for name in {"torch", "sklearn", "scipy", "pandas", "matplotlib", "datasets", "kornia", "lightning_fabric"} & sys.modules.keys():
        imported.setdefault(name, " ".join(arguments))
print(json.dumps([codes, imported]))
"""
SEARCH = """
import json, sys
from archgrad.cli import main
from archgrad.cli.process import compile_nothing
compile_nothing()
from archgrad.searching import loop
search = loop.search
def watched(*arguments, **options):
    found = search(*arguments, **options)
    print(json.dumps(sorted(sys.modules)))
    return found
loop.search = watched
from archgrad.run import results
results.write_pictures = lambda *arguments: None  # they take matplotlib after the search
for arguments in json.loads(sys.argv[1]):
    assert main(arguments) == 0
"""


def python(code: str, *arguments: str, where=None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=where
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    """Where the commands run: a broken recipe, and a folder that holds something and is no run."""
    (tmp_path / "bad.yaml").write_text("search: {epoch: 3}\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("nothing\n")
    return tmp_path


def test_light_commands_do_not_import_torch(folder):
    commands = {" ".join(one): 0 for one in LOOKS} | {" ".join(one): 2 for one in REFUSED}
    tests = str(Path(__file__).parent)
    codes, imported = json.loads(python(CODE, json.dumps([*LOOKS, *REFUSED]), tests, where=folder))
    assert dict(zip(commands, codes, strict=True)) == commands
    assert imported == {}  # by which command
    assert {path.name for path in folder.iterdir()} == {"bad.yaml", "full"}


def images(root):
    for i in range(48):
        place = root / "train" / "abc"[i % 3] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 5 * i, np.uint8)).save(place)
    return root


def searched(tmp_path, *data: str) -> list[set[str]]:
    """The modules that are there after the last epoch of each search, all in one process."""
    small = [
        "--space.channels",
        "2",
        "--space.cells",
        "1",
        "--search.batch",
        "8",
        "--search.epochs",
        "2",
        "--threads",
        "1",
    ]
    shared = [*small, "--data.cache", "cache", "--diagnostics.no-front"]
    commands = [["search", "--data", one, *shared, "--out", f"run-{one}"] for one in data]
    shown = python(SEARCH, json.dumps(commands), where=tmp_path)
    return [set(json.loads(line)) for line in shown.splitlines() if line.startswith("[")]


UNUSED = {
    "sklearn",
    "scipy",
    "scipy.stats",
    "pandas",
    "matplotlib",
    "datasets",
    "pyarrow",
    "kornia",
    "lightning_fabric",
}


def test_a_search_imports_what_it_uses(tmp_path):
    images(tmp_path / "images")
    found = searched(tmp_path, "images", "digits")
    assert len(found) == 2
    for modules in found:
        assert not UNUSED & modules
        assert not [
            name for name in modules if name.startswith(("torch._dynamo.", "torch._inductor"))
        ]


def test_the_compiler_comes_when_it_is_asked_for():
    python(
        """
from archgrad.cli.process import compile_nothing
compile_nothing()
import sys, torch
weight = torch.zeros(2, requires_grad=True)
optimizer = torch.optim.SGD([weight], 0.5)
weight.sum().backward()
optimizer.step()
assert weight.tolist() == [-0.5, -0.5] and "torch._dynamo.eval_frame" not in sys.modules
assert torch.compile(lambda x: x + 1, backend="eager")(weight).tolist() == [0.5, 0.5]
from torch._dynamo import config
assert config.recompile_limit and sys.modules["torch._dynamo"].__file__
"""
    )


def test_the_catalogue_is_of_this_code():
    found, now = catalogue._content(), tabulate.content()
    stale = [part for part in now if found[part] != now[part]]
    assert not stale, (
        f"{', '.join(stale)}: write the catalogue anew by `python -m archgrad.cli.tabulate`"
    )


def test_options_of_the_catalogue_are_those_of_the_functions():
    def schema(model):
        return {name: part for name, part in model.model_json_schema().items() if name != "title"}

    for name, entry in METHODS.items():
        assert schema(catalogue.method_options(name)) == schema(entry.options_model()), name
    for entry in SPACES.values():
        own = options.model(getattr(entry.build, "func", entry.build))
        assert set(own.model_fields) <= set(config.sections()["space"].model_fields)


@pytest.mark.parametrize(
    ("section", "given"),
    [
        ("stdarts", {"warmup": 1.5}),
        ("pdarts", {"keep": [0, 3]}),
        ("pdarts", {"skips": "x"}),
        ("lambdadarts", {"alpha_lr": 0}),
        ("cdarts", {"share": 2}),
    ],
)
def test_the_catalogue_refuses_in_the_words_of_the_functions(section, given):
    with pytest.raises(ValueError) as by_function:
        options.call(section, METHODS[section].patch, given)
    with pytest.raises(ValueError) as by_catalogue:
        config.read(("", {"method": section, section: given}))
    assert str(by_catalogue.value) == str(by_function.value)


@pytest.mark.parametrize("name", SPACES)
def test_spaces_are_refused_in_their_own_words(name):
    space = SPACES[name].build()
    for given in (
        {"nodez": 3},
        {"channels": 0},
        {"classes": -1},
        {"stem": "cifra"},
        {"primitives": ["skip_conect"]},
    ):
        with pytest.raises(ValueError) as by_space:
            space.resized(**given)
        if next(iter(given)) in ("primitives",) and not catalogue.spaces()[name].primitives:
            continue
        with pytest.raises(ValueError) as by_catalogue:
            catalogue.check_space(name, given)
        assert str(by_catalogue.value) == f"space {name}: {by_space.value}"


def counted(entries) -> None:
    known = {
        one.qualified_name: found
        for one in entries
        if (found := catalogue.counted(Genotype(one.cells)))
    }
    assert known == {name: subject(name).count() for name in known}


def test_counts_of_the_catalogue():
    assert len(catalogue._content()["counts"]) > 200
    counted(published()[::40])


@pytest.mark.slow
def test_all_counts_of_the_catalogue():
    counted(published())


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    from archgrad.data.sources import digits_table

    levels, labels = digits_table()
    bunch = load_digits()
    assert np.array_equal(levels, bunch.data) and np.array_equal(labels, bunch.target)
    assert [str(name) for name in bunch.target_names] == [*map(str, range(10))]


def test_what_a_user_adds_to_the_tables_is_known(monkeypatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["stdarts"])
    monkeypatch.setitem(SPACES, "own", SPACES["nasbench201"])
    found = config.read(
        ("", {"method": "mine", "mine": {"sigma": 0.5}, "space": {"name": "own", "channels": 4}})
    )
    assert found.methods == {"mine": {"sigma": 0.5}} and found.space["name"] == "own"
    catalogue.check_space("own", {"channels": 4})
    with pytest.raises(ValueError, match="space own: channels must be"):
        catalogue.check_space("own", {"channels": 0})
