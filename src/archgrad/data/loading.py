"""`load` a data set from anywhere, and `load_labelled` images to evaluate on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from archgrad import errors, terminal
from archgrad.data import fingerprint, places
from archgrad.data.dataset import Dataset, Images, absent
from archgrad.data.duplicates import NAMES, Part, counted, dropped
from archgrad.data.parts import NONE, parts, split_called
from archgrad.data.preprocess import Preprocess
from archgrad.data.reading import SKIP, read_parts
from archgrad.data.source import Source, Splits
from archgrad.data.sources import find
from archgrad.data.split import others, stratified
from archgrad.data.stored import Stored
from archgrad.storage.cache_folder import default_cache

TEST_SHARE = 0.2
MEASURED = 2**26  # values per channel, at most, that the channel statistics are measured on


def load(
    path: str | Path,
    *,
    size: int | None = None,
    test: str | Path | None = None,
    val: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    skip_unreadable: bool = False,
    drop_duplicates: bool = False,
    cache: str | Path | None = None,
    seed: int = 0,
    streaming: bool = False,
    report: Callable[[str], Any] = terminal.say,
    warn: Callable[[str], Any] | None = None,
    flag: str = SKIP,
) -> Dataset:
    """Images from ``digits``, a folder (``train/CLASS/*`` with or without ``test/`` and ``val/``, or ``CLASS/*``), parquet, or a hub name.

    ``size`` is the side networks see: by default 32 if the median short side is at most 48, else 64; images of another size are
    resized by their short side and centre cropped. ``test`` names the split that is the test set, or another set of the same
    classes; by default ``test`` or ``val``, and where there is none a stratified 20 % is held out (``seed`` decides which). ``val`` names
    the split, or the set, that moves the alphas and validates a retraining; by default ``val`` where there is a test split as well, and
    ``"none"`` leaves it out.
    ``skip_unreadable`` leaves out images that cannot be read, which are refused otherwise, and
    ``drop_duplicates`` leaves out training images that test or validate as well, byte for byte. Decoded images are kept in ``cache``. What was
    decided goes to ``report``, line by line; what was damaged in the cache, and is written anew, to ``warn``, by default ``report``.
    ``flag`` is the one that a refusal names for ``skip_unreadable``; an empty one names none.
    ValueError for what cannot be used.
    """
    if streaming:
        raise ValueError(
            "streaming is not supported: a search reads every image by its index (split, order, teachers)"
        )
    places.checked(path, "images")
    places.check_side(size)
    folder = default_cache() if cache is None else Path(cache)

    def found(place: str | Path) -> Splits:
        return find(place, image_column=image_column, label_column=label_column, cache=folder)

    splits = found(path)
    part = parts(path, splits, test, val, found)
    read = read_parts(part.sources, size, folder, warn or report, skip=skip_unreadable, flag=flag)
    train, side = read.sources[0], read.size
    notes = [*part.notes]
    if read.left_out:
        names = errors.listed([bad.where for bad in read.left_out])
        notes.append(
            f"left out because they cannot be read: {errors.counted(len(read.left_out), 'image')} ({names})"
        )
    if read.side != side:
        notes.append(
            f"images are resized to {side}x{side} (their median short side is {read.side:g})"
        )

    stores = read.stores
    images = [_images(store, source) for store, source in zip(stores, read.sources)]
    if part.test is None:
        images[:1] = _hold_out(images[0], train, seed)
        stores.insert(1, stores[0])
        notes.append(
            f"no test split: {len(images[1]):,} of {len(train):,} images ({TEST_SHARE:.0%} of every class) are held out as one"
        )
    kept = [Part(one, store.digests[one.rows]) for one, store in zip(images, stores)]
    if drop_duplicates:
        kept, alike_notes = dropped(kept)
    else:
        alike_notes = counted(kept)
    notes += alike_notes
    training, testing, *validating = (one.images for one in kept)
    notes += [
        line
        for name, part in zip(NAMES, kept)
        for line in absent(f"{name} image", part.images, train.classes)
    ]

    digests = [(one.images.labels, one.digests) for one in kept]
    own, *alike = (
        fingerprint.second(names, side, read.channels, digests)
        for names in fingerprint.spellings(train.classes)
    )
    mean, std = train.statistics or measured(training)
    said = {
        "path": places.settled(path), "size": size, "test": test if test is None or str(test) in splits else places.settled(test),
        "val": part.validation or (val if val == NONE else None), "image_column": image_column, "label_column": label_column,
        "skip_unreadable": skip_unreadable, "drop_duplicates": drop_duplicates,
        "cache": cache and str(folder.expanduser().resolve()), "seed": seed,
    }  # fmt: skip
    dataset = Dataset(
        name=str(path),
        train=training,
        test=testing,
        val=validating[0] if validating else None,
        validation=part.validation,
        classes=train.classes,
        in_channels=read.channels,
        size=side,
        mean=mean,
        std=std,
        statistics="known" if train.statistics else "measured",
        fingerprint=own,
        alike=tuple(other for other in alike if other != own),
        notes=tuple(notes),
        loading={
            name: value for name, value in said.items() if value
        },  # what is empty or false is the default of `load`
        layout=next((source.layout for source in read.sources if source.layout), ""),
        unreadable=tuple(f"{bad.where}: {bad.why}" for bad in read.left_out),
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
    skip_unreadable: bool = False,
    cache: str | Path | None = None,
    report: Callable[[str], Any] = terminal.remark,
    flag: str = "--skip-unreadable",
) -> Images:
    """Images to evaluate on, read as the run read its own, labels into ``preprocess.classes`` by class name.

    ``split`` is by default the test split where there is one, else all there is. ``report`` hears of a damaged cache, which is written anew;
    ``flag`` is the one of `archgrad evaluate` that a refusal names for ``skip_unreadable``.
    ValueError names a class the run does not know.
    """
    folder = default_cache() if cache is None else Path(cache)
    splits = find(path, image_column=image_column, label_column=label_column, cache=folder)
    usual = next(
        (name for name in (*places.TESTS, *places.VALIDATIONS) if name in splits),
        next(iter(splits)),
    )
    name = usual if split is None else split_called(split, splits)
    if name is None:
        raise errors.unknown("split", split, splits)
    source = splits[name]().relabelled(preprocess.classes)
    read = read_parts(
        [source],
        preprocess.size,
        folder,
        report,
        channels=preprocess.in_channels,
        skip=skip_unreadable,
        flag=flag,
    )
    return _images(read.stores[0], read.sources[0])


def _images(store: Stored, source: Source) -> Images:
    return Images(torch.from_numpy(store.pixels), torch.arange(len(source)), source.labels)


def _hold_out(images: Images, source: Source, seed: int) -> list[Images]:
    """Training and test images, in the same proportions."""
    for name, count in zip(source.classes, images.counts(len(source.classes))):
        if count == 1:
            raise ValueError(
                f"{source.name}: the class {name!r} has one image only, so none can be held out as test"
            )
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
    return tuple(round(value, 6) for value in mean.tolist()), tuple(
        round(value, 6) for value in std.tolist()
    )
