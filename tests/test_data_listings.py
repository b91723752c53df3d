"""Tables with a column of paths and one of classes: CSV, TSV, parquet."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from archgrad.data import load, load_labelled, places
from image_sets import folder, silent, write


@pytest.fixture
def read(tmp_path):
    """`load` with a cache of its own."""
    return lambda path, **options: load(
        path, **{"cache": tmp_path / "cache", "report": silent, **options}
    )


def images(root: Path, count: int = 10) -> list[str]:
    """Images below ``root``, by their paths relative to it; cats and dogs take turns."""
    names = [f"images/{number:02}.png" for number in range(count)]
    for number, name in enumerate(names):
        write(root / name, (20 * number, 100 * (number % 2), 0))
    return names


def table(
    root: Path, ending: str = "csv", header: str = "path,label", mark: str = ",", count: int = 10
) -> Path:
    lines = [
        mark.join([name, ("cat", "dog")[number % 2]])
        for number, name in enumerate(images(root, count))
    ]
    file = root / f"set.{ending}"
    file.write_text("\n".join([*([header.replace(",", mark)] if header else []), *lines]) + "\n")
    return file


@pytest.mark.parametrize(
    ("ending", "header", "mark"),
    [
        ("csv", "path,label", ","),
        ("tsv", "image,kind", "\t"),
        ("csv", "file,class", ";"),
        ("CSV", "\ufefffile,label", ","),
        ("csv", "", ","),
    ],
)
def test_paths_are_relative_to_the_file(tmp_path, read, monkeypatch, ending, header, mark):
    file = table(tmp_path / "set", ending, header, mark)
    places.check_images(file)
    dataset = read(file)
    assert dataset.classes == ("cat", "dog") and (len(dataset.train), len(dataset.test)) == (8, 2)
    assert dataset.train.store[3, :, 5, 5].tolist() == [
        60,
        100,
        0,
    ] and dataset.train.labels.tolist() == [row % 2 for row in dataset.train.rows]
    monkeypatch.chdir(tmp_path / "set")
    assert read(file.name).fingerprint == dataset.fingerprint


def test_a_listing_gives_the_same_set_as_the_folder(tmp_path, read):
    root = folder(tmp_path / "set", (5, 5))
    rows = [f"{name}/{number:03}.png,{name}" for name in "ab" for number in range(5)]
    (root / "all.csv").write_text("path,label\n" + "\n".join(rows))
    assert read(root / "all.csv").fingerprint == read(root).fingerprint


def test_columns_by_name_and_numbers_as_classes(tmp_path, read):
    names = images(tmp_path / "set", 12)
    rows = [f"{name},{number % 3 * 5},{number}" for number, name in enumerate(names)]
    file = tmp_path / "set" / "set.csv"
    file.write_text("where,kind,width\n" + "\n".join(rows))
    with pytest.raises(
        ValueError,
        match=r"several label columns \(kind, width\), choose one with --data\.label-column",
    ):
        read(file)
    assert read(file, label_column="kind").classes == ("0", "5", "10")  # as numbers, not as text
    with pytest.raises(ValueError, match="unknown column 'knid': did you mean 'kind'"):
        read(file, label_column="knid")
    with pytest.raises(ValueError, match="unknown column 'wehre': did you mean 'where'"):
        read(file, image_column="wehre", label_column="kind")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("path,label\n", "has no row"),
        ("path,label\na.png\n", "row 0 has 1 cells, and there are 2 columns"),
        ("path,path\na.png,b\n", "two columns called 'path'"),
        ("path,label\na.png,cat\nb.png,\n", "row 1 has no label in column 'label'"),
        ("path,label\na.png,cat\n,dog\n", "row 1 has no path in column 'path'"),
        (
            "id,label\n1,cat\n2,dog\n",
            "no image column found among id, label, name it with --data.image-column",
        ),
        ("path,label\nimages,cat\n", "no image column found"),
        ("path,label\na\0.png,cat\nb.png,dog\n", "cannot read 4 of 4 images"),
        ("path,label\n" + "a" * 200_000 + ".png,cat\n", "cannot read the table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, read, content, message):
    (tmp_path / "set.csv").write_text(content)
    with pytest.raises(ValueError, match=message.replace(".", r"\.")) as caught:
        read(tmp_path / "set.csv", test=str(tmp_path / "set.csv"))
    assert "\n" not in str(caught.value)


def test_missing_files_are_named_all_at_once_or_left_out(tmp_path, read):
    file = table(tmp_path / "set")
    for number in (2, 5):
        (tmp_path / "set" / "images" / f"{number:02}.png").unlink()
    with pytest.raises(
        ValueError, match=r"cannot read 2 of 10 images: .*02\.png \(no such file.*05\.png"
    ):
        read(file)
    assert len(read(file, skip_unreadable=True).unreadable) == 2


def test_another_table_is_the_test_set(tmp_path, read):
    train, other = table(tmp_path / "set"), table(tmp_path / "other", count=4)
    dataset = read(train, test=str(other))
    assert (len(dataset.train), len(dataset.test)) == (10, 4)
    assert len(load_labelled(other, dataset.preprocess, cache=tmp_path / "cache")) == 4


def test_parquet_with_paths(tmp_path, read):
    names = images(tmp_path / "set")
    rows = {"file": names, "kind": ["cat", "dog"] * 5}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "set" / "set.parquet")
    dataset = read(tmp_path / "set" / "set.parquet")
    assert dataset.classes == ("cat", "dog") and dataset.train.store[3, :, 5, 5].tolist() == [
        60,
        100,
        0,
    ]
    assert (
        read(tmp_path / "set" / "set.parquet", image_column="file", label_column="kind").fingerprint
        == dataset.fingerprint
    )
    assert dataset.fingerprint == read(table(tmp_path / "csv")).fingerprint


@pytest.mark.parametrize("inside", ["", "images"])
def test_a_flat_validation_folder_with_annotations_is_refused_with_the_way_out(
    tmp_path, read, inside
):
    root = folder(tmp_path / "set", (4, 4), "train")
    for number in range(4):
        write(root / "val" / inside / f"{number}.png")
    (root / "val" / "val_annotations.txt").write_text("0.png\ta\t0\t0\n")
    hint = r"if .*val_annotations\.txt lists the classes, write a \.csv file of it with columns path and label, and name that file"
    with pytest.raises(ValueError, match=hint):
        read(root)
    rows = [f"{Path(inside) / str(number)}.png,{'ab'[number % 2]}" for number in range(4)]
    (root / "val" / "val.csv").write_text("path,label\n" + "\n".join(rows))
    dataset = read(root, test=str(root / "val" / "val.csv"), val="none")
    assert (len(dataset.train), len(dataset.test)) == (8, 4)


def test_a_flat_folder_with_a_table_is_told_to_name_it(tmp_path):
    write(tmp_path / "set" / "0.png")
    (tmp_path / "set" / "labels.csv").write_text("path,label\n0.png,a\n")
    with pytest.raises(
        ValueError, match=r"no class folders in .* \(if .*labels\.csv lists the classes, write"
    ):
        places.check_images(tmp_path / "set")


def test_the_folder_in_use_is_told_of_no_readme(tmp_path, monkeypatch):
    write(tmp_path / "set" / "0.png")
    monkeypatch.chdir(tmp_path / "set")
    for name in ("README.txt", "LICENSE.txt", "requirements.txt", "../other.json"):
        Path(name).write_text("")
    with pytest.raises(ValueError) as caught:
        places.check_images(".")
    assert "lists the classes" not in str(caught.value)
    Path("../set_labels.json").write_text("{}")
    with pytest.raises(ValueError, match=r"set_labels\.json lists the classes"):
        places.check_images(".")
