"""Bad input: one line that names what is wrong and where."""

import pytest

from archgrad.data import load
from image_sets import folder, parquet, silent, write


@pytest.fixture
def read(tmp_path):
    """`load` with a cache of its own."""
    return lambda path, **options: load(
        path, **{"cache": tmp_path / "cache", "report": silent, **options}
    )


@pytest.mark.parametrize(
    "path", ["nosuch/folder/of/images", "./nosuch", "nosuch", "someone/nosuch"]
)
def test_missing_path(read, path):
    with pytest.raises(
        ValueError, match=f"no such file or folder: {path}, and not a hub name we can reach"
    ) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_file_that_is_no_set(tmp_path, read):
    (tmp_path / "set.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"neither a folder nor a \.parquet, \.csv or \.tsv file"):
        read(tmp_path / "set.zip")


def test_streaming_is_refused_with_its_reason(read):
    with pytest.raises(
        ValueError, match="streaming is not supported: a search reads every image by its index"
    ):
        read("digits", streaming=True)


def test_empty_class_folder(tmp_path, read):
    folder(tmp_path / "set", (3, 3))
    (tmp_path / "set" / "c").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*/c holds no image"):
        read(tmp_path / "set")


def test_folder_without_classes(tmp_path, read):
    write(tmp_path / "set" / "0.png")
    with pytest.raises(ValueError, match="no class folders in"):
        read(tmp_path / "set")


def test_one_class_only(tmp_path, read):
    with pytest.raises(ValueError, match=r"one class only \(a\)"):
        read(folder(tmp_path / "set", (3,)))


def test_one_image_cannot_be_held_out(tmp_path, read):
    with pytest.raises(ValueError, match="the class 'b' has one image only"):
        read(folder(tmp_path / "set", (3, 1)))


def test_unknown_and_missing_test_classes(tmp_path, read):
    root = folder(folder(tmp_path / "set", (3, 3), "train"), (1,), "test")
    assert any("no test image of b" in note for note in read(root).notes)
    write(root / "test" / "bb" / "0.png")
    with pytest.raises(ValueError, match="unknown class 'bb': did you mean 'b'"):
        read(root)


def test_one_class_with_images_only(tmp_path, read):
    with pytest.raises(ValueError, match=r"one class only \(dog\)"):
        read(parquet(tmp_path / "set.parquet", [1] * 6, ["cat", "dog", "cow"]))


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"nothing", lambda data: b""]
)
def test_damaged_image_is_named(tmp_path, read, damage):
    root = folder(tmp_path / "set", (3, 3), size=(64, 64), suffix="jpg")
    victim = root / "b" / "001.jpg"
    victim.write_bytes(damage(victim.read_bytes()))
    with pytest.raises(ValueError, match=r"cannot read the image .*b/001\.jpg") as caught:
        read(root)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*.npy*"))


def test_heic_is_named_with_its_fix(tmp_path, read):
    root = folder(tmp_path / "set", (3, 3))
    (root / "a" / "photo.HEIC").write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"photo\.HEIC: HEIC is read by an extra: pip install 'archgrad\[photos\]', or convert it to JPEG",
    ):
        read(root)


def test_floating_point_image_is_refused(tmp_path, read):
    root = folder(tmp_path / "set", (3, 3))
    write(root / "a" / "deep.tiff", 0.5, mode="F")
    with pytest.raises(ValueError, match=r"deep\.tiff: floating-point pixels have no fixed range"):
        read(root)


def test_cache_that_cannot_be_written(tmp_path, read):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError,
        match=r"cannot write the cache .*file.*: Not a directory; choose another with --data\.cache",
    ):
        read(folder(tmp_path / "set", (3, 3)), cache=tmp_path / "file" / "cache")


def test_cache_without_room(tmp_path, read, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1000}))
    with pytest.raises(ValueError, match=r"the decoded images take 0\.0 GiB, .* has 0\.0 GiB free"):
        read(folder(tmp_path / "set", (3, 3)))
