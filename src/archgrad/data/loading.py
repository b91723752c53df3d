"""Load a data set, or labelled images for an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from archgrad import errors, terminal
from archgrad.arguments import named_if_wrong
from archgrad.data import fingerprint, places
from archgrad.data.dataset import Dataset, Images, absence_notes
from archgrad.data.duplicates import NAMES, Part, duplicate_notes, without_duplicates
from archgrad.data.parts import NONE, choose_parts, split_called
from archgrad.data.pixel_files import Stored
from archgrad.data.preprocess import Preprocess
from archgrad.data.reading import SKIP, Pixels, read_parts
from archgrad.data.source import Source, Splits
from archgrad.data.sources import find_set
from archgrad.data.split import others, stratified
from archgrad.storage.cache_folder import default_cache
from archgrad.terminal import Say

TEST_SHARE = 0.2
"""Share of the images that are held out as test images of a set without a test split."""
MEASURED = 2**26
"""Largest number of values of a channel from which its statistics are measured."""


@named_if_wrong
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
    report: Say = terminal.say,
    warn: Say | None = None,
    flag: str = SKIP,
) -> Dataset:
    """Load a data set.

    Args:
        path: ``digits``, a folder (``CLASS/*``, or ``train/CLASS/*`` with or without ``test/`` and
            ``val/``), a CSV, TSV or parquet file, or the name of a set on the Hugging Face hub.
        size: Side in pixels of the network's input. None is 32 where the median short side of the
            images is at most 48, else 64. The short side is resized to it, and the centre cropped.
        test: The split, or another set of the same classes, that is the test set. None takes
            ``test`` or ``val``; where there is neither, a fifth of each class is held out.
        val: The split, or another set, that trains the alphas and validates a retraining. None
            takes ``val`` where there is a test split as well; ``"none"`` takes none.
        image_column: Column of a table that holds the images.
        label_column: Column of a table that holds the classes.
        skip_unreadable: Leave out images that cannot be read. By default they are an error.
        drop_duplicates: Leave out training images whose file is also a test or validation image,
            byte for byte.
        cache: Folder of decoded images; by default ``~/.cache/archgrad``.
        seed: Seed of the choice of held-out images.
        streaming: Not supported.
        report: Function that prints a line on the data set.
        warn: Function that prints a line on a damaged cache, which is written anew; by default
            ``report``.
        flag: Flag that an error on unreadable images names; an empty text names none.

    Returns:
        The data set.

    Raises:
        ValueError: The images cannot be used.

    Example:
        >>> load("digits", report=lambda line: None).test
        <Images: 359 of 1x8x8>
    """
    if streaming:
        raise ValueError(
            "streaming is not supported: a search reads every image by its index "
            "(split, order, teachers)"
        )
    places.as_path(path, "images")
    places.check_side(size)
    folder = default_cache() if cache is None else Path(cache)

    def find_splits(place: str | Path) -> Splits:
        return find_set(place, image_column=image_column, label_column=label_column, cache=folder)

    splits = find_splits(path)
    chosen = choose_parts(path, splits, test, val, find_splits)
    read = read_parts(chosen.sources, size, folder, warn or report, skip=skip_unreadable, flag=flag)
    kept, test_notes = _labelled_parts(read, chosen.test is None, seed)
    if drop_duplicates:
        kept, twice_notes = without_duplicates(kept)
    else:
        twice_notes = duplicate_notes(kept)
    train, (training, testing, *validating) = read.sources[0], (part.images for part in kept)
    own, *alike = _fingerprints(kept, train.classes, read)
    mean, std = train.statistics or measure_channels(training)
    is_split = test is not None and str(test) in splits
    arguments = {
        "path": places.absolute(path),
        "size": size,
        "test": test if test is None or is_split else places.absolute(test),
        "val": chosen.validation or (val if val == NONE else None),
        "image_column": image_column,
        "label_column": label_column,
        "skip_unreadable": skip_unreadable,
        "drop_duplicates": drop_duplicates,
        "cache": cache and str(folder.expanduser().resolve()),
        "seed": seed,
    }
    dataset = Dataset(
        name=str(path),
        train=training,
        test=testing,
        val=validating[0] if validating else None,
        validation=chosen.validation,
        classes=train.classes,
        in_channels=read.channels,
        size=read.size,
        mean=mean,
        std=std,
        statistics="known" if train.statistics else "measured",
        fingerprint=own,
        equivalent_fingerprints=tuple(other for other in alike if other != own),
        notes=(
            *chosen.notes,
            *_reading_notes(read),
            *test_notes,
            *twice_notes,
            *_absence_notes(kept, train.classes),
        ),
        # Empty and false values are the defaults of `load`.
        loading={name: value for name, value in arguments.items() if value},
        layout=next((source.layout for source in read.sources if source.layout), ""),
        unreadable=tuple(f"{bad.place}: {bad.reason}" for bad in read.left_out),
    )
    for line in (dataset.describe_balance(), *dataset.notes):
        report(line)
    return dataset


def _labelled_parts(read: Pixels, hold_out: bool, seed: int) -> tuple[list[Part], list[str]]:
    """Return the training, test and validation images, and a note on held-out test images."""
    stores, notes = list(read.stores), []
    images = [_images(store, source) for store, source in zip(stores, read.sources)]
    if hold_out:
        whole = len(images[0])
        images[:1] = _hold_out(images[0], read.sources[0], seed)
        stores.insert(1, stores[0])
        notes.append(
            f"no test split: {len(images[1]):,} of {whole:,} images "
            f"({TEST_SHARE:.0%} of every class) are held out as one"
        )
    return [Part(one, store.digests[one.rows]) for one, store in zip(images, stores)], notes


def _reading_notes(read: Pixels) -> list[str]:
    """Return notes on unreadable images and on the change of size."""
    notes = []
    if read.left_out:
        names = errors.listed([bad.place for bad in read.left_out])
        count = errors.counted(len(read.left_out), "image")
        notes.append(f"left out because they cannot be read: {count} ({names})")
    if read.side != read.size:
        notes.append(
            f"images are resized to {read.size}x{read.size} "
            f"(their median short side is {read.side:g})"
        )
    return notes


def _absence_notes(kept: Sequence[Part], classes: Sequence[str]) -> list[str]:
    """Return notes on classes without an image in a part."""
    return [
        line
        for name, part in zip(NAMES, kept)
        for line in absence_notes(f"{name} image", part.images, classes)
    ]


def _fingerprints(kept: Sequence[Part], classes: Sequence[str], read: Pixels) -> list[str]:
    """Return the fingerprint, then those of other Unicode forms of the class names."""
    marks = [(part.images.labels, part.digests) for part in kept]
    return [
        fingerprint.fingerprint(names, read.size, read.channels, marks)
        for names in fingerprint.spellings(classes)
    ]


@named_if_wrong
def load_labelled(
    path: str | Path,
    preprocess: Preprocess,
    split: str | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    skip_unreadable: bool = False,
    cache: str | Path | None = None,
    report: Say = terminal.say_aside,
    flag: str = "--skip-unreadable",
) -> Images:
    """Load labelled images for the evaluation of a network.

    Args:
        path: As in `load`.
        preprocess: Size and classes of the network's training. Labels are assigned by class name.
        split: Name of a split. None takes the test split, else the validation split, else the
            first.
        image_column: As in `load`.
        label_column: As in `load`.
        skip_unreadable: As in `load`.
        cache: As in `load`.
        report: Function that prints a line on a damaged cache, which is written anew.
        flag: Flag that an error on unreadable images names.

    Returns:
        The images.

    Raises:
        ValueError: The images cannot be used, or a class is unknown to the network.
    """
    folder = default_cache() if cache is None else Path(cache)
    splits = find_set(path, image_column=image_column, label_column=label_column, cache=folder)
    usual = next(
        (name for name in (*places.TESTS, *places.VALIDATIONS) if name in splits),
        next(iter(splits)),
    )
    name = usual if split is None else split_called(split, splits)
    if name is None:
        raise errors.unknown_name("split", split, splits)
    source = splits[name]().with_classes(preprocess.classes)
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
    """Divide images into training and test images; each class keeps its share."""
    for name, count in zip(source.classes, images.counts(len(source.classes))):
        if count == 1:
            raise ValueError(
                f"{source.name}: the class {name!r} has one image only, "
                "so none can be held out as test"
            )
    test = stratified(images.labels, round(TEST_SHARE * len(images)), seed, "test")
    return [images.subset(others(test, len(images))), images.subset(test)]


def measure_channels(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure mean and standard deviation of each channel, of values from 0 to 1.

    They are computed on evenly spaced images from counts of the 256 levels. Counts are integers, so
    neither the size of chunks nor the number of threads changes a bit.
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
    # A constant channel is divided by one level, not by zero.
    std = (density @ levels.square() - mean.square()).clamp(min=255**-2).sqrt()
    return tuple(round(value, 6) for value in mean.tolist()), tuple(
        round(value, 6) for value in std.tolist()
    )
