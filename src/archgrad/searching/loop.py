"""The loop of a search. It imports no method and no space."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic, process_time
from typing import Any, NamedTuple

import torch

from archgrad.arch.genotype import Genotype
from archgrad.arch.space import check_cells
from archgrad.arguments import named_if_wrong
from archgrad.diagnostics.entropy import mean_entropy
from archgrad.searching import checks
from archgrad.searching.observer import Observer
from archgrad.searching.types import Method, SearchData, State
from archgrad.storage.records import Row


class Found(NamedTuple):
    """Hold the result of a search: the genotype and the last state."""

    genotype: Genotype
    state: State


@named_if_wrong
def search(
    method: Method,
    data: SearchData,
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
    """Search with a method over data.

    Args:
        method: Method, as `archgrad.method` makes it.
        data: Images, as `archgrad.search_data` makes them.
        epochs: Number of epochs.
        seed: Seed; 0 by default.
        state: State of an earlier search to go on from, in the middle of an epoch too.
        observers: Observers, which are called in this order.
        device: Device; "cpu" by default.
        precision: Precision of the forward pass, "32" (the default) or "bf16".
        recompute: Activations that the backward pass computes again: "none" (the default) or
            "cells", which needs less memory and more time.
        progress: Whether to show a bar, and a line per epoch, in a terminal or a notebook.

    Returns:
        The genotype and the last state.

    Raises:
        ValueError: Method, state and data do not fit each other, the state was planned for another
            length, an edge group of a new search is in no cell, or the search diverges.
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
        state = initial_state(
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
        return _run(method, data, epochs, state, tuple(observers))
    from archgrad.searching.progress import visible_bars

    with visible_bars() as bars:
        return _run(method, data, epochs, state, (*observers, *bars))


def _run(
    method: Method, data: SearchData, epochs: int, state: State, observers: tuple[Observer, ...]
) -> Found:
    """Run a search from a state to its end."""
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
        row = epoch_row(method, state)
        row |= method.end_epoch(state, data)
        row |= {"seconds": monotonic() - began, "cpu_seconds": process_time() - busy}
        for observer in observers:
            record_stop(state, row)
            row |= observer.on_epoch(method, state, data, row) or {}
        record_stop(state, row)
    for decision in method.finalise(state, data):
        for observer in observers:
            observer.on_decision(method, state, decision)
    return Found(method.genotype(state), state)


def check_plan(state: State, epochs: int, steps: int) -> None:
    """Check that a search was planned for this length.

    Raises:
        ValueError: It was planned for another number of epochs or steps.
    """
    if state.plan[:2] != (epochs, steps):
        raise ValueError(
            f"this search was planned for {state.plan.epochs} epochs of {state.plan.steps} steps "
            f"and cannot go on with {epochs} of {steps}, because every schedule depends on the "
            "length: start a new search"
        )


def record_stop(state: State, row: Row) -> None:
    """Record that the epochs end with this one, if the row has a reason in its column "stop"."""
    if row.get("stop"):
        state.stopped, state.ended = row["stop"], state.epoch


def initial_state(
    method: Method,
    data: SearchData,
    epochs: int,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: str = "32",
    recompute: str = "none",
) -> State:
    """Return the state before the first step of a search over ``data``."""
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


def epoch_row(method: Method, state: State) -> Row:
    """Return the row of an epoch after its last step.

    It has the averages over the steps, and the entropy and the genotype of the current alphas.
    """
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
