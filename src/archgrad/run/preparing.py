"""All that a search needs, made from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from archgrad import data, methods, options, plugins, seeds, spaces, terminal
from archgrad.arch.space import Space, check_cells
from archgrad.cost.limits import Limits
from archgrad.data import Data, Dataset, places, stem_for
from archgrad.data.parts import NONE
from archgrad.devices import device_named
from archgrad.methods.budget import budget
from archgrad.observers import interrupts
from archgrad.retraining.settings import retrain_settings
from archgrad.run import budgets, processors, results
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder
from archgrad.run.sections import LOADING, DataSettings
from archgrad.searching import checkpoint, loop, rate
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.types import Plan, State
from archgrad.storage import records
from archgrad.terminal import Say


@dataclass(frozen=True)
class Prepared:
    """All that a search needs, and the settings it follows from, resolved."""

    config: SearchConfig
    method: Method
    data: Data
    costs: budgets.Costs

    @property
    def epochs(self) -> int:
        return self.config.search.epochs or self.method.base.defaults.epochs


def recorded(folder: RunFolder, say: Say, *, previous: bool = False) -> tuple[Prepared, State]:
    """A run that began, ready to go on: from its checkpoint, or from its start where there is none; ``previous``: from the checkpoint before
    the last. ValueError if its images have changed, or its metrics or decisions are damaged."""
    settings = folder.settings()
    was = folder.images()

    def expect(images: Dataset) -> None:
        if not data.same_images(was["fingerprint"], images):
            how = data.difference(was["preprocess"], images)
            raise ValueError(
                f"the images in {settings.data.path} have changed since {folder.path} began ({how}): start a new search"
            )

    prepared = prepare(settings, say, folder.latencies, expect)
    device = prepared.config.device
    if (saved := checkpoint.wanted(folder.checkpoint, previous)).exists():
        state = checkpoint.load(saved, prepared.method, device)
        loop.check_plan(state, prepared.epochs, prepared.data.steps("train"))
        state.recompute = prepared.config.search.recompute
    else:
        state = begin(prepared)
    records.kept(folder.metrics, results.epochs_of(state), *records.SEARCH)
    records.first(folder.decisions, len(state.decisions))
    return prepared, state


def prepare(
    config: SearchConfig,
    say: Say = terminal.say,
    latencies: Path | None = None,
    expect: Callable[[Dataset], None] = lambda images: None,
) -> Prepared:
    """Loads the images, builds space and method to suit them, and resolves every setting. Sets torch's threads and determinism. ``expect``
    raises ValueError for images that it did not expect."""
    if config.data.path is None:
        raise ValueError(
            "which images? name them by --data: a folder, a .parquet or .csv file, a hub name such as cifar10, or digits"
        )
    device = set_up(config)
    build(config)  # what is wrong without any image should be said before they are decoded
    given = config.data
    images = data.load(**loading(given), report=say)
    expect(images)
    interrupts.check()
    space = space_of(config.model_copy(update={"space": fitted(config, images)}))
    costs = budgets.costs_of(config, space, images.size, latencies)
    costs.networks()  # what is to be retrained should not be refused only then
    method = build(config, space, limiting(config, costs.limits()))
    reading = {
        name: getattr(given, name)
        for name in ("share", "augment", "cutout", "flip", "jitter", "workers")
    }
    batch = config.search.batch or space.defaults.batch
    if config.threads is None:
        torch.set_num_threads(processors.threads(batch, space.spec()["channels"], images.size))
    halves = data.search_data(
        images, batch=batch, seed=config.seed, device=device, limit=config.search.limit, **reading
    )
    for note in halves.notes:
        say(note)
    augment = halves.splits["train"].augment
    config = resolve(
        config, method, Plan(config.search.epochs or space.defaults.epochs, halves.steps())
    )
    resolved = config.model_copy(
        update={
            "device": device,
            "threads": torch.get_num_threads(),
            "data": settled(given).model_copy(
                update={
                    "size": images.size,
                    "flip": augment and augment.flip,
                    "val": images.validation or no_validation(given),
                }
            ),
            "space": {
                "name": space.name,
                **{name: value for name, value in space.spec().items() if value is not None},
            },
        }
    )
    return Prepared(resolved, method, halves, costs)


def build(config: SearchConfig, space: Space | None = None, limited: Patch | None = None) -> Method:
    """The method over its space, checked against the length of the search; nothing is loaded. ValueError for what cannot be."""
    plugins.load(config.plugins)
    space = space or space_of(config)
    given: dict[str, Any] = {**config.methods, "weights": config.weights, "alphas": config.alphas}
    method = methods.method(config.method, space, budget=limited, **given)
    epochs = config.search.epochs or space.defaults.epochs
    method.check(epochs)
    config.stop.check(method, epochs)
    method.check_space()
    return method


def check_depths(config: SearchConfig) -> None:
    """ValueError where the supernet of a new search, or the network that would be retrained, has too few cells for all edge groups."""
    space = space_of(config)
    check_cells(space, "--space.cells")
    check_cells(
        space.evaluation(cells=retrain_settings(space, config.retrain).cells), "--retrain.cells"
    )


def limiting(config: SearchConfig, limits: Limits) -> Patch | None:
    """What keeps a search to these limits, as the settings have it; None where there are none."""
    return budget(limits, rate=config.budget.rate) if limits else None


def resolve(config: SearchConfig, method: Method, plan: Plan | None = None) -> SearchConfig:
    """Every setting that no image decides, written out: length, batch, both optimizers, the options of each method. An automatic rate of the
    alphas is a number where the ``plan`` is known, of which images decide the steps."""
    usual = method.base.defaults
    length = {
        "epochs": config.search.epochs or usual.epochs,
        "batch": config.search.batch or usual.batch,
    }
    sections = {}
    for name in config.method.split("+"):
        entry = methods.METHODS[name]
        usual_options = {
            key: field.default
            for key, field in options.model(entry.patch).model_fields.items()
            if field.default is not None
        }
        sections[name] = usual_options | entry.options(
            method.base.name, config.methods.get(name, {})
        )
    own = {"order": method.order} if "order" in method.stepper.reads else {}
    own |= (
        {"hypergradient": "first_order"}
        if "hypergradient" in method.stepper.reads - method.patch.sets()
        else {}
    )
    sections["darts"] = own | sections.get("darts", {}) | config.methods.get("darts", {})
    return config.model_copy(
        update={
            "search": config.search.model_copy(update=length),
            "weights": asdict(method.weights),
            "alphas": asdict(method.alpha_settings(plan)) if plan else rate.as_said(method),
            "methods": sections,
            "plugins": plugins.recorded(config.plugins, methods=sections, space=method.base.name),
        }
    )


def space_of(config: SearchConfig) -> Space:
    """The space as the settings name it. ValueError for an unknown one, or an option it does not have."""
    given = {name: value for name, value in config.space.items() if name != "name"}
    plugins.find()
    if config.space["name"] not in spaces.SPACES:
        raise plugins.unknown("space", config.space["name"], spaces.SPACES)
    try:
        return spaces.space(config.space["name"], **given)
    except ValueError as error:
        raise ValueError(f"space {config.space['name']}: {error}") from None


def set_up(config: SearchConfig) -> str:
    """The device by name; torch's threads and determinism as the settings say."""
    device = device_named(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        seeds.deterministic()
    return device


def begin(prepared: Prepared) -> State:
    """The state before the first step. ValueError for what the method cannot remember in so long a search of so many images."""
    c = prepared.config
    more = {"precision": c.search.precision, "recompute": c.search.recompute}
    return loop.begin(
        prepared.method, prepared.data, prepared.epochs, seed=c.seed, device=c.device, **more
    )


def fitted(config: SearchConfig, images: Dataset) -> dict[str, Any]:
    """The user's space with what follows from the images: classes, channels, stem. ValueError where the two disagree."""
    given = dict(config.space)
    for name, has in (("classes", len(images.classes)), ("in_channels", images.in_channels)):
        if given.setdefault(name, has) != has:
            raise ValueError(
                f"space.{name} is {given[name]}, but {images.name} has {has}: leave it out"
            )
    stems = spaces.SPACES[space_of(config).name].stems
    return ({"stem": stem_for(images.size, stems)} if stems else {}) | given


def loading(given: DataSettings) -> dict[str, Any]:
    """Arguments of `archgrad.data.loading`, those that were said."""
    return {name: value for name in LOADING if (value := getattr(given, name)) is not None}


def no_validation(given: DataSettings) -> str | None:
    """What a run without validation images records of them: "none" where that was said, so that its settings do not take them again."""
    return given.val if given.val == NONE else None


def settled(given: DataSettings) -> DataSettings:
    """Files and folders by their whole paths, so that a run can be resumed from anywhere; hub names, split names and ``digits`` as they are
    (a test set in this very folder is told from a split by ``./``)."""
    other = {
        "test": given.test and places.settled_split(given.test),
        "val": given.val and places.settled_split(given.val),
    }
    cache = given.cache and given.cache.expanduser().resolve()
    return given.model_copy(
        update={"path": places.settled(given.path or ""), **other, "cache": cache}
    )
