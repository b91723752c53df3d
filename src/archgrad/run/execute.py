"""A search from its settings to a finished run folder, and on from wherever it stopped. `archgrad.search` is the loop alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from archgrad import terminal
from archgrad.errors import command, counted
from archgrad.observers.interrupts import stop_requests
from archgrad.observers.recording import Checkpoints, Decisions, Metrics, Reading
from archgrad.observers.stopping import early
from archgrad.observers.timing import Estimate, Timed
from archgrad.run import budgets, repairing, results, watchers
from archgrad.run import config as configs
from archgrad.run.alpha_record import AlphaRecord
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder, default_out, environment
from archgrad.run.preparing import Prepared, begin, check_depths, prepare, recorded
from archgrad.run.watchers import curvature, diagnostics, ranking
from archgrad.searching import checkpoint, loop, progress, rate
from archgrad.searching.loop import Found, Observer
from archgrad.searching.progress import Bar
from archgrad.searching.types import State
from archgrad.terminal import say_on


def search(config: SearchConfig | Mapping[str, Any], *, console: Console | None = None) -> Found:
    """A whole search into a new run folder (``config.out``, by default `default_out`). Settings may be a dict, as a file has them.

    ValueError for settings that cannot be, and for a folder that holds anything; `Interrupted` after Ctrl-C, with all saved.
    """
    config = config if isinstance(config, SearchConfig) else configs.read(("", config))
    console = console or terminal.console(soft_wrap=True)
    folder = RunFolder(config.out or default_out(config))
    folder.check_free()
    check_depths(config)
    with progress.life(console):
        prepared = prepare(config, say_on(console))
        state = begin(prepared)  # before anything is written: it may be refused
    with folder.locked():
        folder.begin(
            environment(prepared.config.device),
            prepared.data.summary(),
            prepared.costs.record,
            prepared.config.to_yaml(),
        )
        return _run(prepared, folder, state, console)


def resume(
    path: Path | str,
    *,
    reopen: bool = False,
    repair: bool = False,
    previous: bool = False,
    console: Console | None = None,
) -> Found | None:
    """Goes on exactly where the run in ``path`` stopped; None if it is finished already.

    Args:
        path: The run folder.
        reopen: `archgrad finish` ended it, and its result is removed as soon as it is sure that the search can go on.
        repair: Damaged metrics and decisions are mended first (`archgrad.run.repairing`), those of a finished run too.
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
        with progress.life(console):
            prepared, state = recorded(folder, say_on(console), previous=previous)
        if previous:
            checkpoint.go_back(folder.checkpoint)
        if reopen:
            folder.reopen()
        return _run(prepared, folder, state, console)


def _run(prepared: Prepared, folder: RunFolder, state: State, console: Console) -> Found:
    config, say = prepared.config, say_on(console)
    how = command("resume", folder.path)
    say(headline(prepared, folder, state))
    past = results.past_of(folder, state)
    timing = watchers.timed(
        config,
        prepared.method,
        state,
        prepared.data,
        [*curvature(config), *diagnostics(config)],
        past,
    )
    with stop_requests() as stopping, progress.life(console) as alive:
        bar = Bar(console, timing, alive)
        checkpoints = Checkpoints(
            folder.checkpoint, seconds=config.search.checkpoint_seconds, stopping=stopping, how=how
        )
        measured = [
            Timed(replace(probe, between=checkpoints.measuring), timing, alive)
            for probe in curvature(config)
        ]
        images = Reading(prepared.data, checkpoints.measuring, checkpoints.tuning)
        observers: tuple[Observer, ...] = (
            *measured,  # which the next may read
            *early(
                config.stop, prepared.method, prepared.epochs, past
            ),  # before what measures after the last epoch
            *measured,  # again: another rule may have ended the search with an epoch that it had passed over
            *(
                Timed(probe, timing, alive) for probe in diagnostics(config)
            ),  # before the metrics, which get their columns
            Metrics(
                folder.metrics, epoch=results.epochs_of(state)
            ),  # before the checkpoint: a line too many is cut, one too few is lost
            AlphaRecord(folder.alphas, epoch=results.epochs_of(state)),
            Decisions(folder.decisions, taken=len(state.decisions)),
            checkpoints,
            timing,  # behind all that takes time
            bar,
            Estimate(
                timing,
                say,
                partial(watchers.shorter_searches, config, prepared.data, bool(past)),
                folder.expect,
            ),
        )
        try:
            found = loop.search(
                prepared.method, images, prepared.epochs, state=state, observers=observers
            )
            alive.at("cost and accuracy of what was seen", timing.left(found.state).seconds)
            points = results.seen(prepared, folder, found, images)
            checkpoints.measuring()  # a request that came meanwhile
        finally:
            bar.close()
    results.write(prepared, folder, found, points)
    return found


def headline(prepared: Prepared, folder: RunFolder, state: State) -> str:
    """What is about to run, and what it remembers."""
    config, images = prepared.config, prepared.data
    counts = {name: len(split.places) for name, split in images.splits.items()}
    assert config.threads is not None  # `prepare` decides it
    threads = counted(config.threads, "thread")
    resumed = state.epoch or state.step
    lengths = {
        prepared.method.stepper.steps(prepared.method, state.plan, epoch)
        for epoch in range(prepared.epochs)
    }
    each = " or ".join(map(str, sorted(lengths)))  # a method may have epochs of several lengths
    place = (
        f"from epoch {state.epoch + 1}, step {state.step}"
        if resumed
        else f"{counted(prepared.epochs, 'epoch')} of {each} steps"
    )
    sizes = {name: memory.size() for name, memory in state.memory.items()}
    return (
        f"split: {counts['train']:,} images train weights, {counts['val']:,} move alphas, {counts['test']:,} are for testing\n"
        f"{config.method} in {config.space['name']}: {place}, batch {config.search.batch}, {config.device}, {threads}, "
        f"seed {config.seed}, into {folder.path}"
        + "".join(
            f"\nits {name} take {decimal(size)} of memory" for name, size in sizes.items() if size
        )
        + "".join(
            f"\n{line}"
            for line in (rate.sentences(prepared.method, state.plan) if not resumed else [])
        )
        + "".join(
            f"\n{line}" for line in budgets.ranges(prepared.method.limits, state.space.groups)
        )
        + "".join(f"\n{one.cost(state)}" for one in ranking(config))
    )
