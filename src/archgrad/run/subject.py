"""The genotype that a command works on, from a run, a file, a text or a name, and its space."""

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
from archgrad.arch import chain, decisions
from archgrad.arch.genotype import Genotype
from archgrad.arch.nasbench201 import CELL
from archgrad.arch.space import Space
from archgrad.bounds import SIDE
from archgrad.retraining.card import CARD, network_folder, read_card
from archgrad.retraining.settings import retrain_settings
from archgrad.run import budgets, catalogue
from archgrad.run.budgets import BudgetResult
from archgrad.run.catalogue import Count
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder
from archgrad.run.judgement import Judgement
from archgrad.run.schemas import GenotypeFile
from archgrad.storage import files, typed_json

if TYPE_CHECKING:
    from archgrad.spaces.derived import Derived


@dataclass(frozen=True)
class Subject:
    """A genotype with its space, the size of its images and the settings of its retraining.

    Attributes:
        genotype: The genotype.
        space_name: The name of its space.
        space_options: The options of its space.
        size: The side of its images, in pixels.
        recipe: The settings of its retraining, fields of `RetrainSettings`.
        run: The run whose search it comes from, None if it comes from no run.
        file: The file that `archgrad derive` wrote of that search. None if the genotype is the
            result of the run itself.
        budget_results: The costs of the network beside its budgets.
        judgement: The judgement of its search, if a file has one.
    """

    genotype: Genotype
    space_name: str
    space_options: Mapping[str, Any] = field(default_factory=dict)
    size: int = 32
    recipe: Mapping[str, Any] = field(default_factory=dict)
    run: RunFolder | None = None
    file: Path | None = None
    budget_results: Sequence[BudgetResult] = ()
    judgement: Judgement | None = None

    @property
    def folder(self) -> RunFolder | None:
        """Return the run if the genotype is its result, or None."""
        return self.run if self.file is None else None

    def judgement_lines(self) -> list[str]:
        """Return the lines of the judgement of its search, none if no search is known."""
        if self.judgement:  # the run may have been reopened since, so the file comes first
            return self.judgement.lines()
        if self.run is None:
            return []
        from archgrad.run import finished  # imports torch

        return finished.judgement_lines(finished.read_judgement(self.run))

    @cached_property
    def space(self) -> Space:
        """Build the space on first use, because that imports torch."""
        from archgrad.spaces import space

        return space(self.space_name, **self.space_options)

    def derive(self, *, size: int | None = None, **given: Any) -> Derived:
        """Build the network as it is retrained.

        Args:
            size: The side of the images in pixels, by default `Subject.size`.
            given: Options of `Space.derive` that replace those of the recipe.

        Raises:
            ValueError: The genotype does not fit the space, or an option is out of range.
        """
        check_size(size or self.size)
        from archgrad.data import stem_for

        side, stems = size or self.size, catalogue.spaces()[self.space_name].stems
        fitting: dict[str, Any] = {"stem": stem_for(side, stems)} if stems else {}
        fitting |= {"size": side} if "size" in self.space.spec() else {}
        space = self.space.resized(**fitting)
        usual = retrain_settings(space, self.recipe)
        return cast(
            "Derived",
            space.derive(
                self.genotype, **({"channels": usual.channels, "cells": usual.cells} | given)
            ),
        )

    def count(self, *, size: int | None = None, **given: Any) -> Count:
        """Return the parameters and multiply-adds of that network."""
        import torch

        from archgrad.cost.counting import count

        side = size or self.size
        with torch.device("meta"):  # takes no memory, however large the network is
            network = self.derive(size=size, **given)
        spec, found = network.space.spec(), count(network, side, network.space.in_channels)
        return Count(
            found["params"],
            found["macs"],
            spec.get("channels"),
            spec.get("cells"),
            spec["classes"],
            side,
        )

    def benchmark(self) -> ModuleType | None:
        """Return the benchmark table with all networks of its space, or None."""
        if not self.space_options:
            return tabular.benchmark_of(self.space_name)
        from archgrad.run import watchers

        return watchers.benchmark(self.space)


def subject(what: str, space: str | None = None) -> Subject:
    """Read a genotype and everything that is known about it.

    Args:
        what: A run folder, a file with a genotype, a genotype in any notation, or the name of a
            published one.
        space: The name of its space, by default that of the run or of the shape of its cells.

    Raises:
        ValueError: There is no such folder or file, or the text is no genotype.
    """
    path = Path(what)
    # Unlike Path.is_dir, this raises no error if a genotype is too long for the name of a file.
    if os.path.isdir(what):
        folder = RunFolder(path)
        settings = folder.read_settings()
        genotype = folder.read_genotype()
        about = named(space) if space else space_in_settings(settings)
        return Subject(
            genotype,
            *about,
            image_size(folder),
            retraining_settings(folder, settings),
            folder,
            budget_results=folder.read_budget_results(),
        )
    if not os.path.isfile(what):
        if os.path.exists(what):
            files.check_plain(path)  # raises, because it is a device or a pipe
        if os.sep in what or path.suffix == ".json":
            raise ValueError(f"there is no run folder and no file {what}")
        genotype = Genotype.parse(what)
        return Subject(genotype, *named(space or usual_space(genotype)))
    genotype, searched, budget_results, judgement = from_file(path)
    if searched is None:
        return Subject(genotype, *named(space or usual_space(genotype)), judgement=judgement)
    settings = searched.read_settings()
    return Subject(
        genotype,
        *space_in_settings(settings),
        image_size(searched),
        settings.retrain,
        searched,
        path,
        budget_results,
        judgement,
    )


def check_size(size: int) -> None:
    """Raise a ValueError if the side of images is below 8 pixels or above `bounds.SIDE`."""
    if not 8 <= size <= SIDE:
        raise ValueError(
            f"size must be at least 8, not {size}"
            if size < 8
            else f"size must be at most {SIDE}, not {size}"
        )


def named(space: str, **options: Any) -> tuple[str, Mapping[str, Any]]:
    """Return a space and its options, or raise a ValueError if there is no such space or option."""
    catalogue.check_space(space, options)
    return space, options


def space_in_settings(settings: SearchConfig) -> tuple[str, Mapping[str, Any]]:
    """Return the space of a search and its options."""
    return named(
        **{
            "space" if option == "name" else option: value
            for option, value in settings.space.items()
        }
    )


def image_size(folder: RunFolder) -> int:
    """Return the side of the images of a run, in pixels."""
    return folder.read_images()["preprocess"]["size"]


def other_shape_remark(
    found: Subject, channels: int | None, cells: int | None, size: int
) -> str | None:
    """Return a remark if a network has another shape than the one its budgets were counted at.

    Args:
        found: The genotype.
        channels: The width of the network that is built, None for a module of the user's own.
        cells: Its depth, None for a chain or such a module.
        size: The side of its images, in pixels.
    """
    if not found.budget_results or found.run is None:
        return None

    def shape(costs: budgets.Costs) -> str:
        spec = costs.retrainable_space().spec()
        deep = f"{spec['cells']} cells, " if "cells" in spec else ""
        wide = f"{spec['channels']} channels, " if "channels" in spec else ""
        return f"{wide}{deep}{costs.size}x{costs.size} images"

    costs = budgets.retrainable_costs(found.run.read_settings(), found.space, found.size)
    recipe = {**costs.recipe, "channels": channels, "cells": cells}
    counted, built = shape(costs), shape(replace(costs, size=size, recipe=recipe))
    names = " and ".join(one.cost for one in found.budget_results)
    return (
        f"the budget of {names} was counted at {counted}, so it does not hold for {built}"
        if counted != built
        else None
    )


def retraining_settings(folder: RunFolder, settings: SearchConfig) -> Mapping[str, Any]:
    """Return the retraining settings of the trained network, or those of the search without one."""
    network = network_folder(folder.path)
    return asdict(read_card(network).settings) if (network / CARD).exists() else settings.retrain


def from_file(
    path: Path,
) -> tuple[Genotype, RunFolder | None, Sequence[BudgetResult], Judgement | None]:
    """Read a genotype from a text file, a run's ``genotype.json``, or a file of `archgrad derive`.

    Returns:
        The genotype, its run, its costs beside its budgets, and the judgement of its search. All
        but the genotype may be missing.

    Raises:
        ValueError: The file holds no genotype, or its run is missing.
    """
    text = files.read_text(path, typed_json.LIMIT)
    content = _object(text)
    if "genotype" not in content:
        try:
            return Genotype.parse(text), None, [], None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    try:
        found = typed_json.check(content, GenotypeFile)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    genotype, searched = Genotype.from_json(found["genotype"]), found.get("run")
    if searched is not None and not os.path.isfile(RunFolder(Path(searched)).config):
        raise ValueError(
            f"{path} was derived from {searched}, which is missing now: "
            'give the genotype that stands in it as "text"'
        )
    return (
        genotype,
        RunFolder(Path(searched)) if searched is not None else None,
        tuple(map(BudgetResult.from_json, found.get("budget", []))),
        judgement_of(found),
    )


def _object(text: str) -> Mapping[str, Any]:
    """Return the JSON object in a text, an empty one if there is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def judgement_of(content: GenotypeFile) -> Judgement | None:
    """Return the judgement in the content of a file, if it has one."""
    if "searched" not in content:
        return None
    return Judgement.from_json(content["searched"])


def usual_space(genotype: Genotype) -> str:
    """Return the name of the space to which cells or layers of this shape belong.

    Raises:
        ValueError: The space lacks one of the primitives, and another space has them all. Or the
            genotype is one of a module of the user's own.
    """
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
                f"space {name} has no primitive {named}, but space {homes[0]} has: "
                f"add --space {homes[0]}"
            )
    return name


def _space_of_shape(genotype: Genotype) -> str:
    if [cell.group for cell in genotype.cells] == [CELL]:
        return "nasbench201"
    if chain.stages(genotype.cells):
        return "nasbenchmacro" if chain.is_macro(genotype.cells) else "mbconv"
    if decisions.are_decisions(genotype.cells):
        raise ValueError(
            f"the genotype {genotype} is one of a module of your own: name the module by "
            "--space package.module:Name"
        )
    return "darts"
