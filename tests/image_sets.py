"""Small image sets that the tests write themselves."""

import io

from PIL import Image


def silent(line):
    """Ignore a line that `load` reports."""


def write(path, colour=(200, 30, 60), size=(12, 12), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def folder(root, counts=(5, 5), split="", size=(12, 12), suffix="png"):
    """A folder of classes a, b, ...: every image has a colour of its own."""
    for label, count in enumerate(counts):
        for index in range(count):
            write(
                root / split / "abcdef"[label] / f"{index:03}.{suffix}",
                (40 * label + 20, 7 * index, 255 - 7 * index),
                size,
            )
    return root


def bytes_of(value):
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10), (value, 0, 0)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def parquet(path, labels, names=None, image="picture", label="kind", **columns):
    import datasets

    kind = (
        datasets.ClassLabel(names=names)
        if names
        else datasets.Value("string" if isinstance(labels[0], str) else "int64")
    )
    features = {
        image: datasets.Image(),
        label: kind,
        **{name: datasets.Value("string") for name in columns},
    }
    rows = {image: [bytes_of(10 * index) for index in range(len(labels))], label: labels, **columns}
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(path)
    return path
