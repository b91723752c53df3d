"""Searches over noise that stop at one place, save, and continue."""

from __future__ import annotations

import pytest
import torch

from archgrad.searching import checkpoint
from archgrad.searching.loop import Found, search
from archgrad.searching.method import Method
from fakes import Noise

EPOCHS = 4
DATA = Noise()


class Stopped(Exception):
    pass


class Record:
    """Rows of the metrics, and a stop with a checkpoint at one place: ("step", epoch, step) or ("decision", n)."""

    def __init__(self, place=None, path=None):
        self.place, self.path, self.rows = place, path, []

    def on_step(self, method, state, values):
        self._maybe(method, state, ("step", state.epoch, state.step))

    def on_epoch(self, method, state, data, row):
        self.rows.append(
            {key: value for key, value in row.items() if key not in ("seconds", "cpu_seconds")}
        )
        self._maybe(method, state, ("epoch", state.epoch, 0))

    def on_decision(self, method, state, decision):
        self._maybe(method, state, ("decision", len(state.decisions), 0))

    def _maybe(self, method, state, here):
        if here == self.place:
            checkpoint.save(self.path, checkpoint.pack(method, state))
            raise Stopped


class Saves(Record):
    """Save checkpoints at these places while the search goes on."""

    def __init__(self, places, folder):
        super().__init__()
        self.files = {place: folder / "-".join(map(str, place)) for place in places}

    def _maybe(self, method, state, here):
        if here in self.files:
            checkpoint.save(self.files[here], checkpoint.pack(method, state))


def run(method: Method, observers=(), state=None, epochs=EPOCHS, seed=1, data=DATA) -> Found:
    return search(method, data, epochs, seed=seed, observers=observers, state=state)


def content(method: Method, state) -> dict:
    """Return the content of a checkpoint without its identity, on which two equal methods must agree."""
    return {
        part: value
        for part, value in checkpoint.pack(method, state).items()
        if part not in ("method", "identity")
    }


def same(a, b) -> bool:
    """Return whether two values, or containers of values, are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def resumed(method: Method, place, path, epochs=EPOCHS, data=DATA):
    """Return the same search after a stop at a place, continued from the file."""
    early, late = Record(place, path), Record()
    with pytest.raises(Stopped):
        run(method, [early], epochs=epochs, data=data)
    found = run(
        method, [late], checkpoint.restore(method, checkpoint.read(path)), epochs, data=data
    )
    return found, [
        row for row in early.rows if row["epoch"] < (late.rows[0]["epoch"] if late.rows else epochs)
    ] + late.rows


def gone_on(method: Method, path, epochs=EPOCHS, data=DATA):
    """Continue from a checkpoint to the end; return the result and the further rows."""
    late = Record()
    return run(
        method, [late], checkpoint.restore(method, checkpoint.read(path)), epochs, data=data
    ), late.rows


class Watch:
    """Calls ``look(method, state, steps done)`` after every step, of which an epoch has three."""

    def __init__(self, look):
        self.look = look

    def on_step(self, method, state, values):
        self.look(method, state, state.epoch * 3 + state.step)

    def on_epoch(self, method, state, data, row): ...

    def on_decision(self, method, state, decision): ...


def values_of(state) -> dict:
    """A copy of the supernet's weights."""
    return {name: value.detach().clone() for name, value in state.nets["search"].named_parameters()}
