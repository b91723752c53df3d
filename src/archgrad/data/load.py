"""`load` a data set from anywhere, and `load_labelled` images to evaluate on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from archgrad import errors, places, terminal
from archgrad.data import fingerprint
from archgrad.data.cache import facts, pixels
from archgrad.data.cache_folder import default_cache
from archgrad.data.dataset import Dataset, Images
from archgrad.data.preprocess import Preprocess, stored_side
from archgrad.data.sources import Source, find
from archgrad.data.split import others, stratified
from archgrad.data.stored import Stored

TEST_SHARE = 0.2
TESTS = ("test", "val", "validation", "valid")
MEASURED = 2**26  # values per channel, at most, that the channel statistics are measured on


def load(
    path: str | Path,
    *,
    size: int | None = None,
    test: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    streaming: bool = False,
    report: Callable[[str], Any] = terminal.say,
) -> Dataset:
    """Images from ``digits``, a folder (``train/CLASS/*`` with or without ``test/``, or ``CLASS/*``), parquet, or a hub name.

    ``size`` is the side networks see: by default 32 if the median short side is at most 48, else 64; images of another size are
    resized by their short side and centre cropped. ``test`` names the split that is the test set, or another set of the same
    classes; by default ``test`` or ``val``, and where there is none a stratified 20 % is held out (``seed`` decides which).
    Decoded images are kept in ``cache``. What was decided goes to ``report``, line by line. ValueError for what cannot be used.
    """
    if streaming:
        raise ValueError("streaming is not supported: a search reads every image by its index (split, order, teachers)")
    places.check_side(size)
    folder = default_cache() if cache is None else Path(cache)

    def found(place: str | Path) -> dict[str, Source]:
        return find(place, image_column=image_column, label_column=label_column, cache=folder)

    splits = found(path)
    train = _training(path, splits)
    tested = _tested(splits, test, found)
    sources = [train] if tested is None else [train, tested.relabelled(train.classes)]
    heads = [facts(source, folder, report) for source in sources]
    side = size or train.size or (32 if heads[0].side <= 48 else 64)
    channels = 1 if all(head.grey for head in heads) else 3
    notes = [note for source in sources for note in source.notes]
    if heads[0].side != side:
        notes.append(f"images are resized to {side}x{side} (their median short side is {heads[0].side:g})")

    stores = [pixels(source, channels, stored_side(side), folder, report) for source in sources]
    parts = [_images(store, source) for store, source in zip(stores, sources)]
    if tested is None:
        parts = _hold_out(parts[0], train, seed)
        notes.append(f"no test split: {len(parts[1]):,} of {len(train):,} images ({TEST_SHARE:.0%} of every class) are held out as one")
    absent = [name for name, count in zip(train.classes, parts[1].counts(len(train.classes))) if not count]
    if absent:
        notes.append(f"no test image of {', '.join(absent)}")

    mean, std = train.statistics or measured(parts[0])
    dataset = Dataset(
        name=str(path),
        train=parts[0],
        test=parts[1],
        classes=train.classes,
        in_channels=channels,
        size=side,
        mean=mean,
        std=std,
        statistics="known" if train.statistics else "measured",
        fingerprint=fingerprint.second(
            train.classes, side, channels, [(part.labels, store.digests[part.rows]) for part, store in zip(parts, (stores[0], stores[-1]))]
        ),
        notes=tuple(notes),
    )
    for line in (dataset.balance(), *dataset.notes):
        report(line)
    return dataset


def load_labelled(
    path: str | Path,
    preprocess: Preprocess,
    split: str | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    cache: str | Path | None = None,
) -> Images:
    """Images to evaluate on, read as the run read its own, labels into ``preprocess.classes`` by class name.

    ``split`` is by default the test split where there is one, else all there is. ValueError names a class the run does not know.
    """
    folder = default_cache() if cache is None else Path(cache)
    splits = find(path, image_column=image_column, label_column=label_column, cache=folder)
    if split is not None and split not in splits:
        raise errors.unknown("split", split, splits)
    name = split or next((name for name in TESTS if name in splits), next(iter(splits)))
    source = splits[name].relabelled(preprocess.classes)
    return _images(pixels(source, preprocess.in_channels, stored_side(preprocess.size), folder, lambda line: None), source)


def _training(path: str | Path, splits: dict[str, Source]) -> Source:
    """The split to train on; it has at least two classes and an image of each."""
    if "train" not in splits and len(splits) > 1:
        raise ValueError(f"{path} has no split called train (there are: {', '.join(splits)})")
    train = splits.get("train") or next(iter(splits.values()))
    if len(train.classes) < 2:
        raise ValueError(f"{path} has one class only ({', '.join(train.classes)}): a search needs at least two")
    missing = sorted(set(range(len(train.classes))) - set(train.labels.tolist()))
    if missing:
        raise ValueError(f"{path} has no training image of the class {train.classes[missing[0]]!r}")
    return train


def _tested(splits: dict[str, Source], test: str | Path | None, found: Callable[[str | Path], dict[str, Source]]) -> Source | None:
    """The split called ``test``, or that of another set at that place; None if there is none to be had."""
    if test is None:
        return next((splits[name] for name in TESTS if name in splits), None)
    if test in splits:
        return splits[str(test)]
    if not Path(test).exists():
        raise ValueError(f"{errors.unknown('test split', str(test), splits)}; nor is there a file or folder of that name")
    other = found(test)
    return next((other[name] for name in TESTS if name in other), next(iter(other.values())))


def _images(store: Stored, source: Source) -> Images:
    return Images(torch.from_numpy(store.pixels), torch.arange(len(source)), source.labels)


def _hold_out(images: Images, source: Source, seed: int) -> list[Images]:
    """Training and test images, in the same proportions."""
    for name, count in zip(source.classes, images.counts(len(source.classes))):
        if count < 2:
            raise ValueError(f"{source.name}: the class {name!r} has one image only, so none can be held out as test")
    test = stratified(images.labels, round(TEST_SHARE * len(images)), seed, "test")
    return [images.subset(others(test, len(images))), images.subset(test)]


def measured(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of values in [0, 1], over evenly spaced images.

    From counts of the 256 levels: whole numbers, so that neither chunks nor threads move a bit.
    """
    channels, area = images.store.shape[1], images.store[0, 0].numel()
    indices = torch.arange(0, len(images), max(1, len(images) * area // MEASURED))
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for chunk in indices.split(1024):
        values = images.pixels(chunk).transpose(0, 1).flatten(1)
        counts += torch.stack([torch.bincount(channel, minlength=256) for channel in values])
    levels = torch.arange(256, dtype=torch.float64) / 255
    density = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = density @ levels
    # a channel that never changes is divided by one level, not by zero
    std = (density @ levels.square() - mean.square()).clamp(min=255**-2).sqrt()
    return tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist())
