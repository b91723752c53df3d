"""All that a retraining needs, made from what is to be retrained and from settings."""

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
from archgrad.run.subject import Subject, otherwise, subject
from archgrad.terminal import say_on

if TYPE_CHECKING:
    from archgrad.data import Dataset

READING = ("augment", "flip", "workers")
"""Settings of the data that say how images are read."""


class Made(NamedTuple):
    """All that a retraining needs beside its genotype."""

    space: Space
    dataset: Dataset
    recipe: RetrainSettings
    device: str
    origin: dict[str, Any]
    reading: dict[str, Any]


def asked(
    what: str, users: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[Subject, SearchConfig]:
    """What is to be retrained, and how: by the run it is of, and what users said. ValueError for what cannot be."""
    told = config.read(*users)
    flags_said = users[-1][1]
    found = subject(what, flags_said.get("space", {}).get("name"))
    if found.run and "space" in flags_said:
        raise ValueError(f"{what} is of a run, which has its space: leave out --space")
    settings = config.read(
        _origin(found, elsewhere=told.data.path is not None), *users, recorded=True
    )
    check_images(settings.data)
    return found, settings


def prepare(found: Subject, settings: SearchConfig, console: Console) -> Made:
    """Reads the images. Sets torch's threads and determinism."""
    import torch

    from archgrad import data
    from archgrad.run import preparing, processors
    from archgrad.searching import progress

    device, say = preparing.set_up(settings), say_on(console)
    origin = preparing.loading(preparing.settled(settings.data))
    with progress.life(console):
        try:
            dataset = data.load(**origin, report=say)
        except ValueError as error:
            if not places.is_gone(origin["path"]):
                raise
            raise ValueError(
                f"{error}; if the images were moved, name their new place by --data"
            ) from None
    space = preparing.space_of(
        settings.model_copy(update={"space": preparing.fitted(settings, dataset)})
    )
    recipe = retrain_settings(space, settings.retrain)
    if settings.threads is None:
        torch.set_num_threads(
            processors.threads(
                recipe.batch, recipe.channels or space.spec()["channels"], dataset.size
            )
        )
    if note := otherwise(found, recipe.channels, recipe.cells, dataset.size):
        say(note)
    keep = {
        name: str(value) if isinstance(value, Path) else value for name, value in origin.items()
    }
    return Made(
        space,
        dataset,
        recipe,
        device,
        keep,
        {name: getattr(settings.data, name) for name in READING},
    )


def card_and_images(
    what: str, users: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[Card, Dataset]:
    """Of a retraining that is not begun. ValueError for what cannot be."""
    from archgrad.retraining import execute as retraining

    found, settings = asked(what, users)
    made = prepare(found, settings, terminal.console(quiet=True))
    card = retraining.card_of(
        made.space, found.genotype, made.dataset, made.recipe, seed=settings.seed, device=made.device,
        deterministic=settings.deterministic, origin=made.origin, reading=made.reading,
    )  # fmt: skip
    return card, made.dataset


def _origin(found: Subject, *, elsewhere: bool) -> tuple[str, dict[str, Any]]:
    """What a retraining starts from: the run's settings, but for what follows from its images where it trains on others."""
    if found.run is None:
        return "", {"space": {"name": found.space_name}}
    settings = found.run.settings().to_mapping()
    if elsewhere:
        settings["data"] = {
            name: value
            for name, value in settings["data"].items()
            if name in ("skip_unreadable", "drop_duplicates")
        }
        settings["space"] = {
            name: value
            for name, value in settings["space"].items()
            if name not in ("classes", "in_channels", "stem")
        }
    return str(found.run.config), settings
