"""Evaluate a retrained network class by class.

On the test images of its training the accuracy equals the one that `retrain` printed, to the last
digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from archgrad import data, extras, terminal
from archgrad.arguments import named_if_wrong
from archgrad.data import Dataset, Images, places
from archgrad.retraining.card import Card, load
from archgrad.retraining.measure import fabric, measure, torch_settings

WHOLE = 20
"""Largest number of classes for which the whole confusion matrix is printed."""
LISTED = 100
"""Largest number of classes for which each class has a line."""
SHOWN = 20
"""Number of lines that are printed for more classes."""


class ClassResult(NamedTuple):
    """Number of images of a class, and of those that are classified correctly."""

    name: str
    images: int
    right: int

    @property
    def accuracy(self) -> float | None:
        """Return the share of correctly classified images; None for a class without an image."""
        return self.right / self.images if self.images else None


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a network on labelled images.

    Attributes:
        accuracy: Share of correctly classified images, from 0 to 1.
        loss: Mean cross-entropy.
        count: Number of images.
        classes: Names of the classes.
        confusion: Counts of images (K, K), int64. The row is the true class, the column the
            predicted class.
        images: Name of the images, for output.
    """

    accuracy: float
    loss: float
    count: int
    classes: tuple[str, ...]
    confusion: Tensor
    images: str

    @property
    def per_class(self) -> list[ClassResult]:
        """Return the result of each class."""
        images, right = self.confusion.sum(1).tolist(), self.confusion.diagonal().tolist()
        return [ClassResult(*row) for row in zip(self.classes, images, right)]

    @property
    def averages(self) -> dict[str, float]:
        """Return balanced accuracy, macro recall and macro F1, as scikit-learn defines them.

        They are means over the classes that have an image. Each class has the same weight, whatever
        its number of images. Balanced accuracy and macro recall are two names of one number.
        """
        with extras.named():
            from sklearn.metrics import precision_recall_fscore_support  # takes a second

        K = len(self.classes)
        true, predicted = (
            torch.arange(K).repeat_interleave(K).numpy(),
            torch.arange(K).repeat(K).numpy(),
        )
        present = [place for place, row in enumerate(self.per_class) if row.images]
        _, recall, f1, _ = precision_recall_fscore_support(
            true,
            predicted,
            labels=present,
            average="macro",
            sample_weight=self.confusion.flatten().numpy(),
            zero_division=0.0,
        )
        return {
            "balanced_accuracy": float(recall),
            "macro_recall": float(recall),
            "macro_f1": float(f1),
        }

    @property
    def largest(self) -> float:
        """Return the share of the largest class: the accuracy of always predicting it."""
        return int(self.confusion.sum(1).max()) / self.count

    def confusions(self) -> list[tuple[str, str, int]]:
        """Return (true class, predicted class, images), the most frequent confusion first."""
        wrong = self.confusion.clone().fill_diagonal_(0)
        order = (
            wrong.flatten().argsort(descending=True, stable=True)[: int((wrong > 0).sum())].tolist()
        )
        K = len(self.classes)
        return [
            (self.classes[place // K], self.classes[place % K], int(wrong[place // K, place % K]))
            for place in order
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON."""
        return {
            "accuracy": self.accuracy,
            **self.averages,
            "largest_class": self.largest,
            "loss": self.loss,
            "count": self.count,
            "images": self.images,
            "classes": {
                row.name: {"images": row.images, "right": row.right} for row in self.per_class
            },
            "confusion": self.confusion.tolist(),
        }


@named_if_wrong
def evaluate(
    folder: str | Path,
    images: str | Path | Dataset | None = None,
    *,
    split: str | None = None,
    device: torch.device | str | None = None,
    batch: int | None = None,
    **columns: Any,
) -> Evaluation:
    """Evaluate a trained network on labelled images.

    Batch size, threads, precision and, by default, device are those of the training, so that the
    last digit of the accuracy stays the same.

    Args:
        folder: The folder of the network, or the run folder of its search.
        images: Labelled images: a folder ``CLASS/*``, a set with a test split, parquet, CSV, or a
            hub name. None evaluates the test images of the training. A `Dataset`, such as one in
            memory, must be the one of the training.
        split: Split of ``images``.
        device: Device to compute on. None selects the device of the training.
        batch: Batch size. None selects that of the training.
        columns: image_column, label_column, skip_unreadable, cache, as in `archgrad.data.load`.

    Returns:
        Accuracy, loss and confusions.

    Raises:
        ValueError: No network is trained yet, a file is damaged, a class is unknown, or the
            `Dataset` is another one.
    """
    derived, card = load(folder)
    device = card.choose_device(device)
    if isinstance(images, Dataset):
        tested, where = _own_test_images(card, images, split, columns), f"{images.name}, test"
    else:
        tested, where = _test_images(card, images, split, columns)
    precision = (
        "32"
        if device.type != "cuda" and card.settings.precision == "16-mixed"
        else card.settings.precision
    )
    with torch_settings(card.threads, card.deterministic):
        net = fabric(device, precision).setup_module(derived.network)
        found = measure(
            net,
            tested.to(device),
            card.preprocess,
            batch=batch or card.batch,
            seed=card.seed,
            device=device,
        )
    return Evaluation(
        found.accuracy, found.loss, found.count, card.preprocess.classes, found.confusion, where
    )


def _own_test_images(
    card: Card, dataset: Dataset, split: str | None, columns: dict[str, Any]
) -> Images:
    """Return the test images of the training's data set; refuse another data set."""
    if split not in (None, "test") or columns:
        raise ValueError(
            f"{min(columns, default='split')}: leave it out, "
            "because a data set in memory is evaluated on its test images"
        )
    if not data.same_images(card.fingerprint, dataset):
        how = data.difference(card.preprocess.to_json(), dataset)
        raise ValueError(
            f"{dataset.name} is not the data set that the network was trained on ({how}): "
            "name labelled images by their path"
        )
    return dataset.test


def _test_images(
    card: Card, images: str | Path | None, split: str | None, columns: dict[str, Any]
) -> tuple[Images, str]:
    own = card.data["path"]
    moved, otherwise = (
        _load_moved(card, images, columns)
        if places.is_missing(own) and split is None and images is not None
        else (None, "")
    )
    if moved:
        return moved.test, f"{images}, test, which was {own}"
    # Of the images of the training only the test images are evaluated: the others trained the
    # network.
    if split is None and (images is None or _is_same_place(images, own)):
        try:
            # An empty flag: without the images that it leaves out the data set is another one.
            dataset = data.load(
                **{**card.loading, **columns},
                report=lambda line: None,
                warn=terminal.say_aside,
                flag="",
            )
        except ValueError as error:
            if own == "digits" or Path(own).exists():
                raise
            memory = (
                ""
                if Path(own).is_absolute()
                else " A data set in memory is an argument of archgrad.evaluate."
            )
            raise ValueError(
                f"{error}. If the images have moved, give their new path with --data.{memory}"
            ) from None
        if not data.same_images(card.fingerprint, dataset):
            how = data.difference(card.preprocess.to_json(), dataset)
            way = (
                "name a labelled folder by --data"
                if images is None
                else "restore them, or name another labelled folder"
            )
            raise ValueError(
                f"the images in {own} have changed since the network was trained ({how}): {way}"
            )
        return dataset.test, f"{own}, test"
    keep = (
        ("image_column", "label_column", "skip_unreadable", "cache")
        if images is None or _is_same_place(images, own)
        else ("cache",)
    )
    reading = {name: card.data[name] for name in keep if name in card.data} | columns
    labelled = data.load_labelled(images or own, card.preprocess, split, **reading)
    if otherwise:
        terminal.say_aside(
            f"{own}, which the network was trained on, is gone, and the images in {images} differ "
            f"from it ({otherwise}). These images may have trained the network, "
            "and then its accuracy is too high."
        )
    return labelled, f"{images or own}{f', {split}' if split else ''}"


def _load_moved(
    card: Card, images: str | Path, columns: dict[str, Any]
) -> tuple[Dataset | None, str]:
    """Load the images of the training from a new place.

    Returns:
        The images, or None and the difference where their fingerprint is another one.
    """
    reading = {**card.loading, **columns, "path": str(images)}
    try:
        dataset = data.load(**reading, report=lambda line: None, warn=terminal.say_aside)
    except ValueError as error:  # such as labelled images of one class, which cannot train
        return None, str(error)
    if data.same_images(card.fingerprint, dataset):
        return dataset, ""
    return None, data.difference(card.preprocess.to_json(), dataset)


def _is_same_place(one: str | Path, other: str) -> bool:
    return str(one) == other or (
        Path(one).exists() and Path(one).resolve() == Path(other).resolve()
    )


def show(evaluation: Evaluation, console: Console) -> None:
    """Print the test accuracy, then the classes, then the confusions."""
    console.print(f"test accuracy {100 * evaluation.accuracy:.2f} %", highlight=False)
    averages = evaluation.averages
    console.print(
        f"balanced accuracy (macro recall) {100 * averages['balanced_accuracy']:.2f} %, "
        f"macro F1 {100 * averages['macro_f1']:.2f} %, "
        f"largest class {100 * evaluation.largest:.2f} % of the images",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"{evaluation.count:,} images: {evaluation.images}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    console.print(_class_table(evaluation))
    if evaluation.confusion.equal(evaluation.confusion.diagonal().diag()):
        console.print("no image was assigned to another class")
    elif len(evaluation.classes) <= WHOLE:
        console.print(
            "confusions: a row is a true class, a column a predicted class",
            highlight=False,
        )
        console.print(_confusion_table(evaluation))
    else:
        console.print(_mistake_table(evaluation))


def _class_table(evaluation: Evaluation) -> Table:
    rows = evaluation.per_class
    few = len(rows) <= LISTED
    if not few:
        rows = sorted((row for row in rows if row.images), key=lambda row: row.right / row.images)[
            :SHOWN
        ]
    table = _new_table(
        "" if few else f"the {SHOWN} hardest of {len(evaluation.classes)} classes",
        "class",
        "images",
        "right",
        "accuracy",
    )
    for row in rows:
        table.add_row(
            Text(row.name),
            str(row.images),
            str(row.right),
            "-" if row.accuracy is None else f"{100 * row.accuracy:.2f} %",
        )
    return table


def _confusion_table(evaluation: Evaluation) -> Table:
    table = _new_table("", "true class", *evaluation.classes)
    for place, (name, row) in enumerate(zip(evaluation.classes, evaluation.confusion.tolist())):
        table.add_row(
            Text(name),
            *(
                f"[bold]{count}[/]" if column == place else str(count) if count else "[dim]·[/]"
                for column, count in enumerate(row)
            ),
        )
    return table


def _mistake_table(evaluation: Evaluation) -> Table:
    table = _new_table(
        f"the {SHOWN} most frequent confusions", "true class", "images", "predicted class"
    )
    for true, predicted, count in evaluation.confusions()[:SHOWN]:
        table.add_row(Text(true), str(count), Text(predicted))
    return table


def _new_table(title: str, *columns: str) -> Table:
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if place == 0 else "right")
    return table
