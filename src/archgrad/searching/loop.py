"""The loop. It knows no method and no space."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic, process_time
from typing import Any, NamedTuple, Protocol

import torch

from archgrad.arch.genotype import Genotype
from archgrad.arch.space import check_cells
from archgrad.diagnostics.entropy import mean_entropy
from archgrad.searching import checks
from archgrad.searching.types import Data, Decision, Method, State, Values
from archgrad.storage.records import Row


class Observer(Protocol):
    """Watches. Reads the state and never writes to it."""

    def on_step(self, method: Method, state: State, values: Values) -> None: ...

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        """What it returns stands in the row that later observers see; a "stop" in it (a reason) ends the search early and in order,
        for which it must come before the observer that saves.
        ``state.epoch`` is the next epoch already."""

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


class Found(NamedTuple):
    """What a search ends with."""

    genotype: Genotype
    state: State


def search(
    method: Method,
    data: Data,
    epochs: int,
    *,
    seed: int | None = None,
    state: State | None = None,
    observers: Iterable[Observer] = (),
    device: torch.device | str | None = None,
    precision: str | None = None,
    recompute: str | None = None,
    progress: bool = False,
) -> Found:
    """Runs ``method`` for ``epochs`` epochs over ``data``; with a ``state`` it goes on where that stopped, in mid-epoch too.

    Without a state the seed is 0, the device "cpu", the precision "32", and nothing is recomputed, unless you say otherwise.
    ``progress``: a bar, and a line an epoch, where a terminal or a notebook watches.

    ValueError if an edge group of the space of a new search is in no cell, method, state and data do not fit each other, the state was planned
    for another length, or the search diverges.
    """
    observers = checks.check_observers(observers)
    checks.check_parts(method, data, seed, state)
    given: dict[str, Any] = {
        "seed": seed,
        "device": device,
        "precision": precision,
        "recompute": recompute,
    }
    checks.check_data(method.base, data)
    if state is None:
        check_cells(method.base, "cells")
        state = begin(
            method,
            data,
            epochs,
            **{name: value for name, value in given.items() if value is not None},
        )
    else:
        checks.check_beside(state, **given)
        checks.check_state(method, state)
        checks.check_images(state, data)
    check_plan(state, epochs, data.steps("train"))
    if not progress:
        return _on(method, data, epochs, state, tuple(observers))
    from archgrad.searching.progress import watched

    with watched() as bars:
        return _on(method, data, epochs, state, (*observers, *bars))


def _on(
    method: Method, data: Data, epochs: int, state: State, observers: tuple[Observer, ...]
) -> Found:
    """On from a state to the end."""
    while state.epoch < epochs and not state.stopped:
        began, busy = monotonic(), process_time()
        if state.step == 0:
            method.begin_epoch(state)
        streams = (
            data.batches(split, state.epoch, state.step, method.steps(state) - state.step)
            for split in ("train", "val")
        )
        for train, val in zip(*streams, strict=True):
            values = method.step(state, train, val)
            for observer in observers:
                observer.on_step(method, state, values)
        row = summary(method, state)
        row |= method.end_epoch(state, data)
        row |= {"seconds": monotonic() - began, "cpu_seconds": process_time() - busy}
        for observer in observers:
            stop(state, row)
            row |= observer.on_epoch(method, state, data, row) or {}
        stop(state, row)
    for decision in method.finalise(state, data):
        for observer in observers:
            observer.on_decision(method, state, decision)
    return Found(method.genotype(state), state)


def check_plan(state: State, epochs: int, steps: int) -> None:
    """ValueError where a search was planned for another length."""
    if state.plan[:2] != (epochs, steps):
        raise ValueError(
            f"this search was planned for {state.plan.epochs} epochs of {state.plan.steps} steps and cannot go on with {epochs} of "
            f"{steps}: every schedule depends on it; start a new search"
        )


def stop(state: State, row: Row) -> None:
    """The epochs end with this one, if the row says why."""
    if row.get("stop"):
        state.stopped, state.ended = row["stop"], state.epoch


def begin(
    method: Method,
    data: Data,
    epochs: int,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: str = "32",
    recompute: str = "none",
) -> State:
    """The state before the first step of a search over ``data``."""
    images = (data.count("train"), data.count("val"))
    return method.start(
        seed=seed,
        epochs=epochs,
        steps=data.steps("train"),
        images=images,
        device=device,
        precision=precision,
        recompute=recompute,
    )


def summary(method: Method, state: State) -> Row:
    """The row of an epoch that just had its last step: averages over its steps, and what the alphas say now."""
    genotype, context = method.genotype(state), method.context(state, "readout")
    return {
        "epoch": state.epoch,
        "phase": method.phase(state),
        **state.averages(),
        **{name: scalar(context) for name, scalar in method.patch.scalars.items()},
        "entropy": mean_entropy(method.readout(state), state.space.groups),
        "skips": sum(
            link.primitive == "skip_connect" for cell in genotype.cells for link in cell.links
        ),
        "genotype": str(genotype),
    }
