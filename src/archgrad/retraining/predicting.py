"""Predict the classes of image files, which are read exactly as the training images were."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from archgrad import terminal
from archgrad.arguments import named_if_wrong
from archgrad.data import Preprocess, formats, places
from archgrad.retraining.card import load
from archgrad.retraining.measure import fabric, logits, torch_settings
from archgrad.spaces import noise


class Prediction(NamedTuple):
    """Prediction for one image.

    Attributes:
        file: Path of the image.
        name: The most probable class.
        probability: Its probability.
        top: The most probable classes and their probabilities, in decreasing order.
    """

    file: str
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]


class Predictions(NamedTuple):
    """Predictions for several images.

    Attributes:
        rows: A prediction for each readable image, in order.
        refused: A line for each other path, with the reason.
    """

    rows: list[Prediction]
    refused: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the predictions as JSON.

        Returns:
            ``{"images": [{"file", "class", "probability", "top"}, ...], "refused": [...]}``, where
            ``top`` is ``[[class, probability], ...]``.
        """
        images = [
            {"file": row.file, "class": row.name, "probability": row.probability, "top": row.top}
            for row in self.rows
        ]
        return {"images": images, "refused": self.refused}


@named_if_wrong
def predict(
    folder: str | Path,
    paths: Sequence[str | Path] | str | Path,
    *,
    top: int = 1,
    device: torch.device | str | None = None,
    batch: int = 64,
) -> Predictions:
    """Predict the classes of image files with a trained network.

    Args:
        folder: The folder of the network, or the run folder of its search.
        paths: Image files and folders, or a single one. A folder stands for all images below it, in
            sorted order.
        top: Number of classes to return for each image.
        device: Device to compute on. None selects the device of the training.
        batch: Batch size.

    Returns:
        A prediction for each image, and a line for each path that is missing or unreadable.

    Raises:
        ValueError: No network is trained yet, or there is no image.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, not {top}")
    derived, card = load(folder)
    device = card.choose_device(device)
    several = [Path(paths)] if isinstance(paths, str | Path) else [*paths]
    files, refused = find_images(several)
    if not files and not refused:
        raise ValueError(f"no image in {', '.join(str(path) for path in several) or 'nothing'}")
    rows: list[Prediction] = []
    if noise.are_fixed(derived.state_dict()):
        batch = 1  # so that a prediction does not depend on the other images of its batch
    with torch_settings(card.threads, card.deterministic):
        net = fabric(device, "32").setup_module(derived.network)
        for start in range(0, len(files), batch):
            names, pixels = _read_images(files[start : start + batch], card.preprocess, refused)
            if names:
                images = card.preprocess.crop_and_normalise(pixels.to(device))
                rows += _make_rows(
                    names,
                    next(logits(net, iter([images]), card.seed)).softmax(1),
                    card.preprocess.classes,
                    top,
                )
    return Predictions(rows, refused)


def find_images(paths: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the image files at paths, and a line for each path that is missing or unreadable.

    A folder stands for all images below it; its hidden files and other files are ignored.
    """
    files: list[Path] = []
    refused: list[str] = []
    for path in (places.as_path(path, "image") for path in paths):
        if not path.exists():
            refused.append(f"no such file or folder: {path}")
            continue
        for file in map(Path, places.files_below(path)) if path.is_dir() else [path]:
            if why := formats.missing_reader(file.name):
                refused.append(f"{file}: {why}")
            elif formats.is_image(file.name) or not path.is_dir():
                files.append(file)
    return files, refused


def _read_images(
    files: Sequence[Path], preprocess: Preprocess, refused: list[str]
) -> tuple[list[Path], torch.Tensor]:
    readable, pixels = [], []
    for file in files:
        try:
            pixels.append(preprocess.read_files([file]))
            readable.append(file)
        except ValueError as error:
            refused.append(str(error))
    return readable, torch.cat(pixels) if pixels else torch.empty(0)


def _make_rows(
    files: Sequence[Path], probabilities: torch.Tensor, classes: Sequence[str], top: int
) -> list[Prediction]:
    best = probabilities.topk(min(top, len(classes)))
    found = []
    for file, values, labels in zip(files, best.values.tolist(), best.indices.tolist()):
        ranked = tuple((classes[label], value) for label, value in zip(labels, values))
        found.append(Prediction(str(file), *ranked[0], ranked))
    return found


def show(predictions: Predictions, console: Console) -> None:
    """Print a table of the predictions, and below it the refused paths."""
    table = Table(*_column_names(predictions.rows), header_style="bold")
    for row in predictions.rows:
        ranked = [
            text
            for name, probability in row.top
            for text in (Text(name), f"{100 * probability:.2f} %")
        ]
        table.add_row(Text(row.file, overflow="fold"), *ranked)
    if predictions.rows:
        console.print(table)
    for line in predictions.refused:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def to_csv(predictions: Predictions, *, raw: bool = False) -> str:
    """Return predictions as CSV: a header and a line for each image, probabilities to six digits.

    Args:
        predictions: The result of `predict`.
        raw: Write names unchanged. By default an apostrophe precedes a name that a spreadsheet
            would execute as a formula.

    Returns:
        The text of the file.
    """
    cell = str if raw else terminal.cell
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_column_names(predictions.rows))
    for row in predictions.rows:
        writer.writerow(
            [
                cell(row.file),
                *(
                    one
                    for name, probability in row.top
                    for one in (cell(name), f"{probability:.6f}")
                ),
            ]
        )
    return text.getvalue()


def _column_names(rows: Sequence[Prediction]) -> list[str]:
    """Return the columns: file, class, probability, then class 2, probability 2, ..."""
    ranks = range(1, len(rows[0].top) + 1 if rows else 2)
    return [
        "file",
        *(
            f"{name}{'' if rank == 1 else f' {rank}'}"
            for rank in ranks
            for name in ("class", "probability")
        ),
    ]
