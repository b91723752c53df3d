"""Parquet files and hub sets through Hugging Face ``datasets``; columns are found by their feature type."""

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

from archgrad import errors, files
from archgrad.data.cache_folder import made, private
from archgrad.data.sources import Source, Splits, listing_key

SHORT = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
}
"""Short names the hub has retired."""

STATISTICS = {  # mean and std of the field's recipes (quark0/darts)
    "uoft-cs/cifar10": ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "uoft-cs/cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}

Table = Any  # datasets.Dataset: imported only when needed, the import takes a second


def parquet(root: Path, files: list[Path], image: str | None, label: str | None, cache: Path | None) -> Splits:
    """One parquet file, or a folder of them whose names or folders say train, test, validation."""
    from datasets import load_dataset

    place: dict[str, Any] = {"data_files": str(root)} if root.is_file() else {"data_dir": str(root)}
    own = None
    if cache is not None:
        made(cache)
        # of the user alone even in a cache that several share: the library follows links, and verifies nothing
        own = str(private(cache / "datasets"))
    try:
        parts = load_dataset("parquet", **place, cache_dir=own)
    except Exception as error:
        raise ValueError(f"cannot read the parquet files of {root}: {_first_line(error)}") from error
    key = listing_key(root.parent, [str(file.relative_to(root.parent)) for file in files])
    return _splits(_sources(str(root), parts, image, label, key))


def hub(name: str, image: str | None, label: str | None, missing: str) -> Splits:
    """A set of the Hugging Face hub, downloaded once into that library's own cache. ``missing`` opens the error if it is not to be had."""
    import datasets

    full = SHORT.get(name, name)
    offline = datasets.config.HF_HUB_OFFLINE
    # Without this switch load_dataset retries for 20 seconds before it looks at its own cache.
    datasets.config.HF_HUB_OFFLINE = offline or not _reached(full, missing)
    try:
        parts = datasets.load_dataset(full)
    except Exception as error:
        raise ValueError(f"{missing} ({_first_line(error)})") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    known = STATISTICS.get(full)
    return _splits({split: replace(source, statistics=known) for split, source in _sources(full, parts, image, label, None).items()})


def _splits(sources: Mapping[str, Source]) -> Splits:
    return {split: partial(lambda found: found, source) for split, source in sources.items()}


def _reached(full: str, missing: str) -> bool:
    """Does the hub answer? ValueError if it does, and does not know (or not give) this set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(full, timeout=5)
        return True
    except HfHubHTTPError as error:
        raise ValueError(f"{missing} (the hub says: {_first_line(error)})") from error
    except Exception:
        return False


def _sources(name: str, parts: Mapping[Any, Table], image: str | None, label: str | None, key: str | None) -> dict[str, Source]:
    """Split name -> `Source`; a split without any label (ImageNet's test) is left out. ``key`` None: that of the library's own files."""
    import datasets

    sources = {}
    for split, table in parts.items():
        where = f"{name} ({split})"
        pictures = _column(where, table.features, image, "image", (_is(datasets.Image), _holds_bytes))
        names = _column(where, table.features, label, "label", (_is(datasets.ClassLabel), _is_name_or_number))
        values = table[names][:]
        if len(parts) > 1 and set(values) <= {None, -1}:
            continue
        classes, labels = _labels(where, table.features[names], values, names)
        rows = table.select_columns([pictures]).cast_column(pictures, datasets.Image(decode=False))
        files = [file["filename"] for file in table.cache_files]
        own = listing_key(os.sep, files) if key is None and files else key
        sources[str(split)] = _source(where, classes, labels, rows, pictures, own and f"{own}-{split}")
    if not sources:
        raise ValueError(f"{name}: no split has labels")
    return sources


def _source(name: str, classes: tuple[str, ...], labels: Tensor, rows: Table, column: str, key: str | None) -> Source:
    return Source(name, classes, labels, open=lambda row: _open(rows[row][column]), where=lambda row: f"{name}, row {row}", key=key)


def _open(cell: dict[str, Any] | None) -> BinaryIO:
    if cell is None:
        raise ValueError("the cell is empty")
    return io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else files.opened(Path(cell["path"]))


def _column(name: str, features: Mapping[str, Any], wanted: str | None, kind: str, tests: tuple[Callable[[Any], bool], ...]) -> str:
    """The wanted column, or the only one that passes the first test that any passes."""
    if wanted is not None:
        if (found_column := errors.match(wanted, features)) is None:
            raise ValueError(f"{name}: {errors.unknown('column', wanted, features)}")
        return found_column
    for test in tests:
        found = [column for column, feature in features.items() if test(feature)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{name}: several {kind} columns ({', '.join(found)}), choose one with --data.{kind}-column")
    raise ValueError(f"{name}: no {kind} column found among {', '.join(features)}, name it with --data.{kind}-column")


def _labels(name: str, feature: Any, values: list[Any], column: str) -> tuple[tuple[str, ...], Tensor]:
    """Class names and labels (N,): a ClassLabel's own, else the sorted distinct values. Unlabelled rows (-1, null) are refused."""
    if None in values or -1 in values:
        row = next(row for row, value in enumerate(values) if value in (None, -1))
        raise ValueError(f"{name}: row {row} has no label in column {column!r}")
    if hasattr(feature, "names"):
        return tuple(feature.names), torch.tensor(values)
    if not _is_name_or_number(feature):
        raise ValueError(f"{name}: column {column!r} is {feature}, a label is a class, a string or a whole number")
    distinct = sorted(set(values))
    place = {value: index for index, value in enumerate(distinct)}
    return tuple(str(value) for value in distinct), torch.tensor([place[value] for value in values])


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda feature: isinstance(feature, kind)


def _holds_bytes(feature: Any) -> bool:
    return getattr(feature, "dtype", None) == "binary" or (isinstance(feature, dict) and "bytes" in feature)


def _is_name_or_number(feature: Any) -> bool:
    return getattr(feature, "dtype", "").startswith(("int", "uint", "string", "large_string", "bool"))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
