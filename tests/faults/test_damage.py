"""Damaged bytes are found, and files from before there were seals load as before."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import archgrad
from archgrad.cli import main
from archgrad.observers.interrupts import Interrupted
from archgrad.retraining.card import DIGEST, load, read_weights
from archgrad.retraining.execute import resume
from archgrad.searching import checkpoint
from archgrad.searching.method import Method
from archgrad.storage import files, seals
from retraining import digits, stop_at, trained
from running import SMALL, STEPS, after, outcome, same
from searching import Record, Stopped, run

EVERY_STEP = ["--search.checkpoint-seconds", "1e-9"]


def method(name: str = "darts", **options: Any) -> Method:
    return archgrad.method(
        name, archgrad.space("nasbench201", channels=2, cells=1, classes=4), **options
    )


def quiet(line: str) -> None: ...


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A checkpoint in the middle of an epoch."""
    path = tmp_path_factory.mktemp("saved") / "checkpoint.pt"
    with pytest.raises(Stopped):
        run(method(), [Record(("step", 1, 2), path)])
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "run"
    trained(folder)
    return folder


def flips(content: bytes, count: int, seed: int):
    """Copies with one bit flipped, one in each of ``count`` regions of equal length: every part of a file is tried."""
    draw = Random(seed)
    for region in range(count):
        place = draw.randrange(
            region * len(content) // count,
            max((region + 1) * len(content) // count, region * len(content) // count + 1),
        )
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        yield place, bytes(flipped)


def accepted(
    path: Path, content: bytes, count: int, read: Callable[[Path], Any], seed: int = 0
) -> list[int]:
    """Return the places of the flipped bits that were not found."""
    passed = []
    for place, flipped in flips(content, count, seed):
        path.write_bytes(flipped)
        try:
            read(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            passed.append(place)
    return passed


def test_every_flipped_bit_of_a_checkpoint_is_found(saved, tmp_path):
    content, path = saved.read_bytes(), tmp_path / "checkpoint.pt"
    assert accepted(path, content, 200, checkpoint.read) == []
    for end in (
        content[:-1],
        content[: -seals.LENGTH - 1],
        content[:-20],
        content + b"\0",
        content[: len(content) // 2],
        b"",
    ):
        path.write_bytes(end)
        with pytest.raises(ValueError, match="is damaged and cannot be read"):
            checkpoint.read(path)


def test_every_flipped_bit_of_weights_is_found(network, tmp_path):
    assert (
        accepted(
            tmp_path / "weights.safetensors",
            (network / "weights.safetensors").read_bytes(),
            200,
            read_weights,
        )
        == []
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_thousands_of_flipped_bits_are_found(saved, network, tmp_path, seed):
    assert (
        accepted(tmp_path / "checkpoint.pt", saved.read_bytes(), 2000, checkpoint.read, seed) == []
    )
    assert (
        accepted(
            tmp_path / "weights.safetensors",
            (network / "weights.safetensors").read_bytes(),
            2000,
            read_weights,
            seed,
        )
        == []
    )


def test_checkpoints_recorded_without_a_seal_load_as_before(saved, tmp_path):
    """As they were written then; a flipped bit of what they hold is found by the archive's own checksums."""
    path, content = tmp_path / "checkpoint.pt", checkpoint.read(saved)
    torch.save(content, path)
    plain = path.read_bytes()
    assert not plain[-seals.LENGTH :].startswith(seals.MARK) and same(
        checkpoint.read(path), content
    )
    assert same(
        checkpoint.restore(method(), checkpoint.read(path)).alphas,
        checkpoint.restore(method(), content).alphas,
    )
    numbers = content["nets"]["search"].values()
    places = [
        plain.index(bytes(value.untyped_storage().tolist()))
        for value in numbers
        if value.numel() > 8
    ]
    for place in places:
        path.write_bytes(plain[:place] + bytes([plain[place] ^ 1]) + plain[place + 1 :])
        with pytest.raises(ValueError, match="a checksum in it is wrong"):
            checkpoint.read(path)
    assert len(places) > 3


def test_weights_recorded_without_a_digest_load_as_before(network, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(network, folder)
    path = folder / "weights.safetensors"
    state = load_file(path)
    for told in (None, {"format": "pt"}):
        save_file(state, path, told)
        assert same(read_weights(path), state) and load(folder).card == load(network).card
    save_file(state, path, {DIGEST: "0" * 64})
    with pytest.raises(ValueError, match="not those that were written"):
        load(folder)


@pytest.mark.parametrize("wrong, says", [
    (lambda state, name: state[name].view(-1).__setitem__(0, float("nan")), "not finite"),
    (lambda state, name: state.__setitem__(name, state[name].half()), "it should be float32 of .*, not float16 of"),
    (lambda state, name: state.__setitem__(name, state[name][:1].clone()), "it should be float32 of"),
    (lambda state, name: state.pop(name), "lacks"),
    (lambda state, name: state.__setitem__("more", state[name].clone()), "nothing here is called 'more'"),
])  # fmt: skip
def test_weights_that_no_such_network_has_are_refused(network, tmp_path, wrong, says):
    folder = tmp_path / "run"
    shutil.copytree(network, folder)
    path = folder / "weights.safetensors"
    state = load_file(path)
    wrong(
        state,
        next(
            name for name, value in state.items() if value.is_floating_point() and value.numel() > 1
        ),
    )
    save_file(state, path)
    with pytest.raises(
        ValueError, match=f"{path} belongs to another network or is damaged .*{says}"
    ) as error:
        load(folder)
    assert len(str(error.value)) - len(str(path)) < 300


def put(content: dict[str, Any], place: str, value: Any) -> None:
    """Sets, or with ``...`` removes, one part of a checkpoint."""
    *parts, last = (int(part) if part.isdigit() else part for part in place.split("/"))
    for part in parts:
        content = content[part]
    if value is ...:
        del content[last]
    else:
        content[last] = value


NAN = torch.tensor(float("nan"), dtype=torch.float64)
ALPHAS, SLOT = "alphas/cell", "optimizers/alphas/state/0/exp_avg"
WRONG = [
    ("epoch", 99, "epoch: it should be at most 4, not 99"), ("epoch", -1, "epoch: "), ("epoch", True, "epoch: "), ("epoch", 1.0, "epoch: "),
    ("step", -1, "step: "), ("step", 4, "step: it should be at most 3, not 4"), ("seed", True, "seed: "), ("seed", "1", "seed: "),
    ("plan/epochs", 0, "plan.epochs: "), ("plan/steps", 10**30, "plan.steps: "), ("plan/more", 1, "plan.more: "), ("plan", ..., "plan: "),
    ("threads", 0, "threads: "), ("threads", 1_000_000, "threads: "), ("precision", "64", "precision: "), ("born", 9, "born: "),
    ("dies", 9, "dies: "), ("ended", 5, "ended: "),
    ("ended", 9, "ended: "), ("spec", "[" * 100_000, "spec: "), ("spec", '{"nodes": 3}', "spec: "),
    ("spec", '{"channels": 4}', "nets.search"), ("genotype", "[1]", "genotype: "), ("genotype", '{"x": 1}', "genotype"),
    ("decisions", [{}], "decisions.0"),
    ("counts", {"x": -1}, "counts.x: "), ("sums", {}, "sums: it lacks"), ("sums/train_loss", NAN, "sums.train_loss: it holds"),
    ("nets", {}, "nets: it lacks 'search'"), ("nets/search", [], "nets.search: it should be a dictionary"), ("more", 1, "more: "),
    ("alphas", {}, "alphas: it lacks 'cell'"), (ALPHAS, torch.zeros(1), "alphas.cell: it should be float32 of 6x5, not float32 of 1"),
    (ALPHAS, torch.zeros(6, 5).double(), "alphas.cell: it should be float32"), (ALPHAS, torch.full((6, 5), torch.inf), "alphas.cell: it holds"),
    (ALPHAS, 3, "alphas.cell: it should be a tensor, not 3"), (ALPHAS, torch.zeros(6, 5).to_sparse(), "alphas.cell: "),
    (ALPHAS, torch.zeros(6, 5, device="meta"), "alphas.cell: "), (SLOT, torch.zeros(2), "optimizers.alphas.state.0.exp_avg: it should be"),
    (SLOT, torch.full((6, 5), torch.nan), "optimizers.alphas.state.0.exp_avg: it holds"), (SLOT, ..., "optimizers.alphas.state.0: it lacks"),
    ("optimizers/alphas/state/0", 1, "optimizers.alphas.state.0: "), ("optimizers/alphas/state/7", {}, "optimizers.alphas.state: "),
    ("optimizers/alphas/param_groups", [], "optimizers.alphas.param_groups: "), ("optimizers/alphas", {}, "optimizers.alphas: it lacks"),
    ("optimizers/alphas/param_groups/0/lr", float("nan"), "optimizers.alphas.param_groups.0.lr: "),
    ("optimizers/alphas/param_groups/0/params", [1], "optimizers.alphas.param_groups.0.params: "), ("memory/more", {}, "memory: nothing"),
]  # fmt: skip


@pytest.mark.parametrize(
    "place, value, says", WRONG, ids=[f"{place}-{k}" for k, (place, _, _) in enumerate(WRONG)]
)
def test_what_cannot_be_is_refused_before_anything_changes(saved, tmp_path, place, value, says):
    content, path, threads = (
        torch.load(saved, weights_only=True),
        tmp_path / "checkpoint.pt",
        torch.get_num_threads(),
    )
    content["threads"] = threads + 1
    put(content, place, value)
    checkpoint.save(path, content)
    with pytest.raises(ValueError) as error:
        checkpoint.load(path, method())
    assert str(error.value).startswith(f"checkpoint {path} does not fit its run ({says}"), (
        error.value
    )
    assert len(str(error.value)) <= 300 and "\n" not in str(error.value)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name, options, place, value", [
    ("sddarts", {"teachers": "remembered"}, "memory/teachers/tables/weight/logits", torch.zeros(3)),
    ("sddarts", {"teachers": "remembered"}, "memory/teachers/tables/weight", {}),
    ("sddarts", {"teachers": "remembered"}, "memory/teachers/tables", 3),
    ("oles", {}, "memory/gradients/counts", "many"),
    ("oles", {}, "memory/gradients", {}),
    ("oles", {}, "memory/gradients/sums", torch.tensor([torch.nan])),
])  # fmt: skip
def test_what_a_method_cannot_have_remembered_is_refused(tmp_path, name, options, place, value):
    made = method(name, **options)
    state = made.start(seed=0, epochs=2, steps=3, images=(60, 60))
    content = checkpoint.pack(made, state)
    memory = next(iter(content["memory"]))
    put(content, place.replace("gradients", memory), value)
    with pytest.raises(ValueError, match=f"^memory.{memory}"):
        checkpoint.restore(method(name, **options), content)


@pytest.mark.parametrize("place, value, says", [
    ("epoch", 99, "epoch: it should be at most 2, not 99"), ("step", 5, "step: it should be at most 3, not 5"), ("kind", "search", "the check"),
    ("sums", {}, "sums: it lacks"), ("net", {}, "net: it lacks"), ("optimizer", {}, "optimizer: it lacks"),
    ("scaler", {"scale": 1.0}, "scaler: "),
])  # fmt: skip
def test_a_retraining_that_cannot_be_is_refused(stopped_training, tmp_path, place, value, says):
    folder = tmp_path / "run"
    shutil.copytree(stopped_training, folder)
    path = folder / "checkpoint.pt"
    content = checkpoint.read(path)
    put(content, place, value)
    checkpoint.save(path, content)
    files.previous_path(path).unlink()
    with pytest.raises(ValueError) as error:
        resume(folder, digits(), report=quiet)
    assert str(error.value).startswith(f"checkpoint {path} does not fit its run ({says}"), (
        error.value
    )
    assert len(str(error.value)) <= 300


# The checkpoint before the last.


@pytest.fixture(scope="module")
def stopped_training(tmp_path_factory) -> Path:
    """A training stopped after the second step of its second epoch; it saved after each step."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        trained(folder, stopping=stop_at(8), seconds=0)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A search that was stopped in its second epoch, each step saved; and the undisturbed one."""
    home = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Method, "step", after(STEPS + 2, lambda: os.kill(os.getpid(), 2)))
        assert main(["search", *SMALL, *EVERY_STEP, "--out", str(home / "run")]) == 130
    assert main(["search", *SMALL, *EVERY_STEP, "--out", str(home / "whole")]) == 0
    return home


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_search_goes_on_from_the_checkpoint_before_a_damaged_one(stopped, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(stopped / "run", folder)
    damage(folder / "checkpoint.pt")
    for gone in (False, True):
        if gone:
            (folder / "checkpoint.pt").unlink()
        assert main(["resume", str(folder)]) == 2
        said = capsys.readouterr().err
        assert f"archgrad resume {folder} --previous" in said and said.count("\n") == 1
    assert main(["resume", str(folder), "--previous"]) == 0
    assert "from epoch 2, step 1" in capsys.readouterr().out
    assert same({**outcome(folder), "config": None}, {**outcome(stopped / "whole"), "config": None})


def test_a_retraining_goes_on_from_the_checkpoint_before_a_damaged_one(
    network, stopped_training, tmp_path, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(stopped_training, folder)
    damage(folder / "checkpoint.pt")
    with pytest.raises(
        ValueError, match=f"go on from the one before it by `archgrad resume {folder} --previous`"
    ):
        resume(folder, digits(), report=quiet)
    assert main(["resume", str(folder), "--previous"]) == 0
    assert (folder / "weights.safetensors").read_bytes() == (
        network / "weights.safetensors"
    ).read_bytes()


def test_without_a_checkpoint_before_it_there_is_nothing_to_go_back_to(stopped, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(stopped / "run", folder)
    damage(folder / "checkpoint.pt")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    files.previous_path(folder / "checkpoint.pt").write_bytes(b"cut")
    assert (
        main(["resume", str(folder), "--previous"]) == 2 and "is damaged" in capsys.readouterr().err
    )
    files.previous_path(folder / "checkpoint.pt").unlink()
    assert (
        main(["resume", str(folder), "--previous"]) == 2
        and "leave out --previous" in capsys.readouterr().err
    )
    assert (
        main(["resume", str(folder)]) == 2 and "restore it from a copy" in capsys.readouterr().err
    )
    del before["checkpoint.previous.pt"], before["lock"]
    assert all((folder / name).read_bytes() == content for name, content in before.items())


@pytest.mark.parametrize("links", [True, False])
def test_a_whole_checkpoint_is_there_at_every_instant(tmp_path, monkeypatch, links):
    """Before and after each step of the rotation; on a file system without hard links, too."""
    path, seen = tmp_path / "checkpoint.pt", []
    one = method()
    state = one.start(seed=0, epochs=2, steps=3)

    def looking(real):
        def act(*given, **named):
            seen.append(checkpoint.read(path)["step"] if path.exists() else None)
            real(*given, **named)
            seen.append(checkpoint.read(path)["step"])

        return act

    def refused(*given, **named):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "replace", looking(os.replace))
    monkeypatch.setattr(os, "link", looking(os.link) if links else refused)
    for step in (0, 1, 2):
        state.step = step
        checkpoint.save(path, checkpoint.pack(one, state))
    assert (
        checkpoint.read(path)["step"] == 2
        and checkpoint.read(files.previous_path(path))["step"] == 1
    )
    assert seen == [None, 0, *(links * [0, 0]), 0, 0, 0, 1, *(links * [1, 1]), 1, 1, 1, 2]
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
    ]
    checkpoint.restore_previous(path)
    checkpoint.save(
        path, checkpoint.pack(one, state)
    )  # of two names of one file a rename leaves both
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
    ]


def test_a_seal_is_that_of_the_bytes_before_it(tmp_path):
    path = tmp_path / "file"
    with seals.sealed(path) as file:
        file.write(b"some bytes")
    with path.open("rb") as read:
        seals.check_seal(read)
        assert read.tell() == 0 and read.read().startswith(b"some bytes" + seals.MARK)
    path.write_bytes(path.read_bytes().replace(b"some", b"same"))
    with path.open("rb") as read, pytest.raises(ValueError, match="not those that were written"):
        seals.check_seal(read)
