"""Choose the splits of a data set that train, test and validate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from archgrad import errors
from archgrad.bounds import AUTO
from archgrad.data import places
from archgrad.data.source import Source, Splits

NONE = "none"
"""The value of ``val`` that leaves out validation images. `AUTO` takes the set's usual split."""


class Parts(NamedTuple):
    """Sources of a data set. All labels are indices of the classes of ``train``.

    Attributes:
        train: Training images.
        test: Test images. None: a part of ``train`` is held out.
        val: Validation images. None: a half of the training images trains the alphas, and a
            retraining has no validation.
        validation: The split of ``val``, or the absolute path of another set.
        notes: Remarks on the choice, for people.
    """

    train: Source
    test: Source | None
    val: Source | None
    validation: str | None
    notes: tuple[str, ...]

    @property
    def sources(self) -> list[Source]:
        """Return training, test and validation images, without missing ones."""
        return [source for source in (self.train, self.test, self.val) if source is not None]


def choose_parts(
    path: str | Path,
    splits: Splits,
    test: str | Path | None,
    val: str | None,
    found: Callable[[str | Path], Splits],
) -> Parts:
    """Choose the parts of a data set.

    By default the test set is the split ``test``, or else the first validation split. The first
    other validation split validates where there is a test set.

    Args:
        path: Path of the set, for messages.
        splits: Splits of the set.
        test: The split, or the path of another set, that is the test set. None chooses.
        val: The split, or the path of another set, that is the validation set. ``none`` takes none,
            ``auto`` and None choose.
        found: Function that returns the splits of another set at a path.

    Raises:
        ValueError: There is no such split, no training image, or a class is unknown.
    """
    train = _training_source(path, splits)
    notes: list[str] = []
    validations = [name for name in places.VALIDATIONS if name in splits]
    tested, name = (
        _source_named("test", test, splits, found)
        if test is not None
        else _first_existing((*places.TESTS, *places.VALIDATIONS), splits)
    )
    if test is None and name in validations:
        notes.append(f"no test split: {name} is the test set")
    validated, validation = None, None
    if val not in (None, AUTO, NONE):
        validated, validation = _source_named("val", val, splits, found)
        if validation == name and validation in splits:
            raise ValueError(
                f"data.val and data.test are both {validation}: name another split for one of them"
            )
    elif val != NONE and tested is not None:
        validated, validation = _first_existing([one for one in validations if one != name], splits)
    if validated is not None:
        notes.append(
            f"{validation} ({len(validated):,} images) trains the alphas and validates "
            "a retraining: all training images train weights, and data.share has no effect"
        )
    return Parts(
        train,
        tested and tested.with_classes(train.classes),
        validated and validated.with_classes(train.classes),
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
    """Return the split with a name; None where there is none.

    Upper case does not count, and other usual names of the split's folder are accepted.
    """
    known = places.SPLITS.get(name.casefold(), name.casefold())
    alike = places.VALIDATIONS if known in places.VALIDATIONS else ()
    return next((one for one in (name, name.casefold(), known, *alike) if one in splits), None)


def _training_source(path: str | Path, splits: Splits) -> Source:
    """Return the training images, which have at least two classes."""
    if "train" not in splits and (len(splits) > 1 or places.kind(path) == "folder"):
        raise ValueError(f"{path} has no split called train (there are: {', '.join(splits)})")
    train = splits["train" if "train" in splits else next(iter(splits))]()
    present = [train.classes[label] for label in train.labels.unique().tolist()]
    if len(present) < 2:
        raise ValueError(
            f"{path} has one class only ({', '.join(present)}): a search needs at least two"
        )
    return train


def _first_existing(names: Sequence[str], splits: Splits) -> tuple[Source, str] | tuple[None, None]:
    """Return the first of these splits that exists, and its name."""
    name = next((one for one in names if one in splits), None)
    return (splits[name](), name) if name is not None else (None, None)


def _source_named(
    kind: str, name: str | Path, splits: Splits, found: Callable[[str | Path], Splits]
) -> tuple[Source, str]:
    """Return the split of a name, or that of another set at a path, and its name."""
    # A data set of that exact name has priority over another spelling of a split.
    exact = name in splits or Path(name).exists()
    split = str(name) if exact else split_called(str(name), splits)
    if split is not None and split in splits:
        return splits[split](), split
    if split is None:
        raise ValueError(
            f"{errors.unknown_name(f'{kind} split', str(name), splits)}; "
            "nor is there a file or folder of that name"
        )
    other = found(name)
    order = (
        (*places.TESTS, *places.VALIDATIONS)
        if kind == "test"
        else (*places.VALIDATIONS, *places.TESTS)
    )
    chosen = next((one for one in order if one in other), next(iter(other)))
    return other[chosen](), str(Path(name).resolve())
