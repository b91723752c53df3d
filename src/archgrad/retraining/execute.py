"""Train a derived network from scratch, which the literature calls the evaluation phase.

The result is the test accuracy after the last epoch. Without validation images, the best epoch is
selected on the test images, so its accuracy is optimistic: it is printed beside the result and
never replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import torch

from archgrad import data, plugins, terminal
from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Space, check_cells
from archgrad.arguments import named_if_wrong
from archgrad.cost.counting import count
from archgrad.data import Data, Dataset, places
from archgrad.data.dataset import check_dataset
from archgrad.devices import device_named
from archgrad.errors import command, counted
from archgrad.observers.interrupts import Interrupted
from archgrad.observers.recording import Metrics
from archgrad.report import noise_note
from archgrad.retraining.card import (
    WEIGHTS,
    Card,
    check_free,
    network_folder,
    read_card,
    save_weights,
    write_card,
)
from archgrad.retraining.measure import BATCH, measure, torch_settings
from archgrad.retraining.progress import TrainingProgress
from archgrad.retraining.settings import RetrainSettings, retrain_settings
from archgrad.retraining.training import Training
from archgrad.searching import checkpoint
from archgrad.searching.duration import Remaining, duration_text
from archgrad.searching.progress import signs_of_life
from archgrad.spaces import space_of
from archgrad.storage import records
from archgrad.storage.folder import CHECKPOINT, ESTIMATE, METRICS, locked, write_estimate
from archgrad.storage.records import Row
from archgrad.terminal import Say


class Retrained(NamedTuple):
    """Result of a retraining. Accuracies are shares of the test images, from 0 to 1.

    Attributes:
        accuracy: Test accuracy after the last epoch, the result.
        best_accuracy: Test accuracy after the best epoch.
        best_epoch: The epoch with the highest accuracy on the validation images, counted from 0.
            Without validation images the test images select it, which is optimistic.
        rows: Metrics, a row for each epoch.
        folder: Folder of the network.
    """

    accuracy: float
    best_accuracy: float
    best_epoch: int
    rows: list[Row]
    folder: Path


@named_if_wrong
def retrain(
    space: Space | str,
    genotype: Genotype | str,
    dataset: Dataset,
    settings: RetrainSettings | Mapping[str, Any] | None,
    folder: str | Path,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    deterministic: bool = False,
    origin: Mapping[str, Any] | None = None,
    reading: Mapping[str, Any] | None = None,
    stopping: Callable[[], bool] = lambda: False,
    seconds: float = 60,
    report: Say = terminal.say,
) -> Retrained:
    """Train the network that a space derives from a genotype, into a new folder.

    The folder receives network.json, metrics.jsonl, checkpoint.pt and, at the end,
    weights.safetensors.

    Args:
        space: A space or its name.
        genotype: A genotype, its text, or the name of a published one.
        dataset: The images, as `archgrad.data.load` returns them.
        settings: `RetrainSettings`, or a dict of the settings that differ from the space's preset.
        folder: The folder to write. It must not hold a network yet.
        seed: Seed of the training.
        device: Device to train on.
        deterministic: Use deterministic algorithms of torch.
        origin: Arguments of `archgrad.data.load` for these images; None takes those that the
            dataset carries. `resume` and `evaluate` load the images by them.
        reading: Arguments of `archgrad.data.retrain_data` beside the settings (flip, workers).
        stopping: Function that returns True when the training should stop.
        seconds: Seconds between two checkpoints. Each epoch ends with a checkpoint as well.
        report: Function that prints a line.

    Returns:
        The result and the metrics of each epoch.

    Raises:
        ValueError: An argument is wrong, or the folder holds a network already.
        Interrupted: ``stopping`` returned True; `resume` continues the training.
    """
    folder = places.as_path(folder, "folder")
    space, genotype = space_of(space), Genotype.of(genotype)
    check_dataset(dataset)
    if not isinstance(settings, RetrainSettings):
        settings = retrain_settings(space, settings)
    device_named(device)
    card = card_of(
        space,
        genotype,
        dataset,
        settings,
        seed=seed,
        device=device,
        deterministic=deterministic,
        origin=origin,
        reading=reading,
    )
    # This raises an error for an impossible training before anything is written.
    run = training_of(card, dataset)
    check_free(folder)
    with locked(folder, (METRICS, CHECKPOINT, ESTIMATE)):
        for left in check_free(folder):
            left.unlink()
        write_card(folder, card)
        return _train(
            run, images_of(card, dataset, run.device, report), folder, stopping, seconds, report
        )


def card_of(
    space: Space,
    genotype: Genotype,
    dataset: Dataset,
    settings: RetrainSettings,
    *,
    seed: int,
    device: torch.device | str,
    deterministic: bool,
    origin: Mapping[str, Any] | None,
    reading: Mapping[str, Any] | None,
) -> Card:
    """Return the card of a training. The arguments are those of `retrain`.

    Raises:
        ValueError: The genotype, the settings and the space do not fit together.
    """
    return Card(
        genotype=genotype,
        space=space.name,
        spec=_derived_space(space, genotype, dataset, settings).spec(),
        preprocess=dataset.preprocess,
        settings=settings,
        seed=seed,
        device=str(device),
        threads=torch.get_num_threads(),
        deterministic=deterministic,
        batch=BATCH,
        data={**(origin or dataset.loading or {"path": dataset.name}), **_loading_choices(dataset)},
        reading=dict(reading or {}),
        fingerprint=dataset.fingerprint,
        plugins=plugins.to_record(plugins.loaded(), space=space.name),
    )


def _loading_choices(dataset: Dataset) -> dict[str, Any]:
    """Return the choices of `data.load` as arguments, so that a later call makes the same ones."""
    return ({"val": dataset.validation} if dataset.validation else {}) | (
        {"skip_unreadable": True} if dataset.unreadable else {}
    )


def resume(
    folder: str | Path,
    dataset: Dataset | None = None,
    *,
    device: torch.device | str | None = None,
    previous: bool = False,
    stopping: Callable[[], bool] = lambda: False,
    seconds: float = 60,
    report: Say = terminal.say,
) -> Retrained:
    """Continue a training exactly where it stopped, also within an epoch.

    Args:
        folder: The folder of the network, or the run folder of its search.
        dataset: The images. None loads them again.
        device: Device to train on. None selects the recorded one.
        previous: Start from the checkpoint before the last, which becomes the last one.
        stopping: As in `retrain`.
        seconds: As in `retrain`.
        report: As in `retrain`.

    Returns:
        The result; a finished training is not repeated.

    Raises:
        ValueError: The images have changed, or a file is missing or damaged.
        Interrupted: ``stopping`` returned True.
    """
    folder = network_folder(folder)
    card = read_card(folder)
    with signs_of_life(terminal.console()):
        # An empty flag: the command `resume` has no flag that leaves out images.
        dataset = dataset or data.load(**card.loading, report=report, flag="")
    if not data.same_images(card.fingerprint, dataset):
        how = data.difference(card.preprocess.to_json(), dataset)
        raise ValueError(
            f"the images in {dataset.name} have changed since the training in {folder} began "
            f"({how}): train anew, into another folder"
        )
    with locked(folder, (METRICS, CHECKPOINT, ESTIMATE)):
        if (folder / WEIGHTS).exists():  # the training is finished
            return _report_result(folder, card, report)
        run = training_of(card, dataset, device)
        last, images = folder / CHECKPOINT, images_of(card, dataset, run.device, report)
        if (saved := checkpoint.checkpoint_to_resume(last, previous)).exists():
            content = checkpoint.read(saved, run.device)
            with checkpoint.naming_checkpoint(saved):
                run.restore(content, images.steps("train"))
        if previous:
            checkpoint.restore_previous(last)
        return _train(run, images, folder, stopping, seconds, report)


def _train(
    run: Training,
    images: Data,
    folder: Path,
    stopping: Callable[[], bool],
    seconds: float,
    report: Say,
) -> Retrained:
    card, settings = run.card, run.card.settings
    epochs = settings.epochs
    metrics = Metrics(folder / METRICS, epoch=run.epoch)
    saved = monotonic()

    def save(*, always: bool) -> None:
        nonlocal saved
        stop = stopping()
        if always or stop or monotonic() - saved >= seconds:
            run.check_finite()  # a diverged state must not replace a good checkpoint
            checkpoint.save(folder / CHECKPOINT, run.pack())
            saved = monotonic()
        if stop and run.epoch < epochs:
            place = f"epoch {run.epoch + 1}, step {run.step}"
            raise Interrupted(
                f"stopped at {place}; everything is saved. Go on with: {command('resume', folder)}"
            )

    def tested() -> Row:
        # A test changes no state. An interrupted one is saved as the step before it, and repeated.
        with progress.time_test(run.epoch):
            return _test(run, images, lambda: save(always=False))

    if run.epoch < epochs:
        for line in _headlines(run, images, folder):
            report(line)
    progress = _progress(run, images, metrics.path, report)
    with torch_settings(card.threads, card.deterministic), progress:
        while run.epoch < epochs:
            began = monotonic()
            for batch in images.batches("train", run.epoch, run.step):
                run.advance(batch)
                progress.on_step(run.epoch, run.step, run.averages)
                save(always=False)
            row = {
                "epoch": run.epoch,
                **run.averages(),
                "lr": settings.learning_rate_at(run.epoch),
                "drop_path": settings.drop_path_at(run.epoch),
            }
            run.check_finite()
            if run.epoch in progress.tests:
                row |= tested()
            row["seconds"] = monotonic() - began
            # Before the checkpoint: `resume` removes a line too many, but a missing one is lost.
            metrics.append(row)
            progress.on_epoch(row)
            run.next_epoch()
            save(always=True)
    (folder / ESTIMATE).unlink(missing_ok=True)
    save_weights(folder, run.derived, card)
    return _report_result(folder, card, report)


def training_of(card: Card, dataset: Dataset, device: torch.device | str | None = None) -> Training:
    """Return the training of a card at its beginning.

    Classes are counted over all training images, because ``limit`` keeps their shares.
    """
    return Training(card, device, dataset.train.counts(len(dataset.classes)))


def images_of(card: Card, dataset: Dataset, device: torch.device, report: Say) -> Data:
    """Return the splits and augmentation of a training, and print settings that images overrule.

    Args:
        card: The card of the training.
        dataset: The images.
        device: Device of the batches.
        report: Function that prints a line.
    """
    settings = card.settings
    erased = settings.cutout_side(dataset.size)
    jitter = settings.jitter if dataset.in_channels == 3 else 0.0
    if erased < settings.cutout:
        report(
            f"cutout is {erased} pixels, not {settings.cutout}: "
            "at most half the side of the images is erased"
        )
    if jitter < settings.jitter:
        report("no colour jitter: the images are grey")
    options: dict[str, Any] = {
        "batch": settings.batch,
        "limit": settings.limit,
        "cutout": erased,
        "jitter": jitter,
    }
    return data.retrain_data(dataset, seed=card.seed, device=device, **options, **card.reading)


def _progress(run: Training, images: Data, metrics: Path, report: Say) -> TrainingProgress:
    settings = run.card.settings
    tests = [
        epoch
        for epoch in range(settings.epochs)
        if (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs
    ]
    batch = min(settings.batch, images.count("train"))
    return TrainingProgress(
        settings.epochs,
        images.steps("train"),
        report,
        tests=tests,
        test_steps=sum(map(images.count, tested_splits(images))) / batch,
        past=sum(row.get("seconds") or 0.0 for row in records.read_measured(metrics)),
        advise=lambda left: [] if run.epoch else _shorter_trainings(run, images, left),
        record=partial(write_estimate, metrics.parent),
    )


def _test(run: Training, images: Data, between: Callable[[], object]) -> Row:
    """Measure loss and accuracy on the validation images (if there are any) and the test images."""
    row: Row = {}
    for split in tested_splits(images):
        part, card = images.splits[split].images, run.card
        found = measure(
            run.net,
            part,
            card.preprocess,
            batch=card.batch,
            seed=card.seed,
            device=run.device,
            between=between,
        )
        row |= {
            f"{split}_loss": found.loss if math.isfinite(found.loss) else None,
            f"{split}_accuracy": found.accuracy,
        }
    return row


def tested_splits(images: Data) -> list[str]:
    """Return the names of the splits that a test measures."""
    return [split for split in ("val", "test") if split in images.splits]


def _derived_space(
    space: Space, genotype: Genotype, dataset: Dataset, settings: RetrainSettings
) -> Space:
    """Return the space of the network; raise a ValueError if the settings do not fit it."""
    size = {"channels": settings.channels, "cells": settings.cells}
    bare: dict[str, Any] = {"auxiliary": False} if "auxiliary" in space.spec() else {}
    bare |= {"size": dataset.size} if "size" in space.spec() else {}
    derived = space.derive(
        genotype, **size, **bare, classes=len(dataset.classes), in_channels=dataset.in_channels
    )
    found: Space = derived.space  # type: ignore[assignment]
    check_cells(found, "--retrain.cells")
    if settings.auxiliary and "auxiliary" not in found.spec():
        raise ValueError(
            f"the networks of {space.name} have no auxiliary head: "
            f"--retrain.auxiliary must be 0, not {settings.auxiliary}"
        )
    if settings.auxiliary_bn and (not settings.auxiliary or found.spec().get("stem") != "imagenet"):
        raise ValueError(
            "--retrain.auxiliary-bn needs an auxiliary head behind the imagenet stem, "
            "which this network does not have: add --retrain.no-auxiliary-bn"
        )
    return found


def _headlines(run: Training, images: Data, folder: Path) -> Iterator[str]:
    card, settings = run.card, run.card.settings
    cost = count(card.build(), images.size, images.in_channels)
    spec = card.spec
    cells = f"{counted(spec['cells'], 'cell')}, " if "cells" in spec else ""
    macs = f"{cost['macs'] / 1e6:.2f} M multiply-adds"
    width = f"{spec['channels']} channels, " if "channels" in spec else ""
    size = f"{width}{cells}{cost['params']:,} parameters, {macs}"
    yield f"network: {card.space}, {size}"
    if random := noise_note(card.genotype):
        yield random
    if settings.preset == "quick":
        yield (
            "recipe: quick, REDUCED for a laptop. "
            "Do not compare its accuracy with published accuracies."
        )
    start = f"from epoch {run.epoch + 1}, step {run.step}, " if run.epoch or run.step else ""
    yield (
        f"retraining: {start}{counted(settings.epochs, 'epoch')} of "
        f"{counted(images.steps('train'), 'step')}, batch {settings.batch}, "
        f"{settings.preset} recipe, {run.device}, precision {settings.precision}, "
        f"seed {card.seed}, into {folder}"
    )


def _shorter_trainings(run: Training, images: Data, left: Remaining) -> list[str]:
    """Return advice on flags that shorten the training, with the time that each would take."""
    settings = run.card.settings
    ways = []
    if settings.epochs > 1:
        ways.append(
            f"--retrain.epochs {settings.epochs // 2} (about {duration_text(left.seconds / 2)})"
        )
    if settings.preset != "quick":
        quick = retrain_settings(run.derived.space, {"preset": "quick"})
        reduced = left.seconds * _relative_time(run, images, quick)
        ways.append(
            f"--retrain.preset quick (a small network for {quick.epochs} epochs, "
            f"labelled as reduced: about {duration_text(reduced)})"
        )
    return [f"a shorter training: {', '.join(ways)}"] if ways else []


def _relative_time(run: Training, images: Data, quick: RetrainSettings) -> float:
    """Estimate the time of a training with settings ``quick``, as a share of this training's time.

    Time is taken as proportional to the multiply-adds, epochs and images.
    """
    card, total = run.card, images.count("train")
    size = {
        name: value
        for name, value in (("channels", quick.channels), ("cells", quick.cells))
        if name in card.spec and value is not None
    }
    small, whole = (
        count(net, images.size, images.in_channels)["macs"]
        for net in (run.derived.space.derive(card.genotype, **size), card.build())
    )
    work = small / whole * quick.epochs / card.settings.epochs
    return work * min(quick.limit or total, total) / total


def _report_result(folder: Path, card: Card, report: Say) -> Retrained:
    """Read the result from the metrics and print it."""
    found = records.read_tested(folder / METRICS, card.settings.epochs)
    tested = [row for row in found if row.get("test_accuracy") is not None]
    validated = [row for row in tested if row.get("val_accuracy") is not None]
    best = max(
        validated or tested, key=lambda row: row["val_accuracy" if validated else "test_accuracy"]
    )
    result = Retrained(
        tested[-1]["test_accuracy"], best["test_accuracy"], best["epoch"], found, folder
    )
    report(f"test accuracy {100 * result.accuracy:.2f} % (after the last epoch: the result)")
    if validated:
        report(
            f"best epoch by the validation images: {best['epoch'] + 1}, "
            f"{100 * best['val_accuracy']:.2f} % of the validation images, "
            f"{100 * best['test_accuracy']:.2f} % of the test images"
        )
    elif result.best_accuracy > result.accuracy:
        report(
            f"best epoch: {best['epoch'] + 1}, {100 * result.best_accuracy:.2f} % "
            "(selected on the test images, so not the result)"
        )
    return result
