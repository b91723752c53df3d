"""What a script or a notebook finds by itself: names, types, pictures, short texts, and what can be pickled."""

from __future__ import annotations

import pickle
import pkgutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

import archgrad
from archgrad.methods.budget import budget
from archgrad.searching import progress
from archgrad.searching.method import Method
from fakes import Noise
from searching import run, same

SPACE = archgrad.space("nasbench201", channels=2, cells=1, classes=4)


def test_every_public_name_is_found_and_help_shows_it():
    assert set(archgrad.__all__) <= set(dir(archgrad))
    shown = subprocess.run(
        [sys.executable, "-c", "import archgrad; help(archgrad)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(name in shown for name in ("search(", "Genotype", "alphas(", "dataset("))
    assert (Path(archgrad.__file__).parent / "py.typed").exists()


def test_every_name_of_every_face_is_imported():
    """The stubs (``__init__.pyi``) list the names, and editors and type checkers read them."""
    for package in pkgutil.iter_modules(archgrad.__path__, "archgrad."):
        face = import_module(package.name)
        assert all(getattr(face, name) is not None for name in getattr(face, "__all__", ()))


@pytest.mark.usefixtures("drawn")
def test_texts_are_short():
    genotype = archgrad.Genotype.parse("DARTS_V2")
    assert (
        eval(repr(genotype), {"Genotype": archgrad.Genotype}) == genotype
        and "</svg>" in genotype._repr_svg_()
    )
    method = archgrad.method("stdarts+sddarts", SPACE)
    state = method.start(seed=1, epochs=5, steps=3)
    assert repr(method) == "<Method stdarts+sddarts over space nasbench201>"
    assert repr(state) == "<State at epoch 0 of 5, step 0, seed 1, cpu; alphas cell (6, 5)>"
    assert (
        repr(method.readout(state)) == "<Mixture of cell (6, 5)>" and len(repr(method.patch)) < 120
    )
    images = archgrad.load("digits", report=lambda line: None)
    assert (
        repr(images).startswith("<Dataset digits: 10 classes, 1,438 training images")
        and len(repr(images.train)) < 40
    )
    halves = archgrad.search_data(images, batch=20, seed=0, limit=40)
    assert repr(halves) == "<Data of digits: 40 train, 40 val, 359 test, batch 20, seed 0, cpu>"


def test_a_method_is_pickled_as_names_and_options():
    made = archgrad.method("stdarts+sddarts", SPACE, stdarts={"kappa": 0.1}, alphas={"lr": 0.05})
    again = pickle.loads(pickle.dumps(made))
    assert (
        same(run(again, epochs=1).state.alphas, run(made, epochs=1).state.alphas)
        and again.name == made.name
    )


@pytest.mark.parametrize(
    "made",
    [
        Method(archgrad.Patch("mine"), SPACE),
        replace(archgrad.method("darts", SPACE), patch=archgrad.Patch("other")),
        archgrad.method("darts", SPACE, budget=budget(())),
    ],
)
def test_another_method_is_refused_by_its_name(made):
    with pytest.raises(
        ValueError,
        match=f"method {made.name!r} cannot be pickled: pickle the names and options that it is made of",
    ):
        pickle.dumps(made)


@pytest.mark.parametrize("watched", [True, False])
def test_progress_shows_where_somebody_watches(watched, monkeypatch):
    written = StringIO()
    monkeypatch.setattr(
        progress.terminal,
        "console",
        lambda **options: Console(file=written, force_terminal=watched, width=200),
    )
    method = archgrad.method("darts", SPACE)
    found = archgrad.search(method, Noise(), 1, seed=1, progress=True)
    assert ("epoch 1/1" in written.getvalue()) == watched
    assert same(found.state.alphas, archgrad.search(method, Noise(), 1, seed=1).state.alphas)
    assert torch.is_tensor(found.state.alphas["cell"])
