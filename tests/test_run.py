"""The run folder, and the search from Python."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from rich.console import Console

from archgrad import run
from archgrad.arch.genotype import Genotype
from archgrad.cli import main
from archgrad.run import config
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder
from archgrad.run.sections import DataSettings, DiagnosticSettings, SearchSettings
from archgrad.storage.files import read_json
from pictures import DRAWN, pictures
from running import SMALL, outcome, same

QUIET = Console(quiet=True)


def tiny(out: Path, **given) -> SearchConfig:
    return SearchConfig(
        out=out,
        seed=3,
        threads=1,
        data=DataSettings(path="digits"),
        space={"name": "nasbench201", "channels": 2, "cells": 1},
        search=SearchSettings(limit=60, batch=20, epochs=3, checkpoint_seconds=1e-9),
        diagnostics=DiagnosticSettings(front_points=2),
        **({"alphas": {"lr": 0.05}} | given),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pictures(DRAWN):
        found = run.search(tiny(folder), console=QUIET)
    return folder, found


def test_a_run_folder_has_all_its_files(finished):
    folder, found = finished
    names = {
        "config.yaml",
        "environment.json",
        "data.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "genotype.json",
        "front.json",
    }
    names |= {"alphas.safetensors", "cells.svg", "curves.svg", "checkpoint.previous.pt"}
    assert names | {"lock"} == {path.name for path in folder.iterdir()}
    for name in ("cells.svg", "curves.svg"):
        assert len([*ElementTree.parse(folder / name).iter()]) > 20  # drawn
    saved = read_json(folder / "genotype.json")
    assert Genotype.from_json(saved["genotype"]) == found.genotype == Genotype.parse(saved["text"])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert {
        "train_loss",
        "val_loss",
        "train_accuracy",
        "val_accuracy",
        "entropy",
        "skips",
        "genotype",
        "seconds",
    } <= rows[0].keys()
    assert Genotype.parse(rows[-1]["genotype"]) == found.genotype
    assert read_json(folder / "data.json")["splits"] == {"train": 60, "val": 60, "test": 359}
    assert read_json(folder / "environment.json").keys() >= {
        "archgrad",
        "commit",
        "python",
        "torch",
        "machine",
        "threads",
        "device",
    }


def test_the_settings_are_resolved(finished):
    settings = yaml.safe_load((finished[0] / "config.yaml").read_text())
    assert (
        settings["space"].items()
        >= {"name": "nasbench201", "channels": 2, "classes": 10, "in_channels": 1}.items()
    )
    assert settings["darts"] == {"order": "weight_first", "hypergradient": "first_order"}
    assert settings["alphas"]["lr"] == 0.05 and settings["weights"]["nesterov"] is True
    assert settings["data"].items() >= {"path": "digits", "size": 8, "flip": False}.items()
    assert (
        settings["device"] in ("cpu", "cuda") and settings["threads"] == 1 and "out" not in settings
    )


def test_a_run_is_repeated_from_its_settings(finished, tmp_path):
    assert (
        main(
            [
                "search",
                "--config",
                str(finished[0] / "config.yaml"),
                "--out",
                str(tmp_path / "again"),
            ]
        )
        == 0
    )
    assert same(outcome(tmp_path / "again"), outcome(finished[0]))


def test_python_and_the_command_line_agree(finished, tmp_path):
    assert (
        main(
            [
                "search",
                *SMALL,
                "--search.checkpoint-seconds",
                "1e-9",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    assert same(outcome(tmp_path / "run"), outcome(finished[0]))


def test_observers_do_not_change_a_run(finished, tmp_path):
    """The loop without any observer ends with the same genotype and alphas."""
    from archgrad.searching import loop

    prepared = run.prepare(tiny(tmp_path), lambda line: None)
    bare = loop.search(prepared.method, prepared.data, 3, seed=3)
    assert (
        same(bare.state.alphas, finished[1].state.alphas) and bare.genotype == finished[1].genotype
    )


def test_a_finished_run_is_not_touched(finished):
    before = {
        path: path.stat().st_mtime_ns for path in finished[0].iterdir() if path.name != "lock"
    }
    assert run.resume(finished[0], console=QUIET) is None
    with pytest.raises(ValueError, match="holds a run already"):
        run.search(tiny(finished[0]), console=QUIET)
    assert before == {
        path: path.stat().st_mtime_ns for path in finished[0].iterdir() if path.name != "lock"
    }


def unfinished(finished, folder: Path) -> Path:
    folder.mkdir()
    for path in finished[0].iterdir():
        if path.name != "genotype.json":
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_another_plan_is_refused(finished, tmp_path):
    folder = unfinished(finished, tmp_path / "run")
    settings = folder / "config.yaml"
    settings.write_text(settings.read_text().replace("epochs: 3", "epochs: 4"))
    with pytest.raises(ValueError, match="planned for 3 epochs"):
        run.resume(folder, console=QUIET)


def test_changed_images_are_refused(finished, tmp_path):
    folder = unfinished(finished, tmp_path / "run")
    (folder / "data.json").write_text(
        json.dumps(read_json(folder / "data.json") | {"fingerprint": "other"})
    )
    with pytest.raises(ValueError, match="have changed"):
        run.resume(folder, console=QUIET)


def test_a_truncated_checkpoint_is_refused(finished, tmp_path):
    folder = unfinished(finished, tmp_path / "run")
    saved = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(saved[: len(saved) // 2])
    with pytest.raises(ValueError, match="damaged"):
        run.resume(folder, console=QUIET)


def test_two_processes_in_one_folder_are_refused(finished, tmp_path):
    folder = unfinished(finished, tmp_path / "run")
    with RunFolder(folder).lock(), pytest.raises(ValueError, match="another process"):
        run.resume(folder, console=QUIET)
    assert (
        run.resume(folder, console=QUIET) is not None
    )  # a lock that nobody holds any more is taken over


@pytest.mark.parametrize("there", ["file", "folder"])
def test_nothing_is_written_over(tmp_path, there):
    place = tmp_path / "run"
    if there == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine").write_text("mine")
    with pytest.raises(ValueError, match="choose another --out"):
        run.search(tiny(place), console=QUIET)


def test_nothing_is_left_of_a_search_that_could_not_begin(tmp_path):
    with pytest.raises(ValueError, match="limit"):
        run.search(
            tiny(tmp_path / "run").model_copy(update={"search": SearchSettings(limit=5000)}),
            console=QUIET,
        )
    assert not (tmp_path / "run").exists()


def test_space_and_images_must_agree(tmp_path):
    with pytest.raises(ValueError, match="digits has 10"):
        run.prepare(
            tiny(tmp_path).model_copy(update={"space": {"name": "nasbench201", "classes": 5}}),
            lambda line: None,
        )


def test_photos_get_the_imagenet_stem():
    settings = config.read(
        (
            "",
            {
                "data": {"path": "digits", "size": 96},
                "space": {"name": "darts", "channels": 4, "cells": 3},
            },
        )
    )
    assert run.prepare(settings, lambda line: None).config.space["stem"] == "imagenet"


def test_the_default_folder():
    named = config.read(
        ("", {"data": "some/where/photos of cats", "method": "random", "space": "s2", "seed": 7})
    )
    assert run.default_out(named) == Path("runs/random-s2-photos_of_cats-seed7")
