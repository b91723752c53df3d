"""What a command is about: the genotype of a run, of a file, of a text or of a name, and the space it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from archgrad import tabular
from archgrad.arch import chain
from archgrad.arch.genotype import Genotype
from archgrad.arch.nasbench201 import CELL
from archgrad.arch.space import Space
from archgrad.bounds import SIDE
from archgrad.retraining.card import CARD, home, read_card
from archgrad.retraining.settings import retrain_settings
from archgrad.run import budgets, catalogue
from archgrad.run.catalogue import Count
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder
from archgrad.run.schemas import GenotypeFile
from archgrad.storage import files, typed_json

if TYPE_CHECKING:
    from archgrad.run.judgement import Judgement
    from archgrad.spaces.derived import Derived


@dataclass(frozen=True)
class Subject:
    """A genotype, its space, the images it is meant for, and how it is to be retrained."""

    genotype: Genotype
    space_name: str
    space_options: Mapping[str, Any] = field(default_factory=dict)
    size: int = 32
    recipe: Mapping[str, Any] = field(default_factory=dict)  # fields of RetrainSettings
    run: RunFolder | None = None  # whose search it is of
    file: Path | None = None  # that `derive` wrote of that search; else it is what the run found
    within: Sequence[Mapping[str, Any]] = ()  # budgets it keeps to, `archgrad.run.budgets.kept`
    says: Judgement | None = None  # of its search, as a file has it

    @property
    def folder(self) -> RunFolder | None:
        """The run that found it."""
        return self.run if self.file is None else None

    def judged(self) -> list[str]:
        """Whether its search was one, for people; empty where it is of no search that is known."""
        if self.says:  # of the search as it was then: its run may have been reopened since
            return self.says.lines()
        if self.run is None:
            return []
        from archgrad.run import finished  # takes torch

        return finished.said(finished.searched(self.run))

    @cached_property
    def space(self) -> Space:
        """Built when it is asked for, which takes torch."""
        from archgrad.spaces import space

        return space(self.space_name, **self.space_options)

    def derive(self, *, size: int | None = None, **given: Any) -> Derived:
        """The network that was or would be retrained, or as ``given``. ValueError if the genotype does not fit the space."""
        check_size(size or self.size)
        from archgrad.data import stem_for

        stems = catalogue.spaces()[self.space_name].stems
        space = self.space.resized(stem=stem_for(size or self.size, stems)) if stems else self.space
        usual = retrain_settings(space, self.recipe)
        return cast(
            "Derived",
            space.derive(
                self.genotype, **({"channels": usual.channels, "cells": usual.cells} | given)
            ),
        )

    def count(self, *, size: int | None = None, **given: Any) -> Count:
        """Parameters and multiply-adds of that network."""
        import torch

        from archgrad.cost.counting import count

        side = size or self.size
        with torch.device("meta"):  # nothing is computed, however large it is
            network = self.derive(size=size, **given)
        spec, found = network.space.spec(), count(network, side, network.space.in_channels)
        return Count(
            found["params"],
            found["macs"],
            spec["channels"],
            spec.get("cells"),
            spec["classes"],
            side,
        )

    def benchmark(self) -> ModuleType | None:
        """The table that knows all networks of its space; None where none does."""
        if not self.space_options:
            return tabular.lookup(self.space_name)
        from archgrad.run import watchers

        return watchers.benchmark(self.space)


def subject(what: str, space: str | None = None) -> Subject:
    """``what`` is a run folder, a file with a genotype, a genotype in any notation, or a published one's name. ValueError if none of them."""
    path = Path(what)
    if os.path.isdir(
        what
    ):  # unlike Path's, no error where a genotype is too long for a file's name
        folder = RunFolder(path)
        settings = folder.settings()
        genotype = folder.found()
        about = named(space) if space else of_settings(settings)
        return Subject(
            genotype,
            *about,
            side(folder),
            recipe(folder, settings),
            folder,
            within=folder.found_within(),
        )
    if not os.path.isfile(what):
        if os.path.exists(what):
            files.check_plain(path)  # it is none
        if os.sep in what or path.suffix == ".json":
            raise ValueError(f"there is no run folder and no file {what}")
        genotype = Genotype.parse(what)
        return Subject(genotype, *named(space or usual_space(genotype)))
    genotype, searched, within, says = from_file(path)
    if searched is None:
        return Subject(genotype, *named(space or usual_space(genotype)), says=says)
    settings = searched.settings()
    return Subject(
        genotype,
        *of_settings(settings),
        side(searched),
        settings.retrain,
        searched,
        path,
        within,
        says,
    )


def check_size(size: int) -> None:
    """Raises ValueError where the side of the images is below 8 pixels or above `bounds.SIDE`."""
    if not 8 <= size <= SIDE:
        raise ValueError(
            f"size: images of at least 8x8 pixels are read, not {size}"
            if size < 8
            else f"size must be at most {SIDE}, not {size}"
        )


def named(space: str, **options: Any) -> tuple[str, Mapping[str, Any]]:
    """A space by name. ValueError where there is none, or it cannot have these options."""
    catalogue.check_space(space, options)
    return space, options


def of_settings(settings: SearchConfig) -> tuple[str, Mapping[str, Any]]:
    """The space of a search."""
    return named(
        **{
            "space" if option == "name" else option: value
            for option, value in settings.space.items()
        }
    )


def side(folder: RunFolder) -> int:
    """Of the images of a run, in pixels."""
    return folder.images()["preprocess"]["size"]


def otherwise(found: Subject, channels: int | None, cells: int | None, size: int) -> str | None:
    """What is to be said of the budgets of a network that is built otherwise than they were counted; None where it is not."""
    if not found.within or found.run is None:
        return None

    def shape(costs: budgets.Costs) -> str:
        spec = costs.networks().spec()
        deep = f"{spec['cells']} cells, " if "cells" in spec else ""
        return f"{spec['channels']} channels, {deep}{costs.size}x{costs.size} images"

    costs = budgets.costs_of(found.run.settings(), found.space, found.size)
    recipe = {**costs.recipe, "channels": channels, "cells": cells}
    counted, built = shape(costs), shape(replace(costs, size=size, recipe=recipe))
    names = " and ".join(str(one["cost"]) for one in found.within)
    return (
        f"the budget of {names} was counted at {counted}: it says nothing of {built}"
        if counted != built
        else None
    )


def recipe(folder: RunFolder, settings: SearchConfig) -> Mapping[str, Any]:
    """Of the run's network, if it was trained already; else as the settings have it."""
    network = home(folder.path)
    return asdict(read_card(network).settings) if (network / CARD).exists() else settings.retrain


def from_file(
    path: Path,
) -> tuple[Genotype, RunFolder | None, Sequence[Mapping[str, Any]], Judgement | None]:
    """A genotype in any notation, a run's ``genotype.json``, or what `derive` wrote, with its run, its budgets and its judgement. ValueError
    names the file."""
    text = files.text(path, typed_json.LIMIT)
    content = _object(text)
    if "genotype" not in content:
        try:
            return Genotype.parse(text), None, [], None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    try:
        found = typed_json.checked(content, GenotypeFile)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    genotype, searched = Genotype.from_json(found["genotype"]), found.get("run")
    if searched is not None and not os.path.isfile(RunFolder(Path(searched)).config):
        raise ValueError(
            f'{path} was derived from {searched}, which is not there any more: give the genotype that stands in it as "text"'
        )
    return (
        genotype,
        RunFolder(Path(searched)) if searched is not None else None,
        found.get("budget", []),
        judgement_of(found),
    )


def _object(text: str) -> Mapping[str, Any]:
    """The JSON object in a text; an empty one where it holds none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def judgement_of(content: GenotypeFile) -> Judgement | None:
    """That which such a file holds, if it does."""
    if "searched" not in content:
        return None
    from archgrad.run.judgement import Judgement  # takes torch

    return Judgement.from_json(content["searched"])


def usual_space(genotype: Genotype) -> str:
    """The space whose cells or layers these are. ValueError if it has not all primitives, and another space of such cells has."""
    name = _space_of_shape(genotype)
    used = {link.primitive for cell in genotype.cells for link in cell.links}
    known = catalogue.spaces()
    if foreign := used - set(known[name].used):
        homes = [
            other
            for other, one in known.items()
            if one.groups == known[name].groups and foreign <= set(one.used)
        ]
        if homes:
            named = " and ".join(sorted(foreign))
            raise ValueError(
                f"space {name} has no primitive {named}, but space {homes[0]} has: add --space {homes[0]}"
            )
    return name


def _space_of_shape(genotype: Genotype) -> str:
    if chain.stages(genotype.cells):
        return "nasbenchmacro" if chain.is_macro(genotype.cells) else "mbconv"
    return "nasbench201" if [cell.group for cell in genotype.cells] == [CELL] else "darts"
