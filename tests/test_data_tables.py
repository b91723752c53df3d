"""Parquet files: columns found by type or by name."""

import datasets
import pytest

from archgrad.data import load, search_data
from image_sets import bytes_of, parquet, silent


@pytest.fixture
def read(tmp_path):
    """`load` with a cache of its own."""
    return lambda path, **options: load(
        path, **{"cache": tmp_path / "cache", "report": silent, **options}
    )


def test_parquet_file_finds_its_columns_by_type(tmp_path, read):
    path = parquet(tmp_path / "set.parquet", [0, 1] * 5, ["cat", "dog"], comment=["x"] * 10)
    dataset = read(path)
    assert dataset.classes == ("cat", "dog") and (len(dataset.train), len(dataset.test)) == (8, 2)
    assert dataset.train.store[3, 0, 5, 5] == 30 and dataset.train.labels.tolist() == [
        row % 2 for row in dataset.train.rows
    ]


def test_parquet_folder_with_splits_and_string_labels(tmp_path, read):
    parquet(tmp_path / "set" / "train-0.parquet", ["dog", "cat", "dog", "cat"])
    parquet(tmp_path / "set" / "test-0.parquet", ["cat"])
    dataset = read(tmp_path / "set")
    assert (
        dataset.classes == ("cat", "dog")
        and dataset.train.labels.tolist() == [1, 0, 1, 0]
        and dataset.test.labels.tolist() == [0]
    )
    assert any("no test image of dog" in note for note in dataset.notes)


def test_classes_of_a_table_without_images_are_named(tmp_path, read):
    dataset = read(parquet(tmp_path / "set.parquet", [0, 1] * 5, ["cat", "dog", "cow"]))
    assert dataset.classes == ("cat", "dog", "cow") and dataset.train.counts(3) == [4, 4, 0]
    assert "no training image of cow" in dataset.notes and "no test image of cow" in dataset.notes
    halves = search_data(dataset, batch=2)
    assert halves.notes == ("no image of cow in the train half", "no image of cow in the val half")
    assert next(halves.batches()).labels.max() < 2


def test_many_classes_without_a_test_image_are_counted(tmp_path, read):
    names = [f"class{number:03}" for number in range(220)]
    parquet(tmp_path / "set" / "train-0.parquet", list(range(220)), names)
    parquet(tmp_path / "set" / "test-0.parquet", list(range(176)), names)
    said = "no test image of 44 of 220 classes: class176, class177, class178, class179, class180, 39 more"
    assert said in read(tmp_path / "set").notes


def test_parquet_columns_by_name(tmp_path, read):
    path = parquet(tmp_path / "set.parquet", [3, 9] * 3, label="fine", coarse=["a", "b"] * 3)
    with pytest.raises(
        ValueError,
        match=r"several label columns \(fine, coarse\), choose one with --data.label-column",
    ):
        read(path)
    assert read(path, label_column="fine").classes == ("3", "9")
    assert read(path, label_column="coarse").classes == ("a", "b")
    with pytest.raises(ValueError, match="unknown column 'coars': did you mean 'coarse'"):
        read(path, label_column="coars")
    with pytest.raises(ValueError, match="unknown column 'pictur': did you mean 'picture'"):
        read(path, image_column="pictur", label_column="fine")
    with pytest.raises(
        ValueError, match=r"column 'picture' is .* a label is a class, a string or a whole number"
    ):
        read(path, label_column="picture")


def test_parquet_without_images_labels_or_sense(tmp_path, read):
    datasets.Dataset.from_dict({"x": [1.5], "y": [0]}).to_parquet(tmp_path / "numbers.parquet")
    with pytest.raises(
        ValueError, match=r"no image column found among x, y, name it with --data\.image-column"
    ):
        read(tmp_path / "numbers.parquet")
    with pytest.raises(ValueError, match="row 1 has no label in column 'kind'"):
        read(parquet(tmp_path / "unlabelled.parquet", [0, -1], ["cat", "dog"]))
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot read the parquet files of"):
        read(tmp_path / "broken.parquet")


def test_a_split_without_labels_is_left_out(tmp_path, read):
    parquet(tmp_path / "set" / "train-0.parquet", [0, 1] * 3, ["cat", "dog"])
    parquet(tmp_path / "set" / "validation-0.parquet", [0, 1], ["cat", "dog"])
    parquet(tmp_path / "set" / "test-0.parquet", [-1] * 4, ["cat", "dog"])
    assert len(read(tmp_path / "set").test) == 2


@pytest.fixture
def hub(monkeypatch):
    """A hub that has one set, uoft-cs/cifar10, of two classes."""

    def load_dataset(name):
        if name != "uoft-cs/cifar10":
            raise ConnectionError(f"Couldn't reach {name!r} on the Hub")
        features = datasets.Features(
            {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        )
        rows = {"img": [bytes_of(10 * index) for index in range(6)], "label": [0, 1] * 3}
        table = datasets.Dataset.from_dict(rows, features=features)
        return datasets.DatasetDict(train=table, test=table.select(range(2)))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def test_hub_set_with_its_known_statistics(hub, read):
    dataset = read("cifar10")
    assert (len(dataset.train), len(dataset.test), dataset.size, dataset.classes) == (
        6,
        2,
        32,
        ("cat", "dog"),
    )
    assert dataset.statistics == "known" and dataset.mean == (0.49139968, 0.48215827, 0.44653124)
    assert read("uoft-cs/cifar10").fingerprint == dataset.fingerprint


def test_hub_set_out_of_reach(hub, read):
    offline = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(
        ValueError,
        match=r"no such file or folder: cifar11, and not a hub name we can reach .*Couldn't reach 'cifar11'",
    ):
        read("cifar11")
    assert offline == datasets.config.HF_HUB_OFFLINE
