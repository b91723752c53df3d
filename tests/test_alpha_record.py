"""The alphas of every epoch: recorded in the run folder, cut with the metrics, read by `archgrad.alphas`."""

from __future__ import annotations

import shutil

import pytest
import torch
from rich.console import Console

import archgrad
from archgrad import run
from archgrad.observers.recording import Metrics
from archgrad.run import alpha_record, config
from archgrad.run.alpha_record import AlphaRecord
from archgrad.searching import checkpoint

QUIET = Console(quiet=True)
SMALL = {
    "data": {"path": "digits"},
    "space": {"name": "nasbench201", "channels": 2, "cells": 1},
    "search": {"epochs": 4, "limit": 20, "batch": 20},
    "diagnostics": {"front": False, "gap": False},
    "seed": 3,
    "threads": 1,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search by two stages, whose second has fewer ops an edge."""
    given = {
        "method": "progressive",
        "progressive": {"partial": [2, 1]},
        "out": tmp_path_factory.mktemp("alphas") / "run",
    }
    run.search(config.read(("", SMALL), ("", given)), console=QUIET)
    return given["out"]


def test_every_epoch_has_its_alphas(whole):
    found = archgrad.alphas(whole)
    last = checkpoint.read(whole / "checkpoint.pt")["alphas"]
    assert list(found) == [0, 1, 2, 3] and found[3].keys() == last.keys() and len(last) == 1
    assert all(torch.equal(found[3][name], last[name]) for name in last)
    assert [found[epoch]["cell"].shape for epoch in found] == [(6, 5), (6, 5), (6, 3), (6, 3)]


def test_a_damaged_record_is_named_and_set_aside_when_asked(whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "genotype.json").unlink()
    damaged = bytearray((folder / "alphas.safetensors").read_bytes())
    damaged[-9] ^= 1
    (folder / "alphas.safetensors").write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"is damaged .* by `archgrad resume {folder} --repair`"):
        run.resume(folder, console=QUIET)
    assert (folder / "alphas.safetensors").read_bytes() == damaged
    assert run.resume(folder, repair=True, console=QUIET) is not None
    assert (folder / "alphas.safetensors.damaged").read_bytes() == damaged and not (
        folder / "alphas.safetensors"
    ).exists()


@pytest.mark.parametrize("newer", [True, False])
def test_a_kill_around_a_checkpoint_leaves_the_same_file(whole, tmp_path, newer, monkeypatch):
    """Killed behind the alphas of an epoch and before its checkpoint, or between the metrics and the alphas."""
    folder, wanted = tmp_path / "run", (whole / "alphas.safetensors").read_bytes()
    given = config.read(("", config.read_yaml(whole / "config.yaml")[1] | {"out": folder}))

    class Killed(BaseException):
        pass

    def kill(self, method, state, data, row, real):
        real(self, method, state, data, row)
        if row["epoch"] == 1:
            raise Killed

    place = AlphaRecord if newer else Metrics
    with monkeypatch.context() as patched:
        real = place.on_epoch
        patched.setattr(place, "on_epoch", lambda *arguments: kill(*arguments, real))
        with pytest.raises(Killed):
            run.search(given, console=QUIET)
    assert list(archgrad.alphas(folder)) == ([0, 1] if newer else [0])
    run.resume(folder, console=QUIET)
    assert (folder / "alphas.safetensors").read_bytes() == wanted


def test_what_is_missing_or_damaged_is_said(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    path = folder / "alphas.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(
        ValueError, match=r"alphas.safetensors is damaged .*: restore it from a copy"
    ):
        archgrad.alphas(folder)
    with pytest.raises(ValueError, match="damaged"):
        AlphaRecord(path, epoch=4)
    path.unlink()
    with pytest.raises(
        ValueError, match="no epoch has ended, or the run is older than the records of alphas"
    ):
        archgrad.alphas(str(folder))
    with pytest.raises(ValueError, match="there is no run in"):
        archgrad.alphas(tmp_path)


def test_a_run_of_before_goes_on_and_has_the_later_epochs(whole, tmp_path):
    path = tmp_path / "alphas.safetensors"
    record = AlphaRecord(path, epoch=2)
    assert record.epochs == {} and not path.exists()
    record.epochs = archgrad.alphas(whole)
    record._write()
    assert list(AlphaRecord(path, epoch=3).epochs) == [0, 1, 2] == list(alpha_record._read(path))
    assert AlphaRecord(path, epoch=0).epochs == {} == alpha_record._read(path)
