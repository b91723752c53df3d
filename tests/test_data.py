"""Reading images from anywhere: what is accepted, and how it is treated."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from archgrad.data import Preprocess, load, load_labelled, stem_for
from archgrad.data.cache import read_facts
from archgrad.data.decode import decode
from archgrad.data.sources import find_set
from image_sets import folder, parquet, silent, write


@pytest.fixture
def read(tmp_path):
    """`load` with a cache of its own."""
    return lambda path, **options: load(
        path, **{"cache": tmp_path / "cache", "report": silent, **options}
    )


def test_digits():
    lines = []
    dataset = load("digits", report=lines.append)
    assert (len(dataset.train), len(dataset.test), dataset.size, dataset.in_channels) == (
        1438,
        359,
        8,
        1,
    )
    assert dataset.classes == tuple("0123456789")
    assert dataset.train.pixels(torch.arange(9)).shape == (9, 1, 8, 8)
    assert dataset.statistics == "measured" and 0.3 < dataset.mean[0] < 0.31
    assert "10 classes, 1,438 training images (from " in lines[0] and "8x8 grey" in lines[0]
    assert any("no test split: 359 of 1,797" in line for line in lines)


def test_held_out_test_is_stratified_disjoint_and_seeded():
    first, again, other = (load("digits", seed=seed, report=silent) for seed in (0, 0, 1))
    rows = torch.cat([first.train.rows, first.test.rows])
    assert rows.sort().values.equal(torch.arange(1797))
    assert torch.equal(first.test.rows, again.test.rows) and first.fingerprint == again.fingerprint
    assert (
        not torch.equal(first.test.rows, other.test.rows) and first.fingerprint != other.fingerprint
    )
    for held, kept in zip(first.test.counts(10), first.train.counts(10)):
        assert abs(held - 0.2 * (held + kept)) < 1


def test_plain_folder_and_its_notes(tmp_path, read):
    root = folder(tmp_path / "set", (10, 10))
    (root / "a" / "notes.txt").write_text("not an image")
    write(root / "a" / ".hidden.png")
    dataset = read(root)
    assert dataset.classes == ("a", "b") and (len(dataset.train), len(dataset.test)) == (16, 4)
    assert dataset.size == 32 and any("resized to 32x32" in note for note in dataset.notes)
    assert f"files ignored in {root}: 1 .txt, 1 hidden" in dataset.notes


@pytest.mark.parametrize("name", ["test", "val", "validation"])
def test_split_folder(tmp_path, read, name):
    folder(tmp_path / "set", (4, 4), "train")
    dataset = read(folder(tmp_path / "set", (2, 1), name))
    assert (len(dataset.train), len(dataset.test)) == (8, 3)
    assert dataset.test.labels.tolist() == [0, 0, 1]


def test_test_option_names_a_split_or_another_set(tmp_path, read):
    root = folder(folder(folder(tmp_path / "set", (4, 4), "train"), (2, 2), "test"), (1, 1), "val")
    assert len(read(root).test) == 4
    assert len(read(root, test="val").test) == 2
    assert len(read(root, test=folder(tmp_path / "other", (3, 3))).test) == 6
    with pytest.raises(ValueError, match="unknown test split 'vall': did you mean 'val'"):
        read(root, test="vall")


def test_nested_folders_below_a_class(tmp_path, read):
    folder(tmp_path / "set", (3, 3))
    write(tmp_path / "set" / "a" / "images" / "deep.jpg")
    dataset = read(tmp_path / "set")
    assert len(dataset.train) + len(dataset.test) == 7


@pytest.mark.parametrize(("side", "expected"), [(20, 32), (48, 32), (49, 64), (90, 64)])
def test_size_rule(tmp_path, read, side, expected):
    assert read(folder(tmp_path / "set", (3, 3), size=(side, side + 30))).size == expected


def test_size_may_be_any_from_8_and_decides_the_stem(tmp_path, read):
    root = folder(tmp_path / "set", (3, 3))
    assert read(root, size=9).train.store.shape[-2:] == (9, 9)
    large = read(root, size=98)
    assert large.train.store.shape[-1] == 112  # a margin around the centre crop
    assert large.preprocess.crop_and_normalise(large.train.pixels(torch.arange(2))).shape == (
        2,
        3,
        98,
        98,
    )
    assert (stem_for(95), stem_for(96)) == ("cifar", "imagenet")
    with pytest.raises(ValueError, match="at least 8, not 7"):
        read(root, size=7)


def test_images_are_decoded_once(tmp_path, read):
    root = folder(tmp_path / "set", (5, 5))
    first = read(root)
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    again = read(root)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()} == stamps
    assert (
        torch.equal(first.train.store, again.train.store) and first.fingerprint == again.fingerprint
    )
    write(root / "b" / "new.png", (1, 2, 3))
    assert read(root).fingerprint != first.fingerprint
    assert {file.suffix for file in (tmp_path / "cache").iterdir()} == {".npy", ".json"}


def test_a_changed_image_is_read_anew(tmp_path, read):
    root = folder(tmp_path / "set", (5, 5))
    before = read(root).train.store.clone()
    write(root / "a" / "000.png", (9, 8, 7), (12, 14))
    after = read(root).train.store
    assert not torch.equal(before[0], after[0]) and torch.equal(before[1:], after[1:])


def test_the_cache_file_is_never_written_through(tmp_path, read):
    root = folder(tmp_path / "set", (3, 3))
    read(root).train.store.zero_()
    assert read(root).train.store.any()


def test_channel_statistics_are_those_of_the_training_images(tmp_path, read):
    dataset = read(folder(tmp_path / "set", (10, 10)))
    pixels = dataset.train.pixels(torch.arange(len(dataset.train))).double() / 255
    assert torch.tensor(dataset.mean).double().sub(pixels.mean((0, 2, 3))).abs().max() < 1e-6
    assert (
        torch.tensor(dataset.std).double().sub(pixels.std((0, 2, 3), correction=0)).abs().max()
        < 1e-6
    )
    normalised = dataset.preprocess.crop_and_normalise(
        dataset.train.pixels(torch.arange(len(dataset.train)))
    )
    assert (
        normalised.mean((0, 2, 3)).abs().max() < 1e-4
        and (normalised.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    )


def test_a_constant_channel_stays_finite(tmp_path, read):
    for name in "ab":
        for index in range(4):
            write(tmp_path / "set" / name / f"{index}.png", (10 * index, 0, 255))
    dataset = read(tmp_path / "set")
    assert (
        dataset.preprocess.crop_and_normalise(dataset.train.pixels(torch.arange(4)))
        .isfinite()
        .all()
    )


# --- images ---


def test_grey_images_stay_one_channel_until_one_has_colour(tmp_path, read):
    for name in "ab":
        for index in range(3):
            write(tmp_path / "set" / name / f"{index}.png", 50 * index, mode="L")
    write(tmp_path / "set" / "a" / "deep.png", 40000, mode="I;16")
    write(tmp_path / "set" / "a" / "bit.png", 1, mode="1")
    assert read(tmp_path / "set").in_channels == 1
    write(tmp_path / "set" / "b" / "colour.png")
    assert read(tmp_path / "set").in_channels == 3


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("L", 77, [77] * 3),
        ("1", 1, [255] * 3),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("RGBA", (0, 0, 0, 128), [127, 127, 127]),
        ("LA", (60, 255), [60] * 3),
        ("CMYK", (0, 0, 0, 255), [0] * 3),
        ("I;16", 0x8123, [0x81] * 3),
        ("I", 0x8123, [0x81] * 3),
    ],
)
def test_modes(mode, value, expected):
    square = decode(Image.new(mode, (20, 16), value), 3, 8)
    assert square.shape == (3, 8, 8) and square.dtype == np.uint8
    assert square[:, 4, 4].tolist() == expected


def test_palette_with_and_without_transparency():
    image = Image.new("RGB", (16, 16), (0, 128, 255)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert decode(image, 3, 16)[:, 4, 4].tolist() == [0, 128, 255]
    image.info["transparency"] = image.getpixel((4, 4))
    assert decode(image, 3, 16)[:, 4, 4].tolist() == [255, 255, 255]


def test_one_channel_of_a_colour_image_is_its_luminance():
    assert decode(Image.new("RGB", (8, 8), (255, 0, 0)), 1, 8)[:, 4, 4].tolist() == [76]


def test_short_side_is_resized_and_the_centre_cropped():
    wide = Image.new("RGB", (64, 16), "black")
    wide.paste("white", (24, 0, 40, 16))
    assert (decode(wide, 3, 16) == 255).all()
    tall = decode(wide.transpose(Image.Transpose.ROTATE_90), 3, 8)
    assert (tall[:, 1:-1] == 255).all() and (
        tall > 200
    ).all()  # the filter reads one pixel beyond the crop


def test_photos_turned_by_exif_are_set_upright(tmp_path):
    image = Image.new("RGB", (32, 32), "black")
    image.paste("white", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        square = decode(turned, 3, 32)
    assert (square[:, :, :16] == 0).all() and (square[:, :, 16:] == 255).all()


def test_preprocess_travels_as_json_and_reads_files_as_the_set_did(tmp_path, read):
    root = folder(tmp_path / "set", (4, 4), size=(40, 30))
    dataset = read(root)
    twin = Preprocess.from_json(json.loads(json.dumps(dataset.preprocess.to_json())))
    assert twin == dataset.preprocess
    files = [root / "abcdef"[label] / f"{index:03}.png" for label in range(2) for index in range(4)]
    pixels = twin.read_files(files)
    assert torch.equal(pixels, dataset.train.store)
    assert torch.equal(
        twin.crop_and_normalise(pixels), dataset.preprocess.crop_and_normalise(dataset.train.store)
    )
    (root / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot read the image .*broken\.png"):
        twin.read_files([root / "broken.png"])
    with pytest.raises(ValueError, match="no image files"):
        twin.read_files([])


def test_load_labelled_maps_classes_by_name(tmp_path, read):
    dataset = read(folder(tmp_path / "set", (5, 5, 5)))
    other = tmp_path / "other"
    for name in "ca":
        write(other / name / "0.png")
    images = load_labelled(other, dataset.preprocess, cache=tmp_path / "cache")
    assert images.labels.tolist() == [0, 2] and images.store.shape == (2, 3, 32, 32)
    write(other / "bb" / "0.png")
    with pytest.raises(ValueError, match="unknown class 'bb': did you mean 'b'"):
        load_labelled(other, dataset.preprocess, cache=tmp_path / "cache")


def test_load_labelled_takes_the_test_split_or_the_one_named(tmp_path, read):
    root = folder(folder(tmp_path / "set", (3, 3), "train"), (1, 1), "test")
    preprocess = read(root).preprocess
    assert len(load_labelled(root, preprocess, cache=tmp_path / "cache")) == 2
    assert len(load_labelled(root, preprocess, "train", cache=tmp_path / "cache")) == 6
    with pytest.raises(ValueError, match="unknown split 'tain': did you mean 'train'"):
        load_labelled(root, preprocess, "tain", cache=tmp_path / "cache")


def test_loading_leaves_the_global_generator_alone(tmp_path, read):
    before = torch.random.get_rng_state()
    read(folder(tmp_path / "set", (3, 3)))
    read(parquet(tmp_path / "set.parquet", [0, 1] * 3, ["cat", "dog"]))
    assert torch.equal(before, torch.random.get_rng_state())


def test_facts_of_a_source(tmp_path):
    source = find_set(folder(tmp_path / "set", (2, 1), size=(30, 20)))["train"]()
    said = []
    assert (
        read_facts(source, tmp_path / "cache", said.append)
        == read_facts(source, tmp_path / "cache", said.append)
        == (False, 20.0)
    )
    assert not said
