"""Images that are in two parts of a set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from archgrad.data import load
from archgrad.run.config import read
from image_sets import folder, silent

DROP = "--data.drop-duplicates leaves them out of the"


@pytest.fixture
def read_images(tmp_path):
    """`load` with a cache of its own."""
    return lambda path, **options: load(
        path, **{"cache": tmp_path / "cache", "report": silent, **options}
    )


def leaking(root: Path) -> Path:
    """12 training images; three of the 11 test images are among them, under other names, one of them in another class."""
    folder(folder(root, (6, 6), "train"), (4, 4), "test", (20, 20))
    for source, target in (("a/000", "a/copy0"), ("a/001", "a/copy1"), ("b/002", "a/copy2")):
        shutil.copy(root / "train" / f"{source}.png", root / "test" / f"{target}.png")
    return root


def test_duplicates_are_counted(tmp_path, read_images):
    dataset = read_images(leaking(tmp_path / "set"))
    assert (
        f"3 of 11 test images are training images as well, byte for byte: {DROP} training images"
        in dataset.notes
    )
    clean = folder(folder(tmp_path / "clean", (3, 3), "train"), (2, 2), "test", (20, 20))
    assert not any("byte for byte" in note for note in read_images(clean).notes)


def test_duplicates_are_left_out_of_the_training_images(tmp_path, read_images):
    root = leaking(tmp_path / "set")
    whole, dataset = read_images(root), read_images(root, drop_duplicates=True)
    assert (len(dataset.train), len(dataset.test)) == (9, 11) and dataset.train.counts(2) == [4, 5]
    assert "3 training images are left out: they are test images as well" in dataset.notes
    assert dataset.fingerprint != whole.fingerprint and dataset.test.labels.equal(whole.test.labels)
    for name in ("a/000", "a/001", "b/002"):
        (root / "train" / f"{name}.png").unlink()
    assert (
        read_images(root).fingerprint
        == dataset.fingerprint
        == read_images(root, drop_duplicates=True).fingerprint
    )


def test_held_out_images_count_too(tmp_path, read_images):
    root = folder(tmp_path / "set", (5, 5))
    for name in "ab":
        shutil.copytree(root / name, root / name / "again")
    dataset = read_images(root)
    [said] = [note for note in dataset.notes if "byte for byte" in note]
    assert said.endswith(f"{DROP} training images")
    less = read_images(root, drop_duplicates=True)
    assert len(less.test) == len(dataset.test) == 4 and len(less.train) == 16 - int(said.split()[0])


def test_validation_images_too(tmp_path, read_images):
    root = folder(leaking(tmp_path / "set"), (2, 2), "val", (30, 30))
    shutil.copy(root / "train" / "b" / "005.png", root / "val" / "b" / "train.png")
    shutil.copy(root / "test" / "a" / "000.png", root / "val" / "a" / "test.png")
    notes = read_images(root).notes
    assert (
        f"1 of 6 validation images are training images as well, byte for byte: {DROP} training images"
        in notes
    )
    assert (
        f"1 of 11 test images are validation images as well, byte for byte: {DROP} validation images"
        in notes
    )
    dataset = read_images(root, drop_duplicates=True)
    assert [len(part) for part in (dataset.train, dataset.test, dataset.val)] == [8, 11, 5]
    assert (
        "4 training images are left out: they are test or validation images as well"
        in dataset.notes
    )


def test_nothing_left_is_refused(tmp_path, read_images):
    root = folder(tmp_path / "set", (3, 3), "train")
    shutil.copytree(root / "train", root / "test")
    with pytest.raises(ValueError, match=r"data\.drop_duplicates leaves no training image"):
        read_images(root, drop_duplicates=True)


def test_drop_duplicates_is_a_setting_that_is_off_by_default():
    assert read(("", {"data": {"path": "digits", "drop-duplicates": True}})).data.drop_duplicates
    usual = read(("", {"data": {"path": "digits"}}))
    assert (
        not usual.data.drop_duplicates
        and not {"drop_duplicates", "skip_unreadable", "val"} & usual.to_mapping()["data"].keys()
    )
