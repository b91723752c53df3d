"""What a command is about: the genotype of a run, of a file, of a text or of a name, and the space it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from archgrad import chain, run, spaces
from archgrad.arch import Genotype
from archgrad.config import SearchConfig
from archgrad.data import stem_for
from archgrad.folder import RunFolder, read_json
from archgrad.notation import CELL
from archgrad.retraining.files import CARD, home, read_card
from archgrad.retraining.settings import retrain_settings
from archgrad.search_space import Space
from archgrad.spaces.derived import Derived


@dataclass(frozen=True)
class Subject:
    """A genotype, its space, the images it is meant for, and how it is to be retrained."""

    genotype: Genotype
    space: Space
    size: int = 32
    folder: RunFolder | None = None  # of a run
    recipe: Mapping[str, Any] = field(default_factory=dict)  # fields of RetrainSettings

    def derive(self, *, size: int | None = None, **given: Any) -> Derived:
        """The network that was or would be retrained, or as ``given``. ValueError if the genotype does not fit the space."""
        if (size or self.size) < 8:
            raise ValueError(f"size: images of at least 8x8 pixels are read, not {size}")
        stems = spaces.SPACES[self.space.name].stems
        space = self.space.resized(stem=stem_for(size or self.size, stems)) if stems else self.space
        usual = retrain_settings(space, self.recipe)
        return cast("Derived", space.derive(self.genotype, **({"channels": usual.channels, "cells": usual.cells} | given)))


def subject(what: str, space: str | None = None) -> Subject:
    """``what`` is a run folder, a file with a genotype, a genotype in any notation, or a published one's name. ValueError if none of them."""
    path = Path(what)
    if os.path.isdir(what):  # unlike Path's, no error where a genotype is too long for a file's name
        folder = RunFolder(path)
        settings = folder.settings()
        genotype = folder.found()
        whole = run.space_of(settings) if space is None else spaces.space(space)
        return Subject(genotype, whole, read_json(folder.data, "preprocess")["preprocess"]["size"], folder, recipe(folder, settings))
    genotype = from_file(path) if os.path.isfile(what) else Genotype.parse(what)
    return Subject(genotype, spaces.space(space or usual_space(genotype)))


def recipe(folder: RunFolder, settings: SearchConfig) -> Mapping[str, Any]:
    """Of the run's network, if it was trained already; else as the settings have it."""
    network = home(folder.path)
    return asdict(read_card(network).settings) if (network / CARD).exists() else settings.retrain


def from_file(path: Path) -> Genotype:
    """A genotype in any notation, or a run's ``genotype.json``. ValueError names the file."""
    try:
        text = path.read_text("utf-8")
        try:
            return Genotype.from_json(json.loads(text)["genotype"])
        except (json.JSONDecodeError, KeyError, TypeError):
            return Genotype.parse(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def usual_space(genotype: Genotype) -> str:
    """The space whose cells or layers these are."""
    if chain.stages(genotype):
        return "nasbenchmacro" if chain.is_macro(genotype) else "mbconv"
    return "nasbench201" if [cell.group for cell in genotype.cells] == [CELL] else "darts"
