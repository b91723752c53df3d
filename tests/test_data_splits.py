"""Which folders are splits, and which split does what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from archgrad import data, run
from archgrad.arch.genotype import Genotype
from archgrad.cli import main
from archgrad.compare import study
from archgrad.data import load, load_labelled, places, retrain_data, search_data
from archgrad.retraining import evaluating as evaluation
from archgrad.retraining import execute as retraining
from archgrad.retraining.settings import retrain_settings
from archgrad.run import execute
from archgrad.run.config import SearchConfig, read, read_yaml
from archgrad.run.folder import RunFolder
from archgrad.run.sections import DataSettings, SearchSettings
from archgrad.spaces import space
from image_sets import folder, silent, write

CELL = "|nor_conv_1x1~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"


@pytest.fixture
def read_images(tmp_path):
    """`load` with a cache of its own."""
    return lambda path, **options: load(
        path, **{"cache": tmp_path / "cache", "report": silent, **options}
    )


def three(root: Path, train: str = "train", val: str = "val", test: str = "test") -> Path:
    """A folder of training, validation and test images, 8, 6 and 4 of them."""
    return folder(
        folder(folder(root, (4, 4), train, (8, 8)), (3, 3), val, (8, 8)), (2, 2), test, (8, 8)
    )


# which folders


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train", "eval"),
        ("training", "Valid"),
        ("train", "VAL"),
    ],
)
def test_usual_names_of_splits_in_any_capitals(tmp_path, read_images, train, test):
    root = folder(folder(tmp_path / "set", (4, 4), train), (2, 1), test)
    dataset = read_images(root)
    assert (dataset.classes, len(dataset.train), len(dataset.test)) == (("a", "b"), 8, 3)
    usual = folder(folder(tmp_path / "usual", (4, 4), "train"), (2, 1), "test")
    assert dataset.fingerprint == read_images(usual).fingerprint


def test_a_class_called_train_beside_other_classes_is_a_class(tmp_path, read_images):
    for name in ("train", "bus", "test"):
        for index in range(5):
            write(tmp_path / "set" / name / f"{index}.png")
    assert read_images(tmp_path / "set").classes == ("bus", "test", "train")
    places.check_images(tmp_path / "set")


@pytest.mark.parametrize("beside", ["unlabelled", "annotations"])
def test_folders_beside_the_splits_are_named(tmp_path, read_images, beside):
    root = folder(folder(tmp_path / "set", (4, 4), "train"), (2, 2), "test")
    write(root / beside / "0.png")
    dataset = read_images(root)
    assert (len(dataset.train), len(dataset.test)) == (8, 4)
    assert any(
        f"not read, because they lie beside the splits of {root}: {beside}" in note
        for note in dataset.notes
    )


def test_a_class_called_training_with_folders_of_its_own_stays_a_class(tmp_path, read_images):
    root = folder(tmp_path / "set", (5, 5), "Training")
    for index in range(5):
        write(root / "bus" / f"{index}.png")
    assert read_images(root).classes == ("Training", "bus")


def test_of_two_folders_of_one_split_the_lower_case_one_is_read(tmp_path, read_images):
    root = folder(
        folder(folder(tmp_path / "set", (4, 4), "train"), (3, 3), "Train"), (2, 2), "training"
    )
    dataset = read_images(root)
    assert len(dataset.train) + len(dataset.test) == 8
    assert any("beside the splits" in note and "Train, training" in note for note in dataset.notes)


def test_splits_without_training_images_are_refused(tmp_path, read_images):
    root = folder(folder(tmp_path / "set", (3, 3), "Test"), (3, 3), "val")
    with pytest.raises(ValueError, match=r"has no split called train \(there are: test, val\)"):
        read_images(root)


@pytest.mark.parametrize("name", ["Train", "train"])
def test_splits_that_hold_images_and_no_classes_are_refused(tmp_path, name):
    for split in (name, "Test"):
        write(tmp_path / "set" / split / "0.png")
    with pytest.raises(ValueError, match=f"no class folders in .*{name}"):
        places.check_images(tmp_path / "set")


def test_archives_of_a_mac_bring_no_class(tmp_path, read_images):
    root = folder(tmp_path / "set", (5, 5))
    write(root / "__MACOSX" / "a" / "0.png")
    write(root / "a" / "__MACOSX" / "0.png")
    dataset = read_images(root)
    assert dataset.classes == ("a", "b") and len(dataset.train) + len(dataset.test) == 10


# which split does what


def test_without_a_test_split_the_validation_images_test_and_it_is_said(tmp_path, read_images):
    root = folder(folder(tmp_path / "set", (4, 4), "train"), (2, 1), "val")
    dataset = read_images(root)
    assert (
        dataset.val is None
        and len(dataset.test) == 3
        and "no test split: val is the test set" in dataset.notes
    )


def test_validation_images_move_the_alphas(tmp_path, read_images):
    dataset = read_images(three(tmp_path / "set"))
    assert [len(part) for part in (dataset.train, dataset.test, dataset.val)] == [
        8,
        4,
        6,
    ] and dataset.validation == "val"
    assert any(
        "val (6 images) trains the alphas and validates a retraining" in note
        for note in dataset.notes
    )
    images = search_data(dataset, batch=2)
    assert {name: len(split.places) for name, split in images.splits.items()} == {
        "train": 8,
        "val": 6,
        "test": 4,
    }
    seen = torch.cat(
        [batch.images for batch in search_data(dataset, batch=2, augment=False).batches("val")]
    )
    own = dataset.preprocess.crop_and_normalise(dataset.val.pixels(torch.arange(6)))
    assert sorted(seen.sum((1, 2, 3)).tolist()) == sorted(own.sum((1, 2, 3)).tolist())
    assert search_data(dataset, batch=2, limit=4).count("val") == 4
    assert set(retrain_data(dataset, batch=2).splits) == {"train", "val", "test"}
    assert "6 validation images" in dataset.describe_balance()


def test_validation_images_are_a_split_or_a_separate_set_or_none(tmp_path, read_images):
    root = three(tmp_path / "set")
    assert read_images(root, val="none").val is None and read_images(root, test="val").val is None
    assert read_images(root, val="Validation").validation == "val"
    other = read_images(root, val=str(folder(tmp_path / "other", (1, 1))))
    assert len(other.val) == 2 and other.validation == str(tmp_path / "other")
    held = read_images(folder(tmp_path / "plain", (5, 5)), val=str(tmp_path / "other"))
    assert [len(part) for part in (held.train, held.test, held.val)] == [8, 2, 2]
    with pytest.raises(ValueError, match="unknown val split 'vall'"):
        read_images(root, val="vall")
    with pytest.raises(ValueError, match=r"data\.val and data\.test are both val"):
        read_images(root, val="val", test="val")


def test_validation_images_are_part_of_the_fingerprint(tmp_path, read_images):
    root = three(tmp_path / "set")
    whole, without = read_images(root), read_images(root, val="none")
    pair = folder(folder(tmp_path / "pair", (4, 4), "train", (8, 8)), (2, 2), "test", (8, 8))
    assert without.fingerprint == read_images(pair).fingerprint != whole.fingerprint
    write(root / "val" / "a" / "000.png", (1, 2, 3), (8, 8))
    assert (
        read_images(root).fingerprint != whole.fingerprint
        and read_images(root, val="none").fingerprint == without.fingerprint
    )


def test_a_split_that_is_not_read_need_not_be_readable(tmp_path, read_images):
    root = folder(folder(tmp_path / "set", (4, 4), "train"), (2, 2), "test")
    write(root / "val" / "0.png")
    assert len(read_images(root, val="none").train) == 8
    with pytest.raises(ValueError, match=r"no class folders in .*val"):
        read_images(root)


def test_labelled_images_of_any_split(tmp_path, read_images):
    root = three(tmp_path / "set", "Train", "Valid", "Test")
    preprocess = read_images(root).preprocess
    assert [
        len(load_labelled(root, preprocess, name, cache=tmp_path / "cache"))
        for name in (None, "Train", "valid", "Test")
    ] == [4, 8, 6, 4]


# what was recorded before


def begun(home: Path, **images: str) -> Path:
    """A search that was killed before its first step, on a folder with three splits."""
    settings = SearchConfig(
        out=home / "run", threads=1, data=DataSettings(path=str(three(home / "set")), size=8, cache=home / "cache", **images),
        space={"name": "nasbench201", "channels": 2, "cells": 1}, search=SearchSettings(batch=2, epochs=1),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execute, "_run", lambda *_: None)
        run.search(settings, console=Console(quiet=True))
    return home / "run"


def test_a_run_records_its_validation_images(tmp_path):
    folder = RunFolder(begun(tmp_path))
    assert read_yaml(folder.config)[1]["data"]["val"] == "val" and folder.read_images()[
        "splits"
    ] == {
        "train": 8,
        "val": 6,
        "test": 4,
    }
    assert run.prepare_recorded(folder, silent)[0].data.count("val") == 6


def test_a_run_recorded_without_goes_on_without(tmp_path):
    folder = RunFolder(begun(tmp_path, val="none"))
    folder.config.write_text(folder.config.read_text().replace("  val: none\n", ""))
    assert "val" not in read_yaml(folder.config)[1]["data"]  # as earlier versions wrote it
    prepared, _ = run.prepare_recorded(folder, silent)
    assert {name: prepared.data.count(name) for name in ("train", "val", "test")} == {
        "train": 4,
        "val": 4,
        "test": 4,
    }


def test_the_settings_of_a_run_without_validation_images_repeat_it(tmp_path):
    recorded = read_yaml(RunFolder(begun(tmp_path, val="none")).config)
    assert recorded[1]["data"]["val"] == "none"
    again = run.prepare(read(recorded), silent)
    assert (again.data.count("val"), again.config.data.val) == (
        4,
        "none",
    )  # a half of the training images: the split has 6


def test_a_set_without_a_validation_split_records_none(tmp_path):
    (tmp_path / "set").mkdir()
    settings = DataSettings(
        path=str(folder(tmp_path / "set", (6, 6), size=(8, 8))), cache=tmp_path / "cache"
    )
    given = SearchConfig(
        threads=1,
        data=settings,
        space={"name": "nasbench201", "channels": 2, "cells": 1},
        search=SearchSettings(batch=2),
    )
    assert "val" not in run.prepare(given, silent).config.to_mapping()["data"]


def test_a_run_that_took_splits_for_classes_is_told_so(tmp_path):
    folder = RunFolder(begun(tmp_path))
    (tmp_path / "set" / "train").rename(tmp_path / "set" / "Train")
    (tmp_path / "set" / "test").rename(tmp_path / "set" / "Test")
    was = json.loads(folder.data.read_text())
    was["preprocess"]["classes"] = ["Test", "Train", "val"]
    folder.data.write_text(json.dumps(was | {"fingerprint": "2:" + "0" * 32}))
    folder.config.write_text(folder.config.read_text().replace("classes: 2", "classes: 3"))
    with pytest.raises(
        ValueError,
        match=r"have changed .* \(the class 'Test' is gone; Test and Train in .* are splits, which earlier versions",
    ):
        run.prepare_recorded(folder, silent)


def test_a_study_says_which_images_validate():
    given = {"data": "digits", "arms": {"a": {"method": "darts"}}}
    new = study.read(("", given))
    assert new.shared["data"]["val"] == "auto" and new.settings("a").data.val == "auto"
    before = study.read(("", given), recorded=True)
    assert before.settings("a").data.val == "none"
    again = study.read(("", given), before=before)
    assert again.settings("a").data.val == "none" and study.joined(before, again)
    elsewhere = study.read(("", {**given, "data": {"path": "digits", "val": "/some/where"}}))
    assert elsewhere.to_mapping()["data"]["val"] == "elsewhere"
    assert study.joined(study.read(("", elsewhere.to_mapping()), recorded=True), elsewhere)


@pytest.mark.parametrize(
    ("val", "recorded"),
    [("val", "val"), ("auto", "auto"), ("none", "none"), ("./val", "elsewhere")],
)
def test_a_study_goes_on_by_the_same_command_beside_a_folder_of_the_split(
    tmp_path, monkeypatch, val, recorded
):
    monkeypatch.chdir(three(tmp_path / "set"))
    (tmp_path / "set" / "auto").mkdir(), (tmp_path / "set" / "none").mkdir()
    asked = study.read(
        (
            "",
            {"data": {"path": ".", "test": "test", "val": val}, "arms": {"a": {"method": "darts"}}},
        )
    )
    said = asked.to_mapping()
    assert said["data"] == {"test": "test", "val": recorded}
    before = study.read(("", said), recorded=True)
    assert study.joined(before, asked).to_mapping() == said


def test_a_study_whose_validation_images_are_another_set_asks_for_them(tmp_path, capsys):
    (tmp_path / "study").mkdir()
    given = {
        "data": {"val": "elsewhere"},
        "search": {"epochs": 9},
        "alphas": {"lr": 0.1},
        "arms": {"darts": {"method": "darts"}},
    }
    given |= {"controls": False, "control": "darts", "seeds": [1]}
    (tmp_path / "study" / "study.yaml").write_text(study.read(("", given), recorded=True).to_yaml())
    assert (
        main(["compare", "--out", str(tmp_path / "study"), "--data", str(three(tmp_path / "set"))])
        == 2
    )
    assert "name it by --data.val" in capsys.readouterr().err


def retrained(
    home: Path, dataset: data.Dataset, epochs: int, report=silent, *, told: bool = True
) -> retraining.Retrained:
    """A tiny network, trained into ``home / "net"``; ``told``: by what arguments its images are loaded."""
    cells = space("nasbench201", channels=2, cells=1, classes=2)
    settings = retrain_settings(
        cells, {"preset": "quick", "epochs": epochs, "batch": 4, "channels": 2, "cells": 1}
    )
    origin = {"path": str(home / "set"), "size": 8, "cache": str(home / "cache")} if told else None
    return retraining.retrain(
        cells, Genotype.parse(CELL), dataset, settings, home / "net", origin=origin, report=report
    )


def test_a_retraining_is_validated(tmp_path, read_images):
    lines: list[str] = []
    found = retrained(tmp_path, read_images(three(tmp_path / "set"), size=8), 2, lines.append)
    assert all({"val_accuracy", "val_loss", "test_accuracy"} <= row.keys() for row in found.rows)
    best = max(found.rows, key=lambda row: row["val_accuracy"])
    assert found.best_epoch == best["epoch"] and found.best_accuracy == best["test_accuracy"]
    assert any(line.startswith("best epoch by the validation images") for line in lines)
    card = json.loads((tmp_path / "net" / "network.json").read_text())
    assert card["data"]["val"] == "val" and retraining.resume(tmp_path / "net", report=silent)
    assert evaluation.evaluate(tmp_path / "net").accuracy == found.accuracy


def test_a_network_recorded_without_goes_on_without(tmp_path, read_images):
    found = retrained(tmp_path, read_images(three(tmp_path / "set"), size=8, val="none"), 1)
    assert (
        "val_accuracy" not in found.rows[0]
        and "val" not in json.loads((tmp_path / "net" / "network.json").read_text())["data"]
    )
    assert evaluation.evaluate(tmp_path / "net").accuracy == found.accuracy


@pytest.mark.parametrize(
    "given",
    [
        {"drop_duplicates": True},
        {"size": 16},
        {"test": "val"},
        {"test": "other"},
        {"val": "none", "seed": 3},
        {},
    ],
)
def test_a_network_of_python_finds_its_images_from_anywhere(
    tmp_path, monkeypatch, read_images, given
):
    root = three(tmp_path / "set")
    (root / "train" / "a" / "000.png").write_bytes((root / "test" / "a" / "000.png").read_bytes())
    folder(tmp_path / "other", (3, 3), size=(8, 8))
    monkeypatch.chdir(tmp_path)
    found = retrained(tmp_path, read_images("set", **given), 1, told=False)
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    assert evaluation.evaluate(tmp_path / "net").accuracy == found.accuracy
    assert retraining.resume(tmp_path / "net", report=silent).accuracy == found.accuracy


def test_a_held_out_test_set_is_that_of_its_seed(tmp_path, read_images):
    folder(tmp_path / "set", (12, 12), size=(8, 8))
    found = retrained(tmp_path, read_images(tmp_path / "set", seed=3), 1, told=False)
    assert evaluation.evaluate(tmp_path / "net").accuracy == found.accuracy


# names in either form of Unicode


def test_a_class_is_known_in_either_form(tmp_path, read_images):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for split, name in (("train", composed), ("test", decomposed)):
        for index in range(3):
            write(tmp_path / "set" / split / name / f"{index}.png", (index, 0, 0))
            write(tmp_path / "set" / split / "tea" / f"{index}.png", (0, index, 0))
    dataset = read_images(tmp_path / "set")
    assert dataset.classes == (composed, "tea") and dataset.test.counts(2) == [3, 3]
    preprocess = data.Preprocess.from_json(
        dataset.preprocess.to_json() | {"classes": [decomposed, "tea"]}
    )
    assert (
        load_labelled(tmp_path / "set", preprocess, cache=tmp_path / "cache").labels.tolist()
        == [0] * 3 + [1] * 3
    )
    (tmp_path / "set" / "train" / composed).rename(
        tmp_path / "set" / "train" / decomposed
    )  # as a Mac copies it
    moved = read_images(tmp_path / "set")
    assert moved.classes == (decomposed, "tea") and moved.fingerprint != dataset.fingerprint
    assert data.same_images(dataset.fingerprint, moved) and data.same_images(
        moved.fingerprint, dataset
    )
    assert (
        data.difference(dataset.preprocess.to_json(), moved)
        == "Unicode writes the names of the classes in another form"
    )
