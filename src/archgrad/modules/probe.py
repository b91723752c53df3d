"""A module that stands for a choice in a traced run, and runs all its alternatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from archgrad.modules.tape import Branch, Event, Tape, storages

Layout = tuple[tuple[torch.dtype, tuple[int, ...]], ...]
"""The type and the strides of each tensor that a choice returns."""
Pick = tuple[str, ...]
"""The primitives that a choice selects together."""


class Run:
    """A traced run.

    Args:
        inputs: Inputs of the network.
        layouts: Number of a call -> the layout of its output; by default that of its first
            alternative. An operation may copy a tensor of one layout and not that of another.

    Attributes:
        tape: The record of the run.
        groups: Group of each call.
        layouts: Layouts that the alternatives of each call return, by their `key`.
    """

    def __init__(self, inputs: Any, layouts: Mapping[int, Layout]) -> None:
        self.tape = Tape(inputs)
        self.groups: list[str] = []
        self.layouts: list[dict[Any, Layout]] = []
        self.wanted = layouts


class Probe(nn.Module):
    """Run all alternatives of a choice one after the other, and return a new tensor.

    So an alternative that hands on its input counts as one that copies it.

    Args:
        runs: List whose last element is the present run.
        group: Name of the edge group.
        alternatives: The primitives -> their module.
    """

    def __init__(
        self, runs: Sequence[Run], group: str, alternatives: Mapping[Pick, nn.Module]
    ) -> None:
        super().__init__()
        self.runs, self.group, self.picks = runs, group, tuple(alternatives)
        self.alternatives = nn.ModuleList(alternatives.values())

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Return a tree of zeros in the form of the alternatives' outputs."""
        run = self.runs[-1]
        tape, call = run.tape, len(run.groups)
        outputs = []
        for pick, module in zip(self.picks, self.alternatives):
            tape.branch, first = (call, pick), len(tape.events)
            outputs.append(module(*arguments, **named))
            # With several inputs to keep, all of them count until the sum is made.
            held = storages((arguments, named)) if len(pick) > 1 else []
            tape.add(_handed_on(tape, first, tape.branch, outputs[-1], held))
        tape.branch = None
        run.groups.append(self.group)
        run.layouts.append({key(one): layout(one) for one in outputs})
        with tape.paused():
            return _new(tape, call, outputs, run.wanted.get(call, layout(outputs[0])))


def _handed_on(tape: Tape, first: int, branch: Branch, output: Any, held: Sequence[Any]) -> Event:
    """Return the event that reads an alternative's output, and copies tensors from outside."""
    made = {number for event in tape.events[first:] for number in event.makes}
    found = {tape.number(one): one.nbytes() for one in storages(output)}
    copies = tuple(tape.copy(size) for number, size in found.items() if number not in made)
    return Event(frozenset((*found, *copies, *map(tape.number, held))), copies, branch)


def _new(tape: Tape, call: int, outputs: Sequence[Any], wanted: Layout) -> Any:
    """Return the output of a call: new tensors, each with the largest storage of the outputs."""
    flat = [_tensors(one) for one in outputs]
    leaves, form = tree_flatten(outputs[0])
    fresh: list[Tensor] = []
    for index, (leaf, (kind, strides)) in enumerate(zip(flat[0], wanted)):
        span = 1 + sum((size - 1) * step for size, step in zip(leaf.shape, strides))
        zeros = torch.zeros(max(span, 0), dtype=kind, device=leaf.device)
        fresh.append(zeros.as_strided(leaf.shape, strides))
        number = tape.make(zeros.untyped_storage())
        tape.sizes[number] = max(each[index].untyped_storage().nbytes() for each in flat)
    makes = tuple(tape.number(one) for one in storages(fresh))
    tape.add(Event(frozenset(), makes, call=call))
    remaining = iter(fresh)
    return tree_unflatten(
        [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in leaves], form
    )


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]


def layout(output: Any) -> Layout:
    """Return the layout of an output."""
    return tuple((leaf.dtype, leaf.stride()) for leaf in _tensors(output))


def key(output: Any) -> Any:
    """Return a value that is equal for equal layouts; strides of sides of 1 do not count."""
    return tuple(
        (leaf.dtype, tuple(step for size, step in zip(leaf.shape, leaf.stride()) if size > 1))
        for leaf in _tensors(output)
    )
