"""Preparation of a retraining: its network, images and settings, made from what a user gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from archgrad import terminal
from archgrad.arch.space import Space
from archgrad.data import places
from archgrad.retraining.card import Card
from archgrad.retraining.settings import RetrainSettings, retrain_settings
from archgrad.run import config
from archgrad.run.checking import check_images
from archgrad.run.config import SearchConfig
from archgrad.run.subject import Subject, other_shape_remark, subject
from archgrad.terminal import say_on

if TYPE_CHECKING:
    from archgrad.data import Dataset

READING = ("augment", "flip", "workers")
"""The settings of the images that are arguments of `archgrad.data.retrain_data`."""

Source = tuple[str, Mapping[str, Any]]
"""The name of a source of settings, for messages, and its settings as a file has them."""


class PreparedTraining(NamedTuple):
    """The parts of a retraining beside its genotype.

    Attributes:
        space: The space that fits the images.
        dataset: The images.
        recipe: The settings of the retraining.
        device: The name of the device.
        origin: The arguments of `archgrad.data.loading`, as plain data.
        reading: The settings that `READING` names.
    """

    space: Space
    dataset: Dataset
    recipe: RetrainSettings
    device: str
    origin: dict[str, Any]
    reading: dict[str, Any]


def read_subject_and_settings(what: str, users: Sequence[Source]) -> tuple[Subject, SearchConfig]:
    """Return the genotype to retrain, and the settings of its run with those of the user on top.

    Args:
        what: A run folder, a file, a genotype or a name, as `archgrad.run.subject.subject` takes.
        users: The settings of files and flags. The flags come last.

    Raises:
        ValueError: There is no such genotype, or a setting is wrong.
    """
    user_settings = config.read(*users)
    flags = users[-1][1]
    found = subject(what, flags.get("space", {}).get("name"))
    if found.run and "space" in flags:
        raise ValueError(f"{what} belongs to a run, which has its space: leave out --space")
    other_images = user_settings.data.path is not None
    settings = config.read(_origin(found, other_images), *users, recorded=True)
    check_images(settings.data)
    return found, settings


def prepare(found: Subject, settings: SearchConfig, console: Console) -> PreparedTraining:
    """Read the images, and set torch's number of threads and its determinism.

    Raises:
        ValueError: The images cannot be read, or the space does not fit them.
    """
    import torch

    from archgrad import data
    from archgrad.run import preparing, processors
    from archgrad.searching import progress

    device, say = preparing.set_up(settings), say_on(console)
    origin = preparing.loading_arguments(preparing.with_absolute_paths(settings.data))
    with progress.signs_of_life(console):
        try:
            dataset = data.load(**origin, report=say)
        except ValueError as error:
            if not places.is_missing(origin["path"]):
                raise
            raise ValueError(
                f"{error}. If the images have moved, give their new path with --data."
            ) from None
    space = preparing.fitted_space(settings, dataset)
    recipe = retrain_settings(space, settings.retrain)
    if settings.threads is None:
        channels = recipe.channels or preparing.width_of(space)
        torch.set_num_threads(processors.threads(recipe.batch, channels, dataset.size))
    if note := other_shape_remark(found, recipe.channels, recipe.cells, dataset.size):
        say(note)
    return PreparedTraining(
        space,
        dataset,
        recipe,
        device,
        {name: str(value) if isinstance(value, Path) else value for name, value in origin.items()},
        {name: getattr(settings.data, name) for name in READING},
    )


def card_and_images(what: str, users: Sequence[Source]) -> tuple[Card, Dataset]:
    """Return the card and the images of a retraining that has not begun.

    Raises:
        ValueError: As `read_subject_and_settings` and `prepare`.
    """
    from archgrad.retraining import execute as retraining

    found, settings = read_subject_and_settings(what, users)
    prepared = prepare(found, settings, terminal.console(quiet=True))
    card = retraining.card_of(
        prepared.space,
        found.genotype,
        prepared.dataset,
        prepared.recipe,
        seed=settings.seed,
        device=prepared.device,
        deterministic=settings.deterministic,
        origin=prepared.origin,
        reading=prepared.reading,
    )
    return card, prepared.dataset


def _origin(found: Subject, other_images: bool) -> Source:
    """Return the settings of the run that a retraining starts from.

    If it trains on other images, the settings that follow from the run's images are left out.
    """
    if found.run is None:
        return "", {"space": {"name": found.space_name}}
    settings = found.run.read_settings().to_mapping()
    if other_images:
        settings["data"] = {
            name: value
            for name, value in settings["data"].items()
            if name in ("skip_unreadable", "drop_duplicates")
        }
        settings["space"] = {
            name: value
            for name, value in settings["space"].items()
            if name not in ("classes", "in_channels", "size", "stem")
        }
    return str(found.run.config), settings
