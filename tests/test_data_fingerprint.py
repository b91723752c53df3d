"""What a fingerprint is of, and what a run says about images that are not those it began with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from archgrad import data, run
from archgrad.data.fingerprint import first_version
from archgrad.run import execute
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder
from archgrad.run.sections import DataSettings, SearchSettings
from image_sets import folder, parquet, silent, write
from retraining import DIGITS_1, digits


@pytest.fixture
def read(tmp_path):
    """`data.load` with a cache of its own."""
    return lambda path, **options: data.load(
        path, **{"cache": tmp_path / "cache", "report": silent, **options}
    )


def black(path: Path) -> None:
    """Another image of the same name and size."""
    with Image.open(path) as image:
        size = image.size
    write(path, "black", size)


# what it is of


def test_the_fingerprint_depends_on_the_images_and_not_on_their_folder(tmp_path, read):
    here, there = (read(folder(tmp_path / name, (5, 5))) for name in ("here", "there"))
    assert (
        here.fingerprint == there.fingerprint
        and here.fingerprint.startswith("2:")
        and len(here.fingerprint) == 34
    )
    root = tmp_path / "here"
    assert read(root.rename(tmp_path / "moved")).fingerprint == here.fingerprint
    assert read(tmp_path / "moved", cache=tmp_path / "another").fingerprint == here.fingerprint


def test_every_image_counts(tmp_path, read):
    """Version 1 saw every second of the 224 training images."""
    root = folder(tmp_path / "set", (140, 140), size=(8, 8))
    before = read(root)
    black(root / "a" / f"{before.train.rows[1]:03}.png")
    after = read(root)
    assert first_version(after) == first_version(before) and after.fingerprint != before.fingerprint
    assert data.same_images(first_version(before), after) and not data.same_images(
        before.fingerprint, after
    )


def test_every_byte_counts_though_no_pixel_changes(tmp_path, read):
    root = folder(tmp_path / "set", (3, 3))
    before = read(root)
    with (root / "a" / "000.png").open("ab") as file:
        file.write(b"behind the end")
    after = read(root)
    assert after.train.store.equal(before.train.store) and after.fingerprint != before.fingerprint


@pytest.mark.parametrize("names", [["dog", "cat"], ["cat", "cow"]])
def test_class_names_and_their_order_count(tmp_path, read, names):
    before = read(parquet(tmp_path / "before.parquet", [0, 1] * 5, ["cat", "dog"]))
    after = read(parquet(tmp_path / "after.parquet", [0, 1] * 5, names))
    assert first_version(after) == first_version(before) and after.fingerprint != before.fingerprint


def test_labels_splits_size_and_seed_count(tmp_path, read):
    tables = [
        parquet(tmp_path / f"{n}.parquet", labels, ["cat", "dog"])
        for n, labels in enumerate(([0, 1] * 4, [0, 1] * 3 + [1, 0]))
    ]
    root = folder(folder(tmp_path / "set", (4, 4), "train"), (2, 2), "test")
    found = [
        read(tables[0]),
        read(tables[1]),
        read(tables[0], seed=1),
        read(tables[0], size=16),
        read(root),
    ]
    (root / "test" / "a" / "000.png").rename(root / "train" / "a" / "last.png")
    assert len({one.fingerprint for one in [*found, read(root)]}) == 6


def test_a_parquet_file_that_was_copied_has_its_fingerprint(tmp_path, read):
    path = parquet(tmp_path / "set.parquet", [0, 1] * 5, ["cat", "dog"])
    copy = shutil.copy(path, tmp_path / "copy.parquet")
    assert read(copy).fingerprint == read(path).fingerprint


def test_the_first_version_is_as_it_was():
    assert first_version(digits()) == DIGITS_1 and data.same_images(DIGITS_1, digits())
    assert (
        data.fingerprint_like(DIGITS_1, digits()) == DIGITS_1
        and data.fingerprint_like("2:0", digits()) == digits().fingerprint
    )
    assert not any(
        data.same_images(other, digits()) for other in ("", "2:", DIGITS_1[::-1], f"2:{DIGITS_1}")
    )


# what a run says


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images in ``set`` and a search on them in ``run``, killed before its first step."""
    home = tmp_path_factory.mktemp("begun")
    settings = SearchConfig(
        out=home / "run", threads=1, data=DataSettings(path=str(folder(home / "set", (8, 8))), size=8, cache=home / "cache"),
        space={"name": "nasbench201", "channels": 2, "cells": 1}, search=SearchSettings(batch=4, epochs=1),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execute, "_run", lambda *_: None)
        run.search(settings, console=Console(quiet=True))
    return home


def again(begun: Path, home: Path) -> Path:
    """The same, moved elsewhere."""
    shutil.copytree(begun, home)
    settings = home / "run" / "config.yaml"
    settings.write_text(settings.read_text().replace(str(begun), str(home)))
    return home


def resumed(home: Path) -> Any:
    return run.prepare_recorded(RunFolder(home / "run"), silent)


def rerecord(home: Path, **changed: Any) -> None:
    record = home / "run" / "data.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | changed))


def test_a_moved_folder_is_accepted(begun, tmp_path):
    home = again(begun, tmp_path / "moved")
    assert resumed(home)[0].data.dataset.name == str(home / "set")


def test_black_images_are_refused(begun, tmp_path):
    home = again(begun, tmp_path / "moved")
    for path in (home / "set" / "b").iterdir():
        black(path)
    with pytest.raises(
        ValueError,
        match=r"have changed since .* began \(the files, their labels or their order differ\): start a new search",
    ):
        resumed(home)


def test_a_newly_damaged_image_is_to_be_restored(begun, tmp_path):
    """`resume` has no flag that leaves it out, and without it the data set is another one."""
    home = again(begun, tmp_path / "moved")
    next((home / "set" / "a").iterdir()).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="restore it from a copy, because without it the data set"):
        resumed(home)


def test_a_renamed_class_is_named(begun, tmp_path):
    home = again(begun, tmp_path / "moved")
    (home / "set" / "a").rename(home / "set" / "aa")
    with pytest.raises(
        ValueError, match=r"have changed since .* began \(the class 'a' is now called 'aa'\)"
    ):
        resumed(home)


def test_a_fingerprint_that_is_no_text_is_named(begun, tmp_path):
    home = again(begun, tmp_path / "moved")
    rerecord(home, fingerprint=5)
    with pytest.raises(ValueError, match=r"data\.json .*fingerprint"):
        resumed(home)


def test_a_run_recorded_with_the_first_version_goes_on(begun, tmp_path):
    home = again(begun, tmp_path / "moved")
    rerecord(home, fingerprint=first_version(resumed(home)[0].data.dataset))
    assert resumed(home)
    black(home / "set" / "a" / "000.png")
    with pytest.raises(ValueError, match="have changed"):
        resumed(home)


@pytest.mark.parametrize(
    ("was", "says"),
    [
        ({"classes": ["0"]}, "the class '1' is new"),
        ({"classes": [*map(str, range(11))]}, "the class '10' is gone"),
        ({"classes": [*map(str, range(9, -1, -1))]}, "the classes have another order"),
        ({"size": 16}, "they had 16 pixels a side, and have 8 now"),
        ({"in_channels": 3}, "they had 3 channels, and have 1 now"),
        ({}, "the files, their labels or their order differ"),
    ],
)
def test_a_difference_in_words(was, says):
    assert data.difference(digits().preprocess.to_json() | was, digits()) == says
