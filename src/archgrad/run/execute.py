"""Searches in a run folder: a new one, and one that goes on from the place at which it stopped.

`archgrad.searching.loop` is the loop alone, without settings and files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from archgrad import terminal
from archgrad.errors import command, counted
from archgrad.observers.interrupts import stop_requests
from archgrad.observers.recording import Checkpoints, Decisions, InterruptibleData, Metrics
from archgrad.observers.stopping import stopping_observers
from archgrad.observers.timing import Estimate, Timed
from archgrad.run import budgets, repairing, results, watchers
from archgrad.run import config as configs
from archgrad.run.alpha_record import AlphaRecord
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder, default_out, environment
from archgrad.run.preparing import Prepared, begin, check_depths, prepare, prepare_recorded
from archgrad.run.watchers import curvature, diagnostics, ranking
from archgrad.searching import checkpoint, loop, progress, rate
from archgrad.searching.loop import Found
from archgrad.searching.observer import Observer
from archgrad.searching.progress import Bar
from archgrad.searching.types import State
from archgrad.terminal import say_on


def search(config: SearchConfig | Mapping[str, Any], *, console: Console | None = None) -> Found:
    """Run a search and write everything into a new run folder.

    Args:
        config: The settings, as a `SearchConfig` or as a dict with the entries of a settings file.
            ``out`` names the run folder; by default it is `default_out`.
        console: The console for progress and messages.

    Returns:
        The found genotype and the last state.

    Raises:
        ValueError: A setting is wrong, or the folder holds something already.
        Interrupted: The process was asked to stop. Everything is saved.
    """
    config = config if isinstance(config, SearchConfig) else configs.read(("", config))
    console = console or terminal.console(soft_wrap=True)
    folder = RunFolder(config.out or default_out(config))
    folder.check_free()
    check_depths(config)
    with progress.signs_of_life(console):
        prepared = prepare(config, say_on(console))
        state = begin(prepared)  # before anything is written, because it may raise
    with folder.lock():
        folder.begin(
            environment(prepared.config.device),
            prepared.data.summary(),
            prepared.costs.write_latencies,
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
    """Continue a run exactly from the place at which it stopped.

    Args:
        path: The run folder.
        reopen: If true, a search that `archgrad finish` ended continues. Its result is removed as
            soon as it is certain that the search can continue.
        repair: If true, damaged metrics and decisions are repaired first
            (`archgrad.run.repairing`), also those of a finished run.
        previous: If true, the run continues from the checkpoint before the last one, which then
            becomes the last one.
        console: The console for progress and messages.

    Returns:
        The found genotype and the last state, or None if the run is finished already.

    Raises:
        ValueError: There is no run, its checkpoint or metrics are damaged, its images or its
            length have changed, or there is nothing to reopen.
        Interrupted: The process was asked to stop. Everything is saved.
    """
    console = console or terminal.console(soft_wrap=True)
    folder = RunFolder(Path(path))
    folder.read_settings()
    if reopen:
        folder.check_reopen()
    elif folder.genotype.exists() and not repair:
        return None
    with folder.lock():
        if repair:
            repairing.repair_search(folder, say_on(console), previous=previous)
        if folder.genotype.exists() and not reopen:
            return None
        with progress.signs_of_life(console):
            prepared, state = prepare_recorded(folder, say_on(console), previous=previous)
        if previous:
            checkpoint.restore_previous(folder.checkpoint)
        if reopen:
            folder.reopen()
        return _run(prepared, folder, state, console)


def _run(prepared: Prepared, folder: RunFolder, state: State, console: Console) -> Found:
    """Run the loop from a state with all observers, and write the result."""
    config, method, say = prepared.config, prepared.method, say_on(console)
    say(headline(prepared, folder, state))
    past = results.read_past_rows(folder, state)
    probes = [*curvature(config), *diagnostics(config)]
    timing = watchers.timed(config, method, state, prepared.data, probes, past)
    with stop_requests() as stopping, progress.signs_of_life(console) as alive:
        bar = Bar(console, timing, alive)
        checkpoints = Checkpoints(
            folder.checkpoint,
            seconds=config.search.checkpoint_seconds,
            stopping=stopping,
            resume_command=command("resume", folder.path),
        )
        measured = [
            Timed(replace(probe, before_product=checkpoints.before_measuring), timing, alive)
            for probe in curvature(config)
        ]
        images = InterruptibleData(
            prepared.data, checkpoints.before_measuring, checkpoints.before_tuning
        )
        # The order matters: each observer acts after those before it.
        observers: Sequence[Observer] = (
            *measured,  # a rule for stopping reads their value
            *stopping_observers(
                config.stop, method, prepared.epochs, past
            ),  # a rule may make this epoch the last
            *measured,  # if so, they measure the epoch that they passed over
            *(Timed(probe, timing, alive) for probe in diagnostics(config)),
            Metrics(
                folder.metrics, epoch=results.count_ended_epochs(state)
            ),  # takes the probes' columns
            # The checkpoint comes after the records: on resume a line too many is cut, while a
            # line too few would be lost.
            AlphaRecord(folder.alphas, epoch=results.count_ended_epochs(state)),
            Decisions(folder.decisions, taken=len(state.decisions)),
            checkpoints,
            timing,  # after everything that takes time
            bar,
            Estimate(
                timing,
                say,
                partial(watchers.shorter_searches, config, prepared.data, bool(past)),
                folder.write_estimate,
            ),
        )
        try:
            found = loop.search(method, images, prepared.epochs, state=state, observers=observers)
            alive.set_place(
                "cost and accuracy of what was seen", timing.remaining(found.state).seconds
            )
            points = results.front_json(prepared, folder, found, images)
            checkpoints.before_measuring()  # a request to stop may have come meanwhile
        finally:
            bar.close()
    results.write(prepared, folder, found, points)
    return found


def headline(prepared: Prepared, folder: RunFolder, state: State) -> str:
    """Return the lines that describe a search before its first step."""
    config, images, method = prepared.config, prepared.data, prepared.method
    counts = {name: len(split.places) for name, split in images.splits.items()}
    assert config.threads is not None  # `prepare` sets it
    threads = counted(config.threads, "thread")
    lines = [
        f"split: {counts['train']:,} images train the weights, {counts['val']:,} train the alphas, "
        f"{counts['test']:,} are for testing",
        f"{config.method} in {config.space['name']}: {_extent(prepared, state)}, "
        f"batch {config.search.batch}, {config.device}, {threads}, seed {config.seed}, "
        f"into {folder.path}",
    ]
    for name, memory in state.memory.items():
        if size := memory.size():
            lines.append(f"extra memory for {name}: {decimal(size)}")
    if not (state.epoch or state.step):
        lines += rate.rate_lines(method, state.plan)
    lines += budgets.range_lines(method.limits, state.space.groups)
    lines += [probe.cost_line(state) for probe in ranking(config)]
    return "\n".join(lines)


def _extent(prepared: Prepared, state: State) -> str:
    """Return the length of a new search, or the place from which an old one goes on."""
    if state.epoch or state.step:
        return f"from epoch {state.epoch + 1}, step {state.step}"
    method = prepared.method
    lengths = {  # a method may have epochs of several lengths
        method.stepper.steps(method, state.plan, epoch) for epoch in range(prepared.epochs)
    }
    steps = " or ".join(map(str, sorted(lengths)))
    return f"{counted(prepared.epochs, 'epoch')} of {steps} steps"
