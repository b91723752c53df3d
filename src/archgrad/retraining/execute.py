"""The derived network, trained from scratch: the evaluation phase of the field.

The result is the test accuracy after the last epoch. The best epoch is chosen by looking at the test images: it may stand beside the
result, never in its place.
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
    home,
    read_card,
    save_weights,
    write_card,
)
from archgrad.retraining.measure import BATCH, measure, surroundings
from archgrad.retraining.progress import Watch
from archgrad.retraining.settings import RetrainSettings, retrain_settings
from archgrad.retraining.training import Training
from archgrad.searching import checkpoint
from archgrad.searching.duration import Left, span
from archgrad.searching.progress import life
from archgrad.spaces import space_of
from archgrad.storage import records
from archgrad.storage.folder import CHECKPOINT, ESTIMATE, METRICS, expect, locked
from archgrad.storage.records import Row

Say = Callable[[str], Any]


class Retrained(NamedTuple):
    """Accuracies are shares in [0, 1] of the test images. ``accuracy``, of the last epoch, is the result."""

    accuracy: float
    best_accuracy: float  # of the epoch that did best on the validation images; without these on the test images, which is optimistic
    best_epoch: int
    rows: list[Row]  # one an epoch
    folder: Path


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
    """Trains the network that ``space`` derives of ``genotype`` into a new ``folder``: network.json, metrics.jsonl, checkpoint.pt and,
    at the end, weights.safetensors.

    A space may be its name, a genotype its text or its name, and settings a dict of those that differ from the space's preset (None: none).
    ``origin``: the arguments `data.load` made the dataset from, by default those it carries; `resume` and `evaluate` load it again by them.
    ``reading``: arguments of `data.retrain_data` beside the settings (flip, workers). A checkpoint is written every epoch and every
    ``seconds``; `Interrupted` when ``stopping`` says so. ValueError for what cannot be, and if the folder holds a network already.
    """
    folder, space, genotype = (
        places.checked(folder, "folder"),
        space_of(space),
        Genotype.of(genotype),
    )
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
    run = training_of(card, dataset)  # refuses what cannot be trained before anything is written
    check_free(folder)
    with locked(folder, (METRICS, CHECKPOINT, ESTIMATE)):
        for left in check_free(folder):
            left.unlink()
        write_card(folder, card)
        return _train(
            run, images_of(card, dataset, run.device, report), folder, stopping, seconds, report
        )


def card_of(
    space: Space, genotype: Genotype, dataset: Dataset, settings: RetrainSettings, *, seed: int, device: torch.device | str,
    deterministic: bool, origin: Mapping[str, Any] | None, reading: Mapping[str, Any] | None,
) -> Card:  # fmt: skip
    """What `retrain` will train. ValueError if genotype, settings and space do not fit."""
    return Card(
        genotype=genotype,
        space=space.name,
        spec=_derived(space, genotype, dataset, settings).spec(),
        preprocess=dataset.preprocess,
        settings=settings,
        seed=seed,
        device=str(device),
        threads=torch.get_num_threads(),
        deterministic=deterministic,
        batch=BATCH,
        data={**(origin or dataset.loading or {"path": dataset.name}), **_kept(dataset)},
        reading=dict(reading or {}),
        fingerprint=dataset.fingerprint,
        plugins=plugins.recorded(plugins.loaded(), space=space.name),
    )


def _kept(dataset: Dataset) -> dict[str, Any]:
    """Arguments of `data.load` that follow from what it made."""
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
    """Goes on exactly where the training in ``folder`` stopped, in mid-epoch too; of a finished one, its result.

    Loads the images again unless they are given; runs on the recorded number of threads. ``previous``: from the checkpoint
    before the last, which becomes the last one. ValueError if the images have changed.
    """
    folder = home(folder)
    card = read_card(folder)
    with life(terminal.console()):
        dataset = dataset or data.load(
            **card.loading, report=report, flag=""
        )  # `resume` has no such flag
    if not data.same_images(card.fingerprint, dataset):
        how = data.difference(card.preprocess.to_json(), dataset)
        raise ValueError(
            f"the images in {dataset.name} have changed since the training in {folder} began ({how}): train anew, into another folder"
        )
    with locked(folder, (METRICS, CHECKPOINT, ESTIMATE)):
        if (folder / WEIGHTS).exists():  # they are written once
            return _conclude(folder, card, report)
        run = training_of(card, dataset, device)
        last, images = folder / CHECKPOINT, images_of(card, dataset, run.device, report)
        if (saved := checkpoint.wanted(last, previous)).exists():
            content = checkpoint.read(saved, run.device)
            with checkpoint.fitting(saved):
                run.restore(content, images.steps("train"))
        if previous:
            checkpoint.go_back(last)
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
            run.check()  # the checkpoint before is worth more than one of a training that diverged
            checkpoint.save(folder / CHECKPOINT, run.pack())
            saved = monotonic()
        if stop and run.epoch < epochs:
            place = f"epoch {run.epoch + 1}, step {run.step}"
            raise Interrupted(
                f"stopped at {place}; everything is saved. Go on with: {command('resume', folder)}"
            )

    def tested() -> Row:
        """Nothing of a test is in the state: one that is cut short is saved as the step before it, and done again."""
        with watch.testing(run.epoch):
            return _test(run, images, lambda: save(always=False))

    if run.epoch < epochs:
        for line in _headline(run, images, folder):
            report(line)
    watch = _watch(run, images, metrics.path, report)
    with surroundings(card.threads, card.deterministic), watch:
        while run.epoch < epochs:
            began = monotonic()
            for batch in images.batches("train", run.epoch, run.step):
                run.advance(batch)
                watch.on_step(run.epoch, run.step, run.averages)
                save(always=False)
            row = {
                "epoch": run.epoch,
                **run.averages(),
                "lr": settings.rate(run.epoch),
                "drop_path": settings.dropping(run.epoch),
            }
            run.check()
            if run.epoch in watch.tests:
                row |= tested()
            row["seconds"] = monotonic() - began
            metrics.append(
                row
            )  # before the checkpoint: a line too many is cut at resume, one too few is lost
            watch.on_epoch(row)
            run.next_epoch()
            save(always=True)
    (folder / ESTIMATE).unlink(missing_ok=True)
    save_weights(folder, run.derived, card)
    return _conclude(folder, card, report)


def training_of(card: Card, dataset: Dataset, device: torch.device | str | None = None) -> Training:
    """The training of a card at its beginning. Its classes are counted over all training images: `limit` keeps their shares."""
    return Training(card, device, dataset.train.counts(len(dataset.classes)))


def images_of(card: Card, dataset: Dataset, device: torch.device, report: Say) -> Data:
    """As the card has them read."""
    settings = card.settings
    erased, jitter = (
        settings.erased(dataset.size),
        settings.jitter if dataset.in_channels == 3 else 0.0,
    )
    if erased < settings.cutout:
        report(
            f"cutout is {erased} pixels, not {settings.cutout}: at most half the side of the images is erased"
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


def _watch(run: Training, images: Data, metrics: Path, report: Say) -> Watch:
    settings = run.card.settings
    tests = [
        epoch
        for epoch in range(settings.epochs)
        if (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs
    ]
    past, batch = (
        sum(row.get("seconds") or 0.0 for row in records.rows(metrics)),
        min(settings.batch, images.count("train")),
    )
    return Watch(
        settings.epochs, images.steps("train"), report, tests=tests, test_steps=sum(map(images.count, tested_splits(images))) / batch, past=past,
        long=lambda left: _shorter(run, images, left) if not run.epoch else [], keep=partial(expect, metrics.parent),
    )  # fmt: skip


def _test(run: Training, images: Data, between: Callable[[], object]) -> Row:
    """Loss and accuracy on the test images, before them on the validation images where there are any."""
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
    """The splits that a test passes."""
    return [split for split in ("val", "test") if split in images.splits]


def _derived(
    space: Space, genotype: Genotype, dataset: Dataset, settings: RetrainSettings
) -> Space:
    """The space whose supernet the network is. ValueError if the genotype or the settings do not fit."""
    size = {"channels": settings.channels, "cells": settings.cells}
    bare = {"auxiliary": False} if "auxiliary" in space.spec() else {}
    derived = space.derive(
        genotype, **size, **bare, classes=len(dataset.classes), in_channels=dataset.in_channels
    )
    found: Space = derived.space  # type: ignore[assignment]
    check_cells(found, "--retrain.cells")
    if settings.auxiliary and "auxiliary" not in found.spec():
        raise ValueError(
            f"the networks of {space.name} have no auxiliary head: --retrain.auxiliary must be 0, not {settings.auxiliary}"
        )
    if settings.auxiliary_bn and (not settings.auxiliary or found.spec().get("stem") != "imagenet"):
        raise ValueError(
            "the second BatchNorm of --retrain.auxiliary-bn is of an auxiliary head behind the imagenet stem, which this network does not have: "
            "say --retrain.no-auxiliary-bn"
        )
    return found


def _headline(run: Training, images: Data, folder: Path) -> Iterator[str]:
    card, settings = run.card, run.card.settings
    cost = count(card.build(), images.size, images.in_channels)
    spec = card.spec
    cells = f"{counted(spec['cells'], 'cell')}, " if "cells" in spec else ""
    size = f"{spec['channels']} channels, {cells}{cost['params']:,} parameters, {cost['macs'] / 1e6:.2f} M multiply-adds"
    yield f"network: {card.space}, {size}"
    if random := noise_note(card.genotype):
        yield random
    if settings.preset == "quick":
        yield "recipe: quick, REDUCED for a laptop: its accuracy is not to be compared with published ones"
    start = f"from epoch {run.epoch + 1}, step {run.step}, " if run.epoch or run.step else ""
    yield (
        f"retraining: {start}{counted(settings.epochs, 'epoch')} of {counted(images.steps('train'), 'step')}, batch {settings.batch}, "
        f"{settings.preset} recipe, {run.device}, precision {settings.precision}, seed {card.seed}, into {folder}"
    )


def _shorter(run: Training, images: Data, left: Left) -> list[str]:
    """What would make such a training shorter, and by how much: time falls with epochs and images, and about with multiply-adds."""
    settings, space, own = run.card.settings, run.derived.space, run.card
    said = (
        [f"--retrain.epochs {settings.epochs // 2} (about {span(left.seconds / 2)})"]
        if settings.epochs > 1
        else []
    )
    if settings.preset != "quick":
        quick = retrain_settings(space, {"preset": "quick"})
        size = {
            name: value
            for name, value in (("channels", quick.channels), ("cells", quick.cells))
            if name in own.spec and value is not None
        }
        small, whole = (
            count(net, images.size, images.in_channels)["macs"]
            for net in (space.derive(own.genotype, **size), own.build())
        )
        seen = min(quick.limit or images.count("train"), images.count("train")) / images.count(
            "train"
        )
        reduced = left.seconds * small / whole * quick.epochs / settings.epochs * seen
        said.append(
            f"--retrain.preset quick (a small network for {quick.epochs} epochs, reduced, and says so: about {span(reduced)})"
        )
    return [f"a shorter training: {', '.join(said)}"] if said else []


def _conclude(folder: Path, card: Card, report: Say) -> Retrained:
    found = records.tested(folder / METRICS, card.settings.epochs)
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
        chosen = f"{100 * best['val_accuracy']:.2f} % of the validation images, {100 * best['test_accuracy']:.2f} % of the test images"
        report(f"best epoch by the validation images: {best['epoch'] + 1}, {chosen}")
    elif result.best_accuracy > result.accuracy:
        report(
            f"best epoch: {best['epoch'] + 1}, {100 * result.best_accuracy:.2f} % (chosen by the test images, so not the result)"
        )
    return result
