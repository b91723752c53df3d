"""Plugins: what a package of the user's brings reaches settings, runs and child processes, is written down, and is named where it is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from archgrad import plugins, run, terminal
from archgrad.cli import extending, main
from archgrad.compare import study
from archgrad.methods import METHODS
from archgrad.retraining.card import Card, read_card
from archgrad.run import catalogue, config
from archgrad.run.folder import RunFolder
from archgrad.spaces import SPACES
from archgrad.spaces.primitives import PRIMITIVES

METHOD = '''
from collections.abc import Callable

from archgrad import Patch
from archgrad.methods import METHODS, Entry
from archgrad.components.schedules import constant
from archgrad.components.losses import logsumexp, weighted

def pulled(*, strength: float = 0.5, shape: Callable[[float], float] | None = None) -> Patch:
    """A pull of the alphas of an edge to each other, at ``strength``."""
    return Patch("pulled", alpha_terms=(weighted(constant(strength), logsumexp),))
'''
LINE = 'METHODS["pulled"] = Entry(pulled, "nobody", "a pull", {"wide": {"strength": 0.25}})\n'
SPACE = """
from functools import partial

from archgrad.spaces import SPACES, Entry
from archgrad.spaces.nasbench201 import NasBench201
from archgrad.spaces.primitives import PRIMITIVES, Conv, Primitive

PRIMITIVES["ghost_5x5"] = Primitive(lambda channels, stride, style: Conv(channels, channels, 5, stride, style))
SPACES["wide"] = Entry(partial(NasBench201, "wide", primitives=("skip_connect", "ghost_5x5")), "nobody")
"""
SMALL = {"data": "digits", "search": {"epochs": 1, "limit": 20, "batch": 10}, "threads": 1}
TINY = {
    "retrain": {"preset": "quick", "epochs": 1, "channels": 2, "cells": 1, "limit": 20},
    "diagnostics": {"front": False, "gap": False},
}
MISSING = (
    "plugin {} is missing: install its package, or give the command in the folder that holds it"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with two plugins, in which the commands run; afterwards nothing of them is left in this process."""
    write(tmp_path / "mine" / "__init__.py", '__version__ = "1.2"\n')
    write(tmp_path / "mine" / "method.py", METHOD + LINE)
    write(tmp_path / "own_space.py", SPACE)
    tables = [(table, dict(table)) for table in (METHODS, SPACES, PRIMITIVES)]
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    yield tmp_path
    for table, before in tables:
        table.clear()
        table.update(before)
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("mine", "own_space", "broken")
    ]:
        del sys.modules[name]


def forget(monkeypatch) -> None:
    """As in a process that has just begun."""
    for name in ("_loaded", "_missing", "_found"):
        monkeypatch.setattr(plugins, name, {})
    monkeypatch.setattr(
        plugins, "_searched", [True]
    )  # what happens to be installed is of no concern
    for table in (METHODS, SPACES, PRIMITIVES):
        for name in ("pulled", "wide", "ghost_5x5"):
            table.pop(name, None)
    for name in ("mine", "mine.method", "own_space"):
        sys.modules.pop(name, None)


def without(monkeypatch, *files: Path) -> None:
    """A new process in which these plugins are not there."""
    forget(monkeypatch)
    for file in files:
        file.unlink()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def searched(folder: Path, **more) -> RunFolder:
    run.search(
        config.read(("", {**SMALL, **TINY, "out": str(folder), **more})),
        console=terminal.console(quiet=True),
    )
    return RunFolder(folder)


def test_settings_name_plugins_and_the_run_records_them_with_versions(here, capsys):
    found = searched(
        here / "run",
        plugins=["mine.method", "own_space"],
        method="pulled",
        space={"name": "wide", "channels": 2, "cells": 1},
    )
    recorded = yaml.safe_load(found.config.read_text())
    assert recorded["plugins"] == ["mine.method==1.2", "own_space"]
    assert (
        recorded["pulled"] == {"strength": 0.25} and recorded["method"] == "pulled"
    )  # the preset of its space
    assert "ghost_5x5" in str(
        recorded["space"]["primitives"]
    ) and found.read_settings().plugins == (
        "mine.method==1.2",
        "own_space",
    )
    assert main(["show", str(here / "run")]) == main(["methods"]) == main(["spaces"]) == 0
    shown = capsys.readouterr().out
    assert "pulled" in shown and "wide" in shown


def test_settings_without_plugins_are_written_as_before(here):
    assert "plugins" not in config.read(("", {"method": "darts"})).to_mapping()
    assert config.read(("", {"plugins": "mine.method"})).plugins == ("mine.method",)
    both = config.read(("", {"plugins": ["mine.method==1.2"]}), ("", {"plugins": ["own_space"]}))
    assert both.plugins == ("mine.method==1.2", "own_space")


def test_another_version_is_said(here, capsys):
    plugins.load(["mine.method==1.1"])
    assert (
        capsys.readouterr().err
        == "plugin mine.method has version 1.2 here; the record was made with version 1.1\n"
    )
    assert plugins.loaded() == ("mine.method==1.2",)


def test_a_finished_run_of_a_missing_method_is_shown_counted_retrained_and_not_gone_on_with(
    here, monkeypatch, capsys
):
    found = searched(
        here / "run",
        plugins=["mine.method"],
        method="pulled",
        space={"name": "nasbench201", "channels": 2, "cells": 1},
    )
    without(monkeypatch, here / "mine" / "method.py")
    assert found.read_settings().methods["pulled"] == {"strength": 0.5}
    for command in ("show", "count", "retrain", "evaluate"):
        assert main([command, str(found.path)]) == 0, command
    assert read_card(found.path / "retrain").plugins == ()
    found.genotype.unlink()
    capsys.readouterr()
    for command in (
        ["resume", str(found.path)],
        ["finish", str(found.path)],
        ["search", "--config", str(found.config), "--out", "other"],
    ):
        assert main(command) == 2
        assert MISSING.format("mine.method") in capsys.readouterr().err


def test_a_run_of_a_missing_space_says_so(here, monkeypatch, capsys):
    found = searched(
        here / "run", plugins=["own_space"], space={"name": "wide", "channels": 2, "cells": 1}
    )
    assert main(["retrain", str(found.path)]) == 0
    card = read_card(found.path / "retrain")
    assert (
        card.plugins == ("own_space",)
        and Card.from_json(json.loads(json.dumps(card.to_json()))) == card
    )
    forget(monkeypatch)
    assert main(["evaluate", str(found.path)]) == 0  # a fresh process finds it
    without(monkeypatch, here / "own_space.py")
    capsys.readouterr()
    for command in ("show", "count", "retrain", "resume", "evaluate"):
        assert main([command, str(found.path)]) == 2, command
        assert (
            f"space 'wide' is not known here, because {MISSING.format('own_space')}"
            in capsys.readouterr().err
        )


def test_a_primitive_of_a_plugin_is_taken_by_any_space_of_cells(here, monkeypatch):
    space = {
        "name": "nasbench201",
        "channels": 2,
        "cells": 1,
        "primitives": ["skip_connect", "ghost_5x5"],
    }
    found = config.read(("", {"plugins": ["own_space"], "space": space}))
    catalogue.check_space("nasbench201", {"primitives": space["primitives"]})
    assert "ghost_5x5" in run.build(found).space.groups["cell"].edges[0].primitives
    forget(monkeypatch)
    with pytest.raises(ValueError, match="unknown primitive 'ghost_5x5'"):
        catalogue.check_space("nasbench201", {"primitives": space["primitives"]})


def test_a_study_passes_its_plugins_to_its_runs(here):
    shared = {
        "space": {"channels": 2, "cells": 1},
        "search": SMALL["search"],
        "plugins": ["own_space", "mine.method"],
    }
    asked = study.read(("", {**shared, "random": {"draws": 1}}), names=["pulled", "darts"])
    assert asked.to_mapping()["plugins"] == ["own_space", "mine.method==1.2"]
    assert asked.settings("pulled").plugins == ("own_space", "mine.method==1.2")
    assert "plugins" not in asked.resolved_settings("pulled")
    plain = study.read(
        ("", {name: value for name, value in shared.items() if name != "plugins"}),
        ("", {"controls": False}),
        names=["darts"],
    )
    assert study.joined(plain, asked).to_mapping()["plugins"] == ["own_space", "mine.method==1.2"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "import no_such_package_at_all\n",
            "needs a package that is missing (No module named 'no_such_package_at_all'): install it",
        ),
        (
            "x = 1\nraise KeyError('a')\n",
            "fails when it is imported (KeyError: 'a', broken.py, line 2)",
        ),
        (
            "def f(:\n",
            "fails when it is imported (SyntaxError: invalid syntax (broken.py, line 1), broken.py, line 1)",
        ),
        (
            "from archgrad.methods import METHODS\nMETHODS['darts'] = METHODS['gdas']\n",
            "replaces the method 'darts': give it another name",
        ),
        (
            "from archgrad.methods import METHODS\nMETHODS['a+b'] = METHODS['gdas']\n",
            "the name of a method has letters, digits and _, not 'a+b'",
        ),
    ],
)
def test_a_plugin_that_cannot_be_is_one_line_and_leaves_nothing(here, capsys, text, says):
    write(here / "broken.py", text)
    before = dict(METHODS)
    assert main(["methods", "--plugin", "broken"]) == 2
    error = capsys.readouterr().err
    assert (
        f"plugin broken{':' if 'the name of' in says else ''} {says}" in error
        and error.count("\n") == 1
    )
    assert before == METHODS


FAILING = """
from archgrad import Patch
from archgrad.methods import METHODS, Entry
from archgrad.searching.types import Memory

class Bad(Memory):
    def after_epoch(self, *args, **given):
        return {}["lost"]

def term(context):
    return 1 / 0

def refuse(context):
    raise ValueError("strength is -1")

def bad(*, part: str = "term") -> Patch:
    return Patch("bad", **PARTS[part]())

PARTS = {
    "term": lambda: {"alpha_terms": (term,)},
    "refusal": lambda: {"weight_terms": (refuse,)},
    "memory": lambda: {"memory": {"bad": Bad}},
    "options": lambda: None + 1,
    "patch": lambda: {"alpha_split": "tests"},
}
METHODS["bad"] = Entry(bad, "nobody", "fails")
"""


def failing(folder: Path, part: str) -> list[str]:
    """Return a command whose plugin fails in one of its parts.

    A file of settings names the method, because flags are made once in a process.
    """
    space = {"name": "nasbench201", "channels": 2, "cells": 1}
    settings = {**SMALL, "plugins": ["broken"], "method": "bad", "bad": {"part": part}}
    write(folder / "settings.yaml", yaml.safe_dump({**settings, "space": space, "out": "run"}))
    return ["search", "--config", "settings.yaml"]


@pytest.mark.parametrize(
    ("part", "code", "says"),
    [
        ("term", 1, "fails (ZeroDivisionError: division by zero, {}, line 11): mend the plugin"),
        ("refusal", 2, "fails (ValueError: strength is -1, {}, line 14): mend the plugin"),
        ("memory", 1, "fails (KeyError: 'lost', {}, line 8): mend the plugin"),
        ("options", 1, "fails (TypeError: unsupported operand"),
    ],
)
def test_an_error_inside_a_plugin_is_one_line_that_names_it(here, capsys, part, code, says):
    write(here / "broken.py", FAILING)
    assert main(failing(here, part)) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"archgrad: plugin broken {says.format(here / 'broken.py')}" in error
    assert "Traceback" not in error


def test_an_error_of_archgrad_is_not_blamed_on_a_plugin(here, capsys):
    write(here / "broken.py", FAILING)
    assert main(failing(here, "patch")) == 2
    assert "plugin" not in capsys.readouterr().err


def test_a_method_named_as_a_section_is_refused(here):
    write(here / "broken.py", METHOD + LINE.replace('"pulled"', '"search"'))
    with pytest.raises(ValueError, match="method 'search' of a plugin has the name of a setting"):
        config.read(("", {"plugins": ["broken"]}))


@pytest.mark.parametrize(
    ("tokens", "left"),
    [
        (
            ["search", "--plugin", "mine.method", "--seed", "1"],
            ["search", "--seed", "1", "--plugins", "mine.method"],
        ),
        (
            ["retrain", "--plugin=mine.method", "RUN", "--plugin", "own_space"],
            ["retrain", "RUN", "--plugins", "mine.method", "own_space"],
        ),
        (["--plugin", "mine.method", "show", "RUN"], ["show", "RUN"]),
        (["show", "RUN"], ["show", "RUN"]),
    ],
)
def test_the_flag_is_for_every_command(here, tokens, left):
    assert extending.import_plugins(tokens, settings=("search", "retrain")) == left
    assert ("pulled" in METHODS) == (tokens != left)


def test_the_flag_needs_a_name(here, capsys):
    for tokens in (
        ["--plugin"],
        ["--plugin", "--seed"],
        ["--plugin="],
        ["--plugin", "a/b.py"],
        ["--plugin", "nowhere.at_all"],
    ):
        assert main(["methods", *tokens]) == 2
        error = capsys.readouterr().err
        assert "plugin" in error and error.count("\n") == 1


def test_flags_of_a_plugin_and_entry_points_in_a_process_of_its_own(here):
    """An installed package needs no name; one that is named has its flags, also where a file names it."""
    write(here / "packaged.py", METHOD)
    (here / "packaged-3.4.dist-info").mkdir()
    (here / "packaged-3.4.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: packaged\nVersion: 3.4\n"
    )
    (here / "packaged-3.4.dist-info" / "entry_points.txt").write_text(
        "[archgrad.methods]\npulling = packaged:pulled\n"
    )
    write(
        here / "settings.yaml", "plugins: [own_space]\nspace: {name: wide, channels: 2, cells: 1}\n"
    )
    source = str(Path(plugins.__file__).parents[1])
    flags = [
        "--plugin",
        "mine.method",
        "--method",
        "pulled+pulling",
        "--pulled.strength",
        "0.125",
        "--pulling.strength",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "archgrad", "search", "--dry-run", "--config", "settings.yaml", *flags],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join([source, str(here)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)
    assert found["plugins"] == ["own_space", "mine.method==1.2", "packaged==3.4"]
    assert (found["pulled"], found["pulling"]) == ({"strength": 0.125}, {"strength": 2.0})
