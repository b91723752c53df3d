"""Which split is which: the images that train, those that test, and those that validate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from archgrad import errors
from archgrad.bounds import AUTO
from archgrad.data import places
from archgrad.data.source import Source, Splits

NONE = "none"
"""The value of ``val`` that leaves out validation images. `AUTO` takes the split of the set."""


class Parts(NamedTuple):
    """The sources of a data set, their labels into the classes of ``train``."""

    train: Source
    test: Source | None  # None: a part of ``train`` is held out
    val: (
        Source | None
    )  # None: a half of the training images moves the alphas, and a retraining has no validation
    validation: str | None  # the split that ``val`` is, or the whole path of the other set
    notes: tuple[str, ...]

    @property
    def sources(self) -> list[Source]:
        """Those that are there, in this order."""
        return [source for source in (self.train, self.test, self.val) if source is not None]


def parts(
    path: str | Path,
    splits: Splits,
    test: str | Path | None,
    val: str | None,
    found: Callable[[str | Path], Splits],
) -> Parts:
    """The parts of a data set.

    Args:
        path: Its place, for messages.
        splits: Its splits.
        test: The split, or the place of another set, that is the test set; None is to be chosen here.
        val: The split, or the place of another set, that is the validation set; ``none`` is none, ``auto`` or None is to be chosen here.
        found: The splits of another set at a place.

    Returns:
        The parts. ``test`` is chosen before the validation splits, and a set that has these alone is tested by the first of them. The first
        one that does not test validates, where there is a test split as well.

    Raises:
        ValueError: There is no such split, no training image, or a class is unknown.
    """
    train = _training(path, splits)
    notes: list[str] = []
    validations = [name for name in places.VALIDATIONS if name in splits]
    tested, name = (
        _named("test", test, splits, found)
        if test is not None
        else _usual((*places.TESTS, *places.VALIDATIONS), splits)
    )
    if test is None and name in validations:
        notes.append(f"no test split: {name} is the test set")
    validated, validation = None, None
    if val not in (None, AUTO, NONE):
        validated, validation = _named("val", val, splits, found)
        if validation == name and validation in splits:
            raise ValueError(
                f"data.val and data.test are both {validation}: name another split for one of them"
            )
    elif val != NONE and tested is not None:
        validated, validation = _usual([one for one in validations if one != name], splits)
    if validated is not None:
        moved = (
            f"{validation} ({len(validated):,} images) moves the alphas and validates a retraining"
        )
        notes.append(f"{moved}: all training images train weights, and data.share does nothing")
    return Parts(
        train,
        tested and tested.relabelled(train.classes),
        validated and validated.relabelled(train.classes),
        validation,
        (
            *(
                note
                for source in (train, tested, validated)
                if source is not None
                for note in source.notes
            ),
            *notes,
        ),
    )


def split_called(name: str, splits: Splits) -> str | None:
    """The split that a user calls ``name``, in any capitals or by another usual name of its folder; None where there is none."""
    known = places.SPLITS.get(name.casefold(), name.casefold())
    alike = places.VALIDATIONS if known in places.VALIDATIONS else ()
    return next((one for one in (name, name.casefold(), known, *alike) if one in splits), None)


def _training(path: str | Path, splits: Splits) -> Source:
    """The split to train on; it has at least two classes that have images."""
    if "train" not in splits and (len(splits) > 1 or places.kind(path) == "folder"):
        raise ValueError(f"{path} has no split called train (there are: {', '.join(splits)})")
    train = splits["train" if "train" in splits else next(iter(splits))]()
    present = [train.classes[label] for label in train.labels.unique().tolist()]
    if len(present) < 2:
        raise ValueError(
            f"{path} has one class only ({', '.join(present)}): a search needs at least two"
        )
    return train


def _usual(names: Sequence[str], splits: Splits) -> tuple[Source, str] | tuple[None, None]:
    """The first of these splits, and its name."""
    name = next((one for one in names if one in splits), None)
    return (splits[name](), name) if name is not None else (None, None)


def _named(
    kind: str, name: str | Path, splits: Splits, found: Callable[[str | Path], Splits]
) -> tuple[Source, str]:
    """The split of that name, or that of another set at that place; and its name."""
    exact = (
        name in splits or Path(name).exists()
    )  # a set of that name goes before another spelling of a split
    split = str(name) if exact else split_called(str(name), splits)
    if split is not None and split in splits:
        return splits[split](), split
    if split is None:
        raise ValueError(
            f"{errors.unknown(f'{kind} split', str(name), splits)}; nor is there a file or folder of that name"
        )
    other = found(name)
    order = (
        (*places.TESTS, *places.VALIDATIONS)
        if kind == "test"
        else (*places.VALIDATIONS, *places.TESTS)
    )
    return other[next((one for one in order if one in other), next(iter(other)))](), str(
        Path(name).resolve()
    )
