"""Find the splits of a data set. Each is a `Source`, which opens its images one by one."""

from __future__ import annotations

import gzip
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from archgrad.data import folders, listings, places, tables
from archgrad.data.source import Source, Splits


def find_set(
    path: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    cache: Path | None = None,
) -> Splits:
    """Return the splits of a data set.

    Args:
        path: ``digits``, an image folder, a parquet, CSV or TSV file, or a name on the hub.
        image_column: Column of a table that holds the images.
        label_column: Column of a table that holds the classes.
        cache: Folder of the cache.

    Raises:
        ValueError: There is no such data set.
    """
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
    return tables.hub(str(path), image_column, label_column, places.missing_message(path))


def digits() -> Source:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 grey; levels 0 to 16 become 0 to 255."""
    levels, labels = digits_table()
    pixels = (levels.reshape(-1, 8, 8) * (255 / 16)).round().astype("uint8")
    return Source(
        name="digits",
        classes=tuple(map(str, range(10))),
        labels=torch.from_numpy(labels).long(),
        open=lambda index: io.BytesIO(b"P5 8 8 255\n" + pixels[index].tobytes()),  # PGM, grey
        where=lambda index: f"digits, image {index}",
        key=None,
        size=8,
    )


def digits_table() -> tuple[np.ndarray, np.ndarray]:
    """Return levels (1797, 64) and labels (1797,) of scikit-learn's digits, float64.

    The file is read directly, because the import of ``load_digits`` takes two seconds.
    """
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None  # archgrad depends on it
    with gzip.open(
        Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt"
    ) as lines:
        table = np.loadtxt(lines, delimiter=",")
    return table[:, :-1], table[:, -1]
