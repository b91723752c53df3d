"""A search from its settings to a finished run folder, and on from wherever it stopped. `archgrad.search` is the loop alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.filesize import decimal

from archgrad import (
    benchmarks,
    checkpoint,
    costing,
    data,
    interrupts,
    loop,
    methods,
    options,
    places,
    plugins,
    processors,
    rate,
    records,
    repairing,
    results,
    seeds,
    spaces,
    terminal,
    watching,
)
from archgrad import config as configs
from archgrad.alpha_record import AlphaRecord
from archgrad.arch import Genotype
from archgrad.budget import budget
from archgrad.config import LOADING, DataSettings, SearchConfig
from archgrad.data import Data, Dataset, stem_for
from archgrad.data.parts import NONE
from archgrad.devices import device_named
from archgrad.diagnostics.sharpness import MOVED
from archgrad.errors import command, counted
from archgrad.folder import RunFolder, default_out, environment
from archgrad.interrupts import stop_requests
from archgrad.limits import Limits
from archgrad.loop import Found, Observer
from archgrad.observers import Checkpoints, Decisions, Metrics, Reading, Say, say_on
from archgrad.patch import Patch
from archgrad.probes import Curvature, Entropies, Gap, Probe, Ranking, Sharpness
from archgrad.progress import Bar, Estimate, Timed
from archgrad.retraining.settings import retrain_settings
from archgrad.search_method import Method
from archgrad.search_space import Space, check_cells
from archgrad.state import Plan, State
from archgrad.stopping import early


@dataclass(frozen=True)
class Prepared:
    """All that a search needs, and the settings it follows from, resolved."""

    config: SearchConfig
    method: Method
    data: Data
    costs: costing.Costs

    @property
    def epochs(self) -> int:
        return self.config.search.epochs or self.method.base.defaults.epochs


def search(config: SearchConfig | Mapping[str, Any], *, console: Console | None = None) -> Found:
    """A whole search into a new run folder (``config.out``, by default `default_out`). Settings may be a dict, as a file has them.

    ValueError for settings that cannot be, and for a folder that holds anything; `Interrupted` after Ctrl-C, with all saved.
    """
    config = config if isinstance(config, SearchConfig) else configs.read(("", config))
    console = console or terminal.console(soft_wrap=True)
    folder = RunFolder(config.out or default_out(config))
    folder.check_free()
    check_depths(config)
    with watching.life(console):
        prepared = prepare(config, say_on(console))
        state = begin(prepared)  # before anything is written: it may be refused
    with folder.locked():
        folder.begin(environment(prepared.config.device), prepared.data.summary(), prepared.costs.record, prepared.config.to_yaml())
        return _run(prepared, folder, state, console)


def resume(
    path: Path | str, *, reopen: bool = False, repair: bool = False, previous: bool = False, console: Console | None = None
) -> Found | None:
    """Goes on exactly where the run in ``path`` stopped; None if it is finished already.

    Args:
        path: The run folder.
        reopen: `archgrad finish` ended it, and its result is removed as soon as it is sure that the search can go on.
        repair: Damaged metrics and decisions are mended first (`archgrad.repairing`), those of a finished run too.
        previous: It goes on from the checkpoint before the last, which becomes the last one.
        console: Where it says how far it is.

    Returns:
        What was found.

    Raises:
        ValueError: There is no run, its checkpoint or its metrics are damaged, its data or plan have changed, or there is nothing to reopen.
        Interrupted: It was asked to stop; everything is saved.
    """
    console = console or terminal.console(soft_wrap=True)
    folder = RunFolder(Path(path))
    folder.settings()
    if reopen:
        folder.check_reopen()
    elif folder.genotype.exists() and not repair:
        return None
    with folder.locked():
        if repair:
            repairing.mend(folder, say_on(console), previous=previous)
        if folder.genotype.exists() and not reopen:
            return None
        with watching.life(console):
            prepared, state = recorded(folder, say_on(console), previous=previous)
        if previous:
            checkpoint.go_back(folder.checkpoint)
        if reopen:
            folder.reopen()
        return _run(prepared, folder, state, console)


def recorded(folder: RunFolder, say: Say, *, previous: bool = False) -> tuple[Prepared, State]:
    """A run that began, ready to go on: from its checkpoint, or from its start where there is none; ``previous``: from the checkpoint before
    the last. ValueError if its images have changed, or its metrics or decisions are damaged."""
    settings = folder.settings()
    was = folder.images()

    def expect(images: Dataset) -> None:
        if not data.same_images(was["fingerprint"], images):
            how = data.difference(was["preprocess"], images)
            raise ValueError(f"the images in {settings.data.path} have changed since {folder.path} began ({how}): start a new search")

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
    config: SearchConfig, say: Say = terminal.say, latencies: Path | None = None, expect: Callable[[Dataset], None] = lambda images: None
) -> Prepared:
    """Loads the images, builds space and method to suit them, and resolves every setting. Sets torch's threads and determinism. ``expect``
    raises ValueError for images that it did not expect."""
    if config.data.path is None:
        raise ValueError("which images? name them by --data: a folder, a .parquet or .csv file, a hub name such as cifar10, or digits")
    device = set_up(config)
    build(config)  # what is wrong without any image should be said before they are decoded
    given = config.data
    images = data.load(**loading(given), report=say)
    expect(images)
    interrupts.check()
    space = space_of(config.model_copy(update={"space": fitted(config, images)}))
    costs = costing.costs_of(config, space, images.size, latencies)
    costs.networks()  # what is to be retrained should not be refused only then
    method = build(config, space, limiting(config, costs.limits()))
    reading = {name: getattr(given, name) for name in ("share", "augment", "cutout", "flip", "jitter", "workers")}
    batch = config.search.batch or space.defaults.batch
    if config.threads is None:
        torch.set_num_threads(processors.threads(batch, space.spec()["channels"], images.size))
    halves = data.search_data(images, batch=batch, seed=config.seed, device=device, limit=config.search.limit, **reading)
    for note in halves.notes:
        say(note)
    augment = halves.splits["train"].augment
    config = resolve(config, method, Plan(config.search.epochs or space.defaults.epochs, halves.steps()))
    resolved = config.model_copy(
        update={
            "device": device,
            "threads": torch.get_num_threads(),
            "data": settled(given).model_copy(
                update={"size": images.size, "flip": augment and augment.flip, "val": images.validation or no_validation(given)}
            ),
            "space": {"name": space.name, **{name: value for name, value in space.spec().items() if value is not None}},
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
    check_cells(space.evaluation(cells=retrain_settings(space, config.retrain).cells), "--retrain.cells")


def limiting(config: SearchConfig, limits: Limits) -> Patch | None:
    """What keeps a search to these limits, as the settings have it; None where there are none."""
    return budget(limits, rate=config.budget.rate) if limits else None


def resolve(config: SearchConfig, method: Method, plan: Plan | None = None) -> SearchConfig:
    """Every setting that no image decides, written out: length, batch, both optimizers, the options of each method. An automatic rate of the
    alphas is a number where the ``plan`` is known, of which images decide the steps."""
    usual = method.base.defaults
    length = {"epochs": config.search.epochs or usual.epochs, "batch": config.search.batch or usual.batch}
    sections = {}
    for name in config.method.split("+"):
        entry = methods.METHODS[name]
        usual_options = {key: field.default for key, field in options.model(entry.patch).model_fields.items() if field.default is not None}
        sections[name] = usual_options | entry.options(method.base.name, config.methods.get(name, {}))
    own = {"order": method.order} if "order" in method.stepper.reads else {}
    own |= {"hypergradient": "first_order"} if "hypergradient" in method.stepper.reads - method.patch.sets() else {}
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
    return loop.begin(prepared.method, prepared.data, prepared.epochs, seed=c.seed, device=c.device, **more)


def _run(prepared: Prepared, folder: RunFolder, state: State, console: Console) -> Found:
    config, say = prepared.config, say_on(console)
    how = command("resume", folder.path)
    say(headline(prepared, folder, state))
    past = results.past_of(folder, state)
    timing = watching.timed(config, prepared.method, state, prepared.data, [*curvature(config), *diagnostics(config)], past)
    with stop_requests() as stopping, watching.life(console) as alive:
        bar = Bar(console, timing, alive)
        checkpoints = Checkpoints(folder.checkpoint, seconds=config.search.checkpoint_seconds, stopping=stopping, how=how)
        measured = [Timed(replace(probe, between=checkpoints.measuring), timing, alive) for probe in curvature(config)]
        images = Reading(prepared.data, checkpoints.measuring, checkpoints.tuning)
        watchers: tuple[Observer, ...] = (
            *measured,  # which the next may read
            *early(config.stop, prepared.method, prepared.epochs, past),  # before what measures after the last epoch
            *measured,  # again: another rule may have ended the search with an epoch that it had passed over
            *(Timed(probe, timing, alive) for probe in diagnostics(config)),  # before the metrics, which get their columns
            Metrics(folder.metrics, epoch=results.epochs_of(state)),  # before the checkpoint: a line too many is cut, one too few is lost
            AlphaRecord(folder.alphas, epoch=results.epochs_of(state)),
            Decisions(folder.decisions, taken=len(state.decisions)),
            checkpoints,
            timing,  # behind all that takes time
            bar,
            Estimate(timing, say, partial(watching.shorter_searches, config, prepared.data, bool(past)), folder.expect),
        )
        try:
            found = loop.search(prepared.method, images, prepared.epochs, state=state, observers=watchers)
            alive.at("cost and accuracy of what was seen", timing.left(found.state).seconds)
            points = results.seen(prepared, folder, found, images)
            checkpoints.measuring()  # a request that came meanwhile
        finally:
            bar.close()
    results.write(prepared, folder, found, points)
    return found


def diagnostics(config: SearchConfig) -> tuple[Probe, ...]:
    """The measurements that are on, `curvature` apart."""
    s = config.diagnostics
    over = tuple(MOVED) if s.sharpness_over == "all" else (s.sharpness_over,)
    assert config.search.batch is not None  # resolved
    sharpness = Sharpness(s.sharpness_every, over, s.sharpness_rho, s.sharpness_steps, s.sharpness_batches, config.search.batch)
    gap, entropies = Gap(s.gap_every, s.gap_images), Entropies(s.entropy_every)
    return (*(probe for on, probe in ((s.gap, gap), (s.sharpness, sharpness), (s.entropy, entropies)) if on), *ranking(config))


def curvature(config: SearchConfig) -> tuple[Curvature, ...]:
    """The one probe that a rule for stopping reads."""
    s = config.diagnostics
    assert config.search.batch is not None  # resolved
    wanted = s.curvature or config.stop.eigenvalue is not None
    return (Curvature(s.curvature_every, s.curvature_batches, config.search.batch),) if wanted else ()


def ranking(config: SearchConfig) -> tuple[Ranking, ...]:
    """The one probe that says beforehand what it costs."""
    s = config.diagnostics
    if not s.ranking:
        return ()
    known = true_accuracies(space_of(config)) if s.ranking_table else {}
    return (Ranking(s.ranking_every, s.ranking_architectures, s.ranking_images, known),)


def benchmark(space: Space) -> ModuleType | None:
    """The table that knows all networks of this space; None where none does."""
    usual = spaces.space(space.name).groups
    known = all(set(edge.primitives) <= {*usual[name].edges[0].primitives} for name, group in space.groups.items() for edge in group.edges)
    return benchmarks.lookup(space.name) if known else None


def true_accuracies(space: Space) -> dict[str, Callable[[Genotype], float]]:
    """CIFAR-10 test accuracy (percent) of a genotype, where a table knows all of the space; empty where none does."""
    table = benchmark(space)
    return {"cifar10": lambda genotype: float(table.query(genotype)["cifar10_test"])} if table else {}


def headline(prepared: Prepared, folder: RunFolder, state: State) -> str:
    """What is about to run, and what it remembers."""
    config, images = prepared.config, prepared.data
    counts = {name: len(split.places) for name, split in images.splits.items()}
    assert config.threads is not None  # `prepare` decides it
    threads = counted(config.threads, "thread")
    resumed = state.epoch or state.step
    lengths = {prepared.method.stepper.steps(prepared.method, state.plan, epoch) for epoch in range(prepared.epochs)}
    each = " or ".join(map(str, sorted(lengths)))  # a method may have epochs of several lengths
    place = f"from epoch {state.epoch + 1}, step {state.step}" if resumed else f"{counted(prepared.epochs, 'epoch')} of {each} steps"
    sizes = {name: memory.size() for name, memory in state.memory.items()}
    return (
        f"split: {counts['train']:,} images train weights, {counts['val']:,} move alphas, {counts['test']:,} are for testing\n"
        f"{config.method} in {config.space['name']}: {place}, batch {config.search.batch}, {config.device}, {threads}, "
        f"seed {config.seed}, into {folder.path}"
        + "".join(f"\nits {name} take {decimal(size)} of memory" for name, size in sizes.items() if size)
        + "".join(f"\n{line}" for line in (rate.sentences(prepared.method, state.plan) if not resumed else []))
        + "".join(f"\n{line}" for line in costing.ranges(prepared.method.limits, state.space.groups))
        + "".join(f"\n{one.cost(state)}" for one in ranking(config))
    )


def fitted(config: SearchConfig, images: Dataset) -> dict[str, Any]:
    """The user's space with what follows from the images: classes, channels, stem. ValueError where the two disagree."""
    given = dict(config.space)
    for name, has in (("classes", len(images.classes)), ("in_channels", images.in_channels)):
        if given.setdefault(name, has) != has:
            raise ValueError(f"space.{name} is {given[name]}, but {images.name} has {has}: leave it out")
    stems = spaces.SPACES[space_of(config).name].stems
    return ({"stem": stem_for(images.size, stems)} if stems else {}) | given


def loading(given: DataSettings) -> dict[str, Any]:
    """Arguments of `archgrad.data.load`, those that were said."""
    return {name: value for name in LOADING if (value := getattr(given, name)) is not None}


def no_validation(given: DataSettings) -> str | None:
    """What a run without validation images records of them: "none" where that was said, so that its settings do not take them again."""
    return given.val if given.val == NONE else None


def settled(given: DataSettings) -> DataSettings:
    """Files and folders by their whole paths, so that a run can be resumed from anywhere; hub names, split names and ``digits`` as they are
    (a test set in this very folder is told from a split by ``./``)."""
    other = {"test": given.test and places.settled_split(given.test), "val": given.val and places.settled_split(given.val)}
    cache = given.cache and given.cache.expanduser().resolve()
    return given.model_copy(update={"path": places.settled(given.path or ""), **other, "cache": cache})
