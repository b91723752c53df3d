"""Accuracy of a retrained network, class by class: on the run's own test images it is the number that `retrain` printed, to the last digit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from archgrad import data, terminal
from archgrad.data import Dataset, Images, places
from archgrad.retraining.card import Card, load
from archgrad.retraining.measure import fabric, measure, surroundings

WHOLE, LISTED, SHOWN = 20, 100, 20
"""Classes up to which the whole confusion matrix is shown, up to which each class is listed, and how much is shown beyond."""


class ClassResult(NamedTuple):
    name: str
    images: int
    right: int

    @property
    def accuracy(self) -> float | None:
        return self.right / self.images if self.images else None


@dataclass(frozen=True)
class Evaluation:
    """``confusion`` (K, K) int64: row true class, column predicted class; ``accuracy`` is a share in [0, 1]."""

    accuracy: float
    loss: float
    count: int
    classes: tuple[str, ...]
    confusion: Tensor
    images: str  # which

    @property
    def per_class(self) -> list[ClassResult]:
        images, right = self.confusion.sum(1).tolist(), self.confusion.diagonal().tolist()
        return [ClassResult(*row) for row in zip(self.classes, images, right)]

    @property
    def averages(self) -> dict[str, float]:
        """Balanced accuracy, macro recall and macro F1, as scikit-learn defines them, over the classes that have an image: each class counts
        the same, however many images it has. Balanced accuracy and macro recall are two names of one number."""
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
        """Share of the images that the largest class has: the accuracy of always guessing it."""
        return int(self.confusion.sum(1).max()) / self.count

    def confusions(self) -> list[tuple[str, str, int]]:
        """(true class, predicted class, images), the most frequent mistakes first."""
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


def evaluate(
    folder: str | Path,
    images: str | Path | Dataset | None = None,
    *,
    split: str | None = None,
    device: torch.device | str | None = None,
    batch: int | None = None,
    **columns: Any,
) -> Evaluation:
    """The network of a folder (or of a search's run folder) on its own test images, or on any labelled ``images``: a folder
    ``CLASS/*``, a set with a test split, parquet, a hub name. A `Dataset`, such as one in memory, has to be the one that it was trained on.

    Device, batch size, threads and precision are those of the training, so that not even the last digit moves. ``columns``: image_column,
    label_column, skip_unreadable, cache, as in `data.load`. ValueError if nothing is trained yet, a file is damaged, a class is unknown, or a
    `Dataset` is another one.
    """
    derived, card = load(folder)
    device = card.place(device)
    if isinstance(images, Dataset):
        tested, where = _own(card, images, split, columns), f"{images.name}, test"
    else:
        tested, where = _test_images(card, images, split, columns)
    precision = (
        "32"
        if device.type != "cuda" and card.settings.precision == "16-mixed"
        else card.settings.precision
    )
    with surroundings(card.threads, card.deterministic):
        net = fabric(device, precision).setup_module(derived.network)
        found = measure(
            net,
            tested.on(device),
            card.preprocess,
            batch=batch or card.batch,
            seed=card.seed,
            device=device,
        )
    return Evaluation(
        found.accuracy, found.loss, found.count, card.preprocess.classes, found.confusion, where
    )


def _own(card: Card, dataset: Dataset, split: str | None, columns: dict[str, Any]) -> Images:
    """The test images of the data set that the network was trained on. ValueError where it is another one, or is to be read otherwise."""
    if split not in (None, "test") or columns:
        raise ValueError(
            f"{min(columns, default='split')}: of a data set in memory the test images are evaluated: leave it out"
        )
    if not data.same_images(card.fingerprint, dataset):
        how = data.difference(card.preprocess.to_json(), dataset)
        raise ValueError(
            f"{dataset.name} is not the data set that the network was trained on ({how}): name labelled images by their path"
        )
    return dataset.test


def _test_images(
    card: Card, images: str | Path | None, split: str | None, columns: dict[str, Any]
) -> tuple[Images, str]:
    own = card.data["path"]
    moved, otherwise = (
        _moved(card, images, columns)
        if places.is_gone(own) and split is None and images is not None
        else (None, "")
    )
    if moved:
        return moved.test, f"{images}, test, which was {own}"
    if split is None and (images is None or _same(images, own)):  # its other images were trained on
        try:
            # no flag is named that leaves out some of them: without these they are other images
            dataset = data.load(
                **{**card.loading, **columns},
                report=lambda line: None,
                warn=terminal.remark,
                flag="",
            )
        except ValueError as error:
            if own == "digits" or Path(own).exists():
                raise
            memory = (
                ""
                if Path(own).is_absolute()
                else "; a data set in memory is given to archgrad.evaluate itself"
            )
            more = f"if the images were moved, name their new place by --data{memory}"
            raise ValueError(f"{error}; {more}") from None
        if not data.same_images(card.fingerprint, dataset):
            how = data.difference(card.preprocess.to_json(), dataset)
            raise ValueError(
                f"the images in {own} have changed since the network was trained ({how}): name a labelled folder by --data"
            )
        return dataset.test, f"{own}, test"
    keep = (
        ("image_column", "label_column", "skip_unreadable", "cache")
        if images is None or _same(images, own)
        else ("cache",)
    )
    reading = {name: card.data[name] for name in keep if name in card.data} | columns
    labelled = data.load_labelled(images or own, card.preprocess, split, **reading)
    if otherwise:
        terminal.remark(
            f"{own}, which the network was trained on, is gone, and {images} is not known as the same images ({otherwise}). "
            "These images may have trained the network, and then its accuracy is too high."
        )
    return labelled, f"{images or own}{f', {split}' if split else ''}"


def _moved(card: Card, images: str | Path, columns: dict[str, Any]) -> tuple[Dataset | None, str]:
    """The card's own images at their new place, by their fingerprint; None where they are others, and how these differ."""
    reading = {**card.loading, **columns, "path": str(images)}
    try:
        dataset = data.load(**reading, report=lambda line: None, warn=terminal.remark)
    except (
        ValueError
    ) as error:  # labelled images without what a search needs, such as a second class
        return None, str(error)
    if data.same_images(card.fingerprint, dataset):
        return dataset, ""
    return None, data.difference(card.preprocess.to_json(), dataset)


def _same(one: str | Path, other: str) -> bool:
    return str(one) == other or (
        Path(one).exists() and Path(one).resolve() == Path(other).resolve()
    )


def show(evaluation: Evaluation, console: Console) -> None:
    """First line ``test accuracy NN.NN %``; then the classes, then what was taken for what."""
    console.print(f"test accuracy {100 * evaluation.accuracy:.2f} %", highlight=False)
    averages = evaluation.averages
    console.print(
        f"balanced accuracy (macro recall) {100 * averages['balanced_accuracy']:.2f} %, macro F1 {100 * averages['macro_f1']:.2f} %, "
        f"largest class {100 * evaluation.largest:.2f} % of the images",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(
        f"{evaluation.count:,} images: {evaluation.images}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    console.print(_classes(evaluation))
    if evaluation.confusion.equal(evaluation.confusion.diagonal().diag()):
        console.print("no image was taken for another class")
    elif len(evaluation.classes) <= WHOLE:
        console.print(
            "confusions: a line is a true class, a column what its images were taken for",
            highlight=False,
        )
        console.print(_matrix(evaluation))
    else:
        console.print(_mistakes(evaluation))


def _classes(evaluation: Evaluation) -> Table:
    rows = evaluation.per_class
    few = len(rows) <= LISTED
    if not few:
        rows = sorted((row for row in rows if row.images), key=lambda row: row.right / row.images)[
            :SHOWN
        ]
    table = _table(
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


def _matrix(evaluation: Evaluation) -> Table:
    table = _table("", "true class", *evaluation.classes)
    for place, (name, row) in enumerate(zip(evaluation.classes, evaluation.confusion.tolist())):
        table.add_row(
            Text(name),
            *(
                f"[bold]{n}[/]" if k == place else str(n) if n else "[dim]·[/]"
                for k, n in enumerate(row)
            ),
        )
    return table


def _mistakes(evaluation: Evaluation) -> Table:
    table = _table(f"the {SHOWN} most frequent confusions", "true class", "images", "taken for")
    for true, predicted, count in evaluation.confusions()[:SHOWN]:
        table.add_row(Text(true), str(count), Text(predicted))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if place == 0 else "right")
    return table
