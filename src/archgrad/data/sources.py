"""Where images come from: each split of a data set as one `Source` that opens its images one by one."""

from __future__ import annotations

import gzip
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from archgrad.data import folders, listings, places, tables
from archgrad.data.source import Source, Splits


def find(
    path: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    cache: Path | None = None,
) -> Splits:
    """The splits of a data set: ``digits``, an image folder, parquet, CSV, TSV, or a hub name. ValueError if there is none."""
    place = Path(path).expanduser()
    match places.kind(path):
        case "digits":
            return {"train": digits}
        case "folder":
            return folders.splits(place)
        case "listing":
            return listings.splits(place, image_column, label_column)
        case "parquet":
            return tables.parquet(
                place, places.parquet_files(place), image_column, label_column, cache
            )
    return tables.hub(str(path), image_column, label_column, places.missing(path))


def digits() -> Source:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey, 17 levels (0..16) spread over 0..255."""
    levels, labels = digits_table()
    pixels = (levels.reshape(-1, 8, 8) * (255 / 16)).round().astype("uint8")
    return Source(
        name="digits",
        classes=tuple(map(str, range(10))),
        labels=torch.from_numpy(labels).long(),
        open=lambda i: io.BytesIO(
            b"P5 8 8 255\n" + pixels[i].tobytes()
        ),  # a grey image in the PGM format
        where=lambda i: f"digits, image {i}",
        key=None,
        size=8,
    )


def digits_table() -> tuple[np.ndarray, np.ndarray]:
    """Levels (1797, 64) and labels (1797,), float64: the file that scikit-learn's ``load_digits`` reads, whose import takes two seconds."""
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None  # archgrad depends on it
    with gzip.open(
        Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt"
    ) as lines:
        table = np.loadtxt(lines, delimiter=",")
    return table[:, :-1], table[:, -1]
