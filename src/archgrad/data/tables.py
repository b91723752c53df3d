"""Read parquet files and hub sets with Hugging Face ``datasets``; find columns by their type."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from archgrad import extras
from archgrad.data.columns import (
    LOOKED_AT,
    are_paths,
    check_labelled,
    choose_column,
    from_paths,
    read_classes,
)
from archgrad.data.source import Source, Splits, listing_key
from archgrad.storage import files
from archgrad.storage.cache_folder import create, create_private

SHORT = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
}
"""Short names that the hub no longer accepts -> names on the hub."""

STATISTICS = {  # mean and std that published recipes use (quark0/darts)
    "uoft-cs/cifar10": ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "uoft-cs/cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}

Table = Any  # datasets.Dataset, imported only when needed: the import takes a second


def parquet(
    root: Path, files: list[Path], image: str | None, label: str | None, cache: Path | None
) -> Splits:
    """Return the splits of a parquet file, or of a folder of parquet files.

    In a folder the names of files or subfolders are those of the splits (train, test, validation).

    Args:
        root: The file or folder.
        files: The parquet files.
        image: Column of images, or None.
        label: Column of classes, or None.
        cache: Folder of the cache.

    Raises:
        ValueError: The files cannot be read, or the columns are not clear.
    """
    with extras.named():
        from datasets import load_dataset

    place: dict[str, Any] = {"data_files": str(root)} if root.is_file() else {"data_dir": str(root)}
    own = None
    if cache is not None:
        create(cache)
        # A private folder for each user, also in a shared cache: the library follows links and
        # verifies nothing.
        own = str(create_private(cache / f"datasets-{os.getuid()}"))
    try:
        parts = load_dataset("parquet", **place, cache_dir=own)
    except Exception as error:
        raise ValueError(
            f"cannot read the parquet files of {root}: {_first_line(error)}"
        ) from error
    key = listing_key(root.parent, [str(file.relative_to(root.parent)) for file in files])
    return _as_splits(
        _table_sources(str(root), parts, image, label, key, root.parent if root.is_file() else root)
    )


def hub(name: str, image: str | None, label: str | None, missing: str) -> Splits:
    """Return the splits of a set on the Hugging Face hub, which the library downloads once.

    Args:
        name: Name of the set.
        image: Column of images, or None.
        label: Column of classes, or None.
        missing: Beginning of the error's message where the set is not available.

    Raises:
        ValueError: The set is not available, or its columns are not clear.
    """
    with extras.named():
        import datasets

    full = SHORT.get(name, name)
    offline = datasets.config.HF_HUB_OFFLINE
    # Without this switch load_dataset retries for 20 seconds before it reads its own cache.
    datasets.config.HF_HUB_OFFLINE = offline or not _hub_answers(full, missing)
    try:
        parts = datasets.load_dataset(full)
    except Exception as error:
        raise ValueError(f"{missing} ({_first_line(error)})") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    known = STATISTICS.get(full)
    return _as_splits(
        {
            split: replace(source, statistics=known)
            for split, source in _table_sources(full, parts, image, label, None).items()
        }
    )


def _as_splits(sources: Mapping[str, Source]) -> Splits:
    return {split: partial(lambda found: found, source) for split, source in sources.items()}


def _hub_answers(full: str, missing: str) -> bool:
    """Return whether the hub answers; raise a ValueError if it does and refuses this set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(full, timeout=5)
        return True
    except HfHubHTTPError as error:
        raise ValueError(f"{missing} (the hub says: {_first_line(error)})") from error
    except Exception:
        return False


def _table_sources(
    name: str,
    parts: Mapping[Any, Table],
    image: str | None,
    label: str | None,
    key: str | None,
    root: Path | None = None,
) -> dict[str, Source]:
    """Return the sources of a table's splits, without splits that have no label (ImageNet's test).

    Args:
        name: Name of the set, for messages.
        parts: Split -> its table.
        image: Column of images, or None.
        label: Column of classes, or None.
        key: Key of the cache. None makes one of the library's files.
        root: Folder from which paths start, for a table that may hold paths in place of images.
    """
    with extras.named():
        import datasets

    sources = {}
    for split, table in parts.items():
        where = f"{name} ({split})"
        features = table.features
        kinds = [
            _by_column(features, _is_instance(datasets.Image)),
            _by_column(features, _holds_bytes),
        ]
        if root is not None:
            kinds.append(partial(_holds_paths, table))
        pictures = choose_column(where, list(features), image, "image", kinds)
        others = [column for column in features if label or column != pictures]
        names = choose_column(
            where,
            others,
            label,
            "label",
            [
                _by_column(features, _is_instance(datasets.ClassLabel)),
                _by_column(features, _is_name_or_number),
            ],
        )
        values = table[names][:]
        if len(parts) > 1 and set(values) <= {None, -1}:
            continue
        classes, labels = _read_labels(where, features[names], values, names)
        if root is not None and _is_text(features[pictures]):
            sources[str(split)] = from_paths(
                where, root, pictures, table[pictures][:], classes, labels
            )
            continue
        rows = table.select_columns([pictures]).cast_column(pictures, datasets.Image(decode=False))
        files = [file["filename"] for file in table.cache_files]
        own = listing_key(os.sep, files) if key is None and files else key
        sources[str(split)] = _table_source(
            where, classes, labels, rows, pictures, own and f"{own}-{split}"
        )
    if not sources:
        raise ValueError(f"{name}: no split has labels")
    return sources


def _table_source(
    name: str, classes: tuple[str, ...], labels: Tensor, rows: Table, column: str, key: str | None
) -> Source:
    return Source(
        name,
        classes,
        labels,
        open=lambda row: _open_cell(rows[row][column]),
        where=lambda row: f"{name}, row {row}",
        key=key,
    )


def _open_cell(cell: dict[str, Any] | None) -> BinaryIO:
    if cell is None:
        raise ValueError("the cell is empty")
    return (
        io.BytesIO(cell["bytes"])
        if cell["bytes"] is not None
        else files.open_regular(Path(cell["path"]))
    )


def _read_labels(
    name: str, feature: Any, values: list[Any], column: str
) -> tuple[tuple[str, ...], Tensor]:
    """Return class names and labels (N,): those of a ClassLabel, else the sorted values."""
    if not hasattr(feature, "names"):
        if not _is_name_or_number(feature):
            raise ValueError(
                f"{name}: column {column!r} is {feature}, "
                "a label is a class, a string or a whole number"
            )
        return read_classes(name, column, values)
    check_labelled(name, column, values)
    return tuple(feature.names), torch.tensor(values)


def _by_column(features: Mapping[str, Any], test: Callable[[Any], bool]) -> Callable[[str], bool]:
    """Turn a test of a feature into a test of a column's name."""
    return lambda column: test(features[column])


def _holds_paths(table: Table, column: str) -> bool:
    return _is_text(table.features[column]) and are_paths(table[column][:LOOKED_AT])


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _is_instance(kind: type) -> Callable[[Any], bool]:
    return lambda feature: isinstance(feature, kind)


def _holds_bytes(feature: Any) -> bool:
    return getattr(feature, "dtype", None) == "binary" or (
        isinstance(feature, dict) and "bytes" in feature
    )


def _is_name_or_number(feature: Any) -> bool:
    return getattr(feature, "dtype", "").startswith(
        ("int", "uint", "string", "large_string", "bool")
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
