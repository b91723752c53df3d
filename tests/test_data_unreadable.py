"""Images that cannot be read: all of them are named, or left out and recorded; and files that are no images."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from rich.console import Console

from archgrad import run
from archgrad.data import formats, load, load_labelled, search_data
from archgrad.run import execute
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder
from archgrad.run.sections import DataSettings, SearchSettings
from image_sets import folder, parquet, silent, write


@pytest.fixture
def read(tmp_path):
    """`load` with a cache of its own."""
    return lambda path, **options: load(
        path, **{"cache": tmp_path / "cache", "report": silent, **options}
    )


def damaged(root: Path) -> list[Path]:
    """Of 20 photos in two classes and 4 for testing, seven that cannot be read: cut, empty, no image."""
    folder(folder(root, (10, 10), "train", (64, 64), "jpg"), (2, 2), "test", (64, 64), "jpg")
    places = [root / "train" / "a" / f"{n:03}.jpg" for n in (0, 3, 4)] + [
        root / "train" / "b" / f"{n:03}.jpg" for n in (1, 8, 9)
    ]
    places.append(root / "test" / "b" / "001.jpg")
    for number, place in enumerate(places):
        whole = place.read_bytes()
        place.write_bytes([whole[: len(whole) // 2], b"", b"nothing"][number % 3])
    return places


def test_unreadable_images_are_all_listed_in_a_file_and_five_in_the_message(tmp_path, read):
    bad = damaged(tmp_path / "set")
    with pytest.raises(
        ValueError, match=r"^cannot read 7 of 24 images: .*train/a/000\.jpg \("
    ) as caught:
        read(tmp_path / "set")
    said = str(caught.value)
    assert all(str(place) in said for place in bad[:5]) and "2 more" in said and "\n" not in said
    assert said.endswith("mend or remove them, or leave out such images by --data.skip-unreadable")
    [listing] = (tmp_path / "cache").glob("*-unreadable.txt")
    assert str(listing) in said
    lines = listing.read_text().splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(place) for place in bad] and lines[
        1
    ].endswith("Pillow does not support its format")
    assert not list((tmp_path / "cache").glob("*.npy*"))


def test_unreadable_images_are_left_out_and_recorded(tmp_path, read):
    bad = damaged(tmp_path / "set")
    dataset = read(tmp_path / "set", skip_unreadable=True)
    assert (len(dataset.train), len(dataset.test)) == (14, 3) and dataset.train.labels.tolist() == [
        0
    ] * 7 + [1] * 7
    assert [line.partition(": ")[0] for line in dataset.unreadable] == [str(place) for place in bad]
    assert any(
        "left out because they cannot be read: 7 images (" in note and "2 more" in note
        for note in dataset.notes
    )
    assert search_data(dataset, batch=2).summary()["unreadable"] == list(dataset.unreadable)
    for place in bad:
        place.unlink()
    without = read(tmp_path / "set")
    assert (
        without.fingerprint == dataset.fingerprint
        and without.train.store.equal(dataset.train.store)
        and not without.unreadable
    )
    assert "unreadable" not in search_data(without, batch=2).summary()


def test_unreadable_images_are_searched_once_and_kept_with_the_cache(tmp_path, read, monkeypatch):
    bad = damaged(tmp_path / "set")
    first = read(tmp_path / "set", skip_unreadable=True)
    decoded = []
    with monkeypatch.context() as patched:
        patched.setattr("archgrad.data.cache.decode", lambda *_: decoded.append(_))
        again = read(tmp_path / "set", skip_unreadable=True)
    assert (
        again.fingerprint == first.fingerprint
        and again.unreadable == first.unreadable
        and not decoded
    )
    with pytest.raises(ValueError, match="cannot read 7 of 24"):
        read(tmp_path / "set")
    stamp = bad[0].stat()
    with (
        monkeypatch.context() as patched
    ):  # as if a library had come that can read them: files and times are the same
        patched.setattr("archgrad.data.decode.Image.open", lambda file: Image.new("RGB", (64, 64)))
        assert (
            len(read(tmp_path / "set", skip_unreadable=True, cache=tmp_path / "cache").train) == 20
        )
    assert bad[0].stat().st_mtime_ns == stamp.st_mtime_ns


def test_one_unreadable_image_is_named_with_the_option_that_skips_it(tmp_path, read):
    root = folder(tmp_path / "set", (3, 3))
    (root / "a" / "001.png").write_bytes(b"nothing")
    with pytest.raises(
        ValueError,
        match=r"cannot read the image .*a/001\.png: .*; mend or remove it, or leave out .* --data\.skip-unreadable",
    ):
        read(root)


def test_a_set_of_unreadable_images_alone_is_refused(tmp_path, read):
    for name in "ab":
        for index in range(3):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / name / f"{index}.png").write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match=r"none of the 6 images of .* can be read: cannot read the image"
    ):
        read(tmp_path / "set", skip_unreadable=True)


def test_rows_of_a_table_are_named_and_left_out(tmp_path, read):
    import datasets

    path = parquet(tmp_path / "whole.parquet", [0, 1] * 5, ["cat", "dog"])
    table = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "hf")
    )
    rows = table.cast_column("picture", datasets.Image(decode=False)).to_list()
    for row in (2, 5):
        rows[row]["picture"] = {"bytes": b"nothing", "path": None}
    features = datasets.Features({"picture": datasets.Image(), "kind": table.features["kind"]})
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "set.parquet")
    with pytest.raises(ValueError, match=r"cannot read 2 of 10 images: .*row 2"):
        read(tmp_path / "set.parquet")
    assert len(read(tmp_path / "set.parquet", skip_unreadable=True).unreadable) == 2


def test_a_fault_of_the_machine_is_no_unreadable_image(tmp_path, read, monkeypatch):
    root = folder(tmp_path / "set", (3, 3))

    def fail(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("archgrad.data.decode.Image.open", fail)
    with pytest.raises(ValueError, match="Too many open files") as caught:
        read(root, skip_unreadable=True)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_run_that_left_images_out_goes_on(tmp_path):
    damaged(tmp_path / "set")
    settings = SearchConfig(
        out=tmp_path / "run", threads=1, search=SearchSettings(batch=4, epochs=1), space={"name": "nasbench201", "channels": 2, "cells": 1},
        data=DataSettings(path=str(tmp_path / "set"), size=8, cache=tmp_path / "cache", skip_unreadable=True),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execute, "_run", lambda *_: None)
        run.search(settings, console=Console(quiet=True))
    recorded = RunFolder(tmp_path / "run")
    assert len(json.loads(recorded.data.read_text())["unreadable"]) == 7
    assert run.prepare_recorded(recorded, silent)[0].data.count("test") == 3


def test_labelled_images_are_left_out_too(tmp_path, read):
    damaged(tmp_path / "set")
    preprocess = read(tmp_path / "set", skip_unreadable=True).preprocess
    assert (
        len(
            load_labelled(
                tmp_path / "set", preprocess, skip_unreadable=True, cache=tmp_path / "cache"
            )
        )
        == 3
    )
    with pytest.raises(ValueError, match=r"cannot read the image .*test/b/001\.jpg"):
        load_labelled(tmp_path / "set", preprocess, cache=tmp_path / "cache")


# which files are images


@pytest.mark.parametrize("suffix", ["jfif", "pjpeg", "JFIF", "pjp"])
def test_other_endings_of_jpeg(tmp_path, read, suffix):
    root = folder(tmp_path / "set", (4, 4), suffix="jpg")
    for place in (root / "a").iterdir():
        place.rename(place.with_suffix(f".{suffix}"))
    dataset = read(root)
    assert len(dataset.train) + len(dataset.test) == 8
    assert (
        f".{suffix.lower()} files in {root} are images, which earlier versions did not know"
        in dataset.layout
    )
    assert formats.is_image(f"photo.{suffix}")


def test_avif(tmp_path, read):
    folder(tmp_path / "set", (4, 4), suffix="avif")
    if formats.missing_reader("x.avif"):
        with pytest.raises(ValueError, match="AVIF is read by an extra"):
            read(tmp_path / "set")
    else:
        assert len(read(tmp_path / "set").train) == 6


def test_heic_by_an_extra(tmp_path, read, monkeypatch):
    """A stand-in for the extra's library: its files are PNG in truth."""
    root = folder(tmp_path / "set", (3, 3))
    buffer = io.BytesIO()
    Image.new("RGB", (12, 12)).save(buffer, "PNG")
    for number in range(7):
        (root / "a" / f"photo{number}.HEIC").write_bytes(b"HEIC" + buffer.getvalue())
    with pytest.raises(
        ValueError,
        match=r"photo0\.HEIC, .*photo4\.HEIC, 2 more: HEIC is read by an extra: pip install .*; or leave out",
    ):
        read(root)
    assert len(read(root, skip_unreadable=True).unreadable) == 7

    def opened(file, name=None):
        file.seek(4)
        return Image.open(io.BytesIO(file.read()))

    library = ModuleType("pillow_heif")
    library.register_heif_opener = lambda: Image.register_open(
        "HEIF", opened, lambda prefix: prefix.startswith(b"HEIC")
    )
    monkeypatch.setitem(sys.modules, "pillow_heif", library)
    monkeypatch.setattr(formats, "find_spec", lambda name: library)
    formats.register_heic.cache_clear()
    formats._is_supported.cache_clear()
    try:
        for skip in (False, True):  # what could not be read before is read now
            dataset = read(root, skip_unreadable=skip)
            assert len(dataset.train) + len(dataset.test) == 13 and not dataset.unreadable
    finally:
        formats.register_heic.cache_clear()
        formats._is_supported.cache_clear()
        Image.ID.remove("HEIF")
        Image.OPEN.pop("HEIF")


def test_files_that_are_no_images_are_listed_by_kind(tmp_path, read):
    root = folder(tmp_path / "set", (5, 5))
    for name in ("notes.txt", "more.TXT", ".DS_Store", "README", "clip.mp4"):
        (root / "a" / name).write_text("no image")
    write(root / "b" / ".hidden.png")
    assert (
        f"files ignored in {root}: 2 .txt, 2 hidden, 1 .mp4, 1 without an ending"
        in read(root).notes
    )
    for place in (root / "a").glob("*.png"):
        place.rename(place.with_suffix(".raw"))
    with pytest.raises(
        ValueError,
        match=r"class folder .*/a holds no image: remove it, or put images in \(it holds 5 \.raw, 2 ",
    ):
        read(root)
