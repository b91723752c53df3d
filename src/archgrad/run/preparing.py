"""Preparation of a search: its images, space, method and settings, made from what a user gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from archgrad import data, methods, plugins, seeds, spaces, terminal
from archgrad.arch.space import Space, check_cells
from archgrad.data import Data, Dataset, places, stem_for
from archgrad.data.parts import NONE
from archgrad.data.reading import SKIP
from archgrad.devices import device_named
from archgrad.methods.budget import budget
from archgrad.observers import interrupts
from archgrad.retraining.settings import retrain_settings
from archgrad.run import budgets, processors, results
from archgrad.run.budgets import Costs
from archgrad.run.checking import check_named
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder
from archgrad.run.sections import LOADING, DataSettings
from archgrad.searching import checkpoint, loop, rate
from archgrad.searching.method import Method
from archgrad.searching.types import Plan, State
from archgrad.storage import records
from archgrad.terminal import Say

READING = ("share", "augment", "cutout", "flip", "jitter", "workers")
"""The settings of the images that are arguments of `archgrad.data.search_data`."""


@dataclass(frozen=True)
class Prepared:
    """The parts of a search, ready to begin or to go on.

    Attributes:
        config: The settings, each with its final value.
        method: The method over its space, with its budgets.
        data: The images, split and read.
        costs: The costs of the networks of the space.
    """

    config: SearchConfig
    method: Method
    data: Data
    costs: Costs

    @property
    def epochs(self) -> int:
        """Return the number of epochs of the search."""
        return self.config.search.epochs or self.method.base.defaults.epochs


def prepare_recorded(
    folder: RunFolder, say: Say, *, previous: bool = False
) -> tuple[Prepared, State]:
    """Prepare a run that began to go on.

    Args:
        folder: The run folder.
        say: Takes each line about the images.
        previous: If true, the state comes from the checkpoint before the last one.

    Returns:
        The parts of the search and its state: that of the checkpoint, or the first state if the
        run has no checkpoint yet.

    Raises:
        ValueError: The images have changed, or a checkpoint, the metrics or the decisions are
            damaged.
    """
    settings = folder.read_settings()
    was = folder.read_images()

    def expect(images: Dataset) -> None:
        if not data.same_images(was["fingerprint"], images):
            how = data.difference(was["preprocess"], images)
            raise ValueError(
                f"the images in {settings.data.path} have changed since {folder.path} began "
                f"({how}): start a new search"
            )

    prepared = prepare(settings, say, folder.latencies, expect, flag="")
    device = prepared.config.device
    if (saved := checkpoint.checkpoint_to_resume(folder.checkpoint, previous)).exists():
        state = checkpoint.load(saved, prepared.method, device)
        loop.check_plan(state, prepared.epochs, prepared.data.steps("train"))
        state.recompute = prepared.config.search.recompute
    else:
        state = begin(prepared)
    records.read_epochs(folder.metrics, results.count_ended_epochs(state), *records.SEARCH)
    records.read_decisions(folder.decisions, len(state.decisions))
    return prepared, state


def prepare(
    config: SearchConfig,
    say: Say = terminal.say,
    latencies: Path | None = None,
    expect: Callable[[Dataset], None] = lambda images: None,
    flag: str = SKIP,
) -> Prepared:
    """Read the images, build the method over a space that fits them, and resolve every setting.

    This sets torch's number of threads and its determinism.

    Args:
        config: The settings of the search.
        say: Takes each line about the images.
        latencies: The file in which the run folder keeps its latency table, if it has one.
        expect: Raises a ValueError if the images are not those of the run.
        flag: Flag that leaves out unreadable images, for messages; an empty text where the images
            must be those of the run.

    Returns:
        The parts of the search.

    Raises:
        ValueError: A setting is wrong, or the images cannot be read.
    """
    check_named(config.data)
    device = set_up(config)
    check_settings(config)
    images = data.load(**loading_arguments(config.data), report=say, flag=flag)
    expect(images)
    interrupts.check_requests()
    space = fitted_space(config, images)
    costs = budgets.retrainable_costs(config, space, images.size, latencies)
    costs.retrainable_space()  # refuses a network that cannot be retrained before the search begins
    method = build(config, space, costs)
    halves = _halves(config, space, images, device)
    for note in halves.notes:
        say(note)
    plan = Plan(config.search.epochs or space.defaults.epochs, halves.steps())
    resolved = resolve(config, method, plan).model_copy(
        update={
            "device": device,
            "threads": torch.get_num_threads(),
            "data": _resolved_data(config.data, images, halves),
            "space": {
                "name": space.name,
                **{name: value for name, value in space.spec().items() if value is not None},
            },
        }
    )
    return Prepared(resolved, method, halves, costs)


def _halves(config: SearchConfig, space: Space, images: Dataset, device: str) -> Data:
    """Split the images for the weights and the alphas, and set torch's number of threads."""
    batch = config.search.batch or space.defaults.batch
    if config.threads is None:
        torch.set_num_threads(processors.threads(batch, width_of(space), images.size))
    return data.search_data(
        images,
        batch=batch,
        seed=config.seed,
        device=device,
        limit=config.search.limit,
        **{name: getattr(config.data, name) for name in READING},
    )


def _resolved_data(given: DataSettings, images: Dataset, halves: Data) -> DataSettings:
    augment = halves.splits["train"].augment
    return with_absolute_paths(given).model_copy(
        update={
            "size": images.size,
            "flip": augment and augment.flip,
            "val": images.validation or no_validation(given),
        }
    )


def check_settings(config: SearchConfig) -> None:
    """Refuse wrong settings of the method, the space and the length before any image is read.

    The method is built here and thrown away. `prepare` has to build it a second time, because the
    classes and channels of its space, and so the costs that its budgets limit, are known only
    after the images are read.

    Raises:
        ValueError: A setting is unknown, out of range, or does not fit the others.
    """
    build(config)


def build(config: SearchConfig, space: Space | None = None, costs: Costs | None = None) -> Method:
    """Build the method of a search, and check it against the length of the search.

    Args:
        config: The settings of the search.
        space: The space that fits the images, by default the space as the settings name it.
        costs: The costs that the budgets limit. Without them the method has no budget.

    Returns:
        The method. No image, checkpoint or file is read, except a latency table.

    Raises:
        ValueError: A setting is unknown, out of range, or does not fit the others.
    """
    plugins.load(config.plugins)
    space = space or space_from(config)
    limits = costs.limits() if costs else ()
    limited = budget(limits, rate=config.budget.rate) if limits else None
    given: dict[str, Any] = {**config.methods, "weights": config.weights, "alphas": config.alphas}
    method = methods.method(config.method, space, budget=limited, **given)
    epochs = config.search.epochs or space.defaults.epochs
    method.check(epochs)
    config.stop.check(method, epochs)
    method.check_space()
    return method


def check_depths(config: SearchConfig) -> None:
    """Check that the supernet and the network to retrain have enough cells for all edge groups.

    Raises:
        ValueError: One of them has too few cells.
    """
    space = space_from(config)
    check_cells(space, "--space.cells")
    recipe = retrain_settings(space, config.retrain)
    check_cells(space.evaluation(cells=recipe.cells), "--retrain.cells")


def resolve(config: SearchConfig, method: Method, plan: Plan | None = None) -> SearchConfig:
    """Return the settings with the value of each one that does not depend on an image.

    These are the length, the batch size, both optimizers and the options of each method.

    Args:
        config: The settings as given.
        method: The method that `build` made of them.
        plan: The length of the search. With it an automatic learning rate of the alphas becomes a
            number, because the images decide the number of steps.
    """
    defaults = method.base.defaults
    length = {
        "epochs": config.search.epochs or defaults.epochs,
        "batch": config.search.batch or defaults.batch,
    }
    sections = _options_by_method(config, method)
    return config.model_copy(
        update={
            "search": config.search.model_copy(update=length),
            "weights": asdict(method.weights),
            "alphas": asdict(method.alpha_settings(plan))
            if plan
            else rate.settings_before_fit(method),
            "methods": sections,
            "plugins": plugins.to_record(config.plugins, methods=sections, space=method.base.name),
        }
    )


def _options_by_method(config: SearchConfig, method: Method) -> dict[str, dict[str, Any]]:
    """Return the options of each method, and those of the step under ``darts``."""
    sections = {
        origin.name: {name: value for name, value in origin.options.items() if value is not None}
        for origin in method.patch.origins
    }
    step: dict[str, Any] = {}
    if "order" in method.stepper.reads:
        step["order"] = method.order
    if "hypergradient" in method.stepper.reads - method.patch.set_fields():
        step["hypergradient"] = "first_order"
    sections["darts"] = step | config.methods.get("darts", {})
    return sections


def space_from(config: SearchConfig) -> Space:
    """Return the space that the settings name.

    Raises:
        ValueError: There is no such space, or it does not have an option or its value.
    """
    name = config.space["name"]
    spaces.entry(name)
    try:
        return spaces.space_of(config.space)
    except ValueError as error:
        raise ValueError(f"space {name}: {error}") from None


def set_up(config: SearchConfig) -> str:
    """Set torch's number of threads and its determinism, and return the name of the device."""
    device = device_named(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        seeds.use_deterministic_algorithms()
    return device


def begin(prepared: Prepared) -> State:
    """Return the state before the first step.

    Raises:
        ValueError: The memory of the method is too large for so many epochs or images.
    """
    config = prepared.config
    return loop.initial_state(
        prepared.method,
        prepared.data,
        prepared.epochs,
        seed=config.seed,
        device=config.device,
        precision=config.search.precision,
        recompute=config.search.recompute,
    )


def fit_space_settings(config: SearchConfig, images: Dataset) -> dict[str, Any]:
    """Return the settings of the space, with the classes, channels, size and stem of the images.

    Raises:
        ValueError: The settings name other classes, channels or another size than the images have.
    """
    has = {"classes": len(images.classes), "in_channels": images.in_channels}
    if "size" in space_from(config).spec():
        has["size"] = images.size
    for name, value in has.items():
        if config.space.get(name, value) != value:
            raise ValueError(
                f"space.{name} is {config.space[name]}, but {images.name} has {value}: leave it out"
            )
    stems = spaces.entry(config.space["name"]).stems
    return ({"stem": stem_for(images.size, stems)} if stems else {}) | config.space | has


def fitted_space(config: SearchConfig, images: Dataset) -> Space:
    """Return the space of the settings of `fit_space_settings`.

    Raises:
        ValueError: A setting does not fit, or the network does not return a number for each class.
    """
    fitted = fit_space_settings(config, images)
    space = space_from(config.model_copy(update={"space": fitted}))
    wanted = (1, fitted["classes"])
    returned = getattr(space, "output", wanted)  # only a module of the user's may return others
    if returned not in (None, wanted):
        raise ValueError(
            f"space {space.name}: the network returns {returned} for one image, and "
            f"{images.name} has {fitted['classes']} classes: let it take the argument classes, and "
            f"return {wanted}"
        )
    return space


def width_of(space: Space) -> int:
    """Return the channels of the first feature map; a module of the user's does not tell them."""
    found: int = space.spec().get("channels", processors.USUAL)
    return found


def loading_arguments(given: DataSettings) -> dict[str, Any]:
    """Return the arguments of `archgrad.data.loading` that the settings name."""
    return {name: value for name in LOADING if (value := getattr(given, name)) is not None}


def no_validation(given: DataSettings) -> str | None:
    """Return the value that a run without validation images records for them.

    It is "none" if a user chose that, so that a repeated search takes none again.
    """
    return NONE if given.val == NONE else None


def with_absolute_paths(given: DataSettings) -> DataSettings:
    """Return the settings with absolute paths, so that a run can be resumed from any folder.

    Names of hub sets, names of splits and ``digits`` stay as they are. A test set in the current
    folder needs a ``./`` in front, or it is taken for a split.
    """
    return given.model_copy(
        update={
            "path": places.absolute(given.path or ""),
            "test": given.test and places.absolute_split(given.test),
            "val": given.val and places.absolute_split(given.val),
            "cache": given.cache and given.cache.expanduser().resolve(),
        }
    )
