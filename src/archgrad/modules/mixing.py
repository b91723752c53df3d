"""The mixture of the present pass, and the weighted sum that a choice computes under it.

The mixture reaches the choices of a user's module through one context variable, so the module's own
code needs no argument for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map_only, tree_unflatten

from archgrad.arch.mixture import CellMixture, Mixture
from archgrad.spaces.recompute import recomputed
from archgrad.spaces.weighted import weighted_sum


class Pass(NamedTuple):
    """One pass of a network: its mixture, None for the weight 1 of all ops, and its drop-path."""

    mixture: Mixture | None = None
    drop_path: float = 0.0


class Decision(Protocol):
    """A module that mixes several ops.

    Attributes:
        primitives: Names of the ops.
        weightless: Names of the ops without parameters, which drop-path never drops.
        group: Name of the edge group; "" before a search space knows the module.
        training: Whether the module is in training mode.
    """

    primitives: tuple[str, ...]
    weightless: tuple[str, ...]
    group: str
    training: bool


_PASS: ContextVar[Pass | None] = ContextVar("archgrad_pass", default=None)
_INSIDE: ContextVar[str] = ContextVar("archgrad_choice", default="")


@contextmanager
def running(now: Pass) -> Iterator[None]:
    """Give the choices inside the block the mixture of a pass."""
    token = _PASS.set(now)
    try:
        yield
    finally:
        _PASS.reset(token)


def restore_in_backward(output: Any, now: Pass) -> None:
    """Give the choices the mixture of a pass again in its backward pass.

    A module of the user's may recompute activations there (`torch.utils.checkpoint`). The backward
    pass of a network begins at its outputs, and runs all its nodes before those of an earlier pass.

    Args:
        output: Output of the network.
        now: The pass.
    """

    def end() -> None:
        _PASS.set(None)

    def begin(gradient: Tensor) -> None:
        _PASS.set(now)
        torch.autograd.Variable._execution_engine.queue_callback(end)

    def watch(leaf: Tensor) -> Tensor:
        if leaf.requires_grad:
            leaf.register_hook(begin)
        return leaf

    tree_map_only(Tensor, watch, output)


def present_mixture(decision: Decision) -> tuple[Pass, CellMixture | None]:
    """Return the present pass, and the mixture of one choice in it.

    Raises:
        ValueError: No pass is running, or the choice runs inside another one.
    """
    now = _PASS.get()
    if now is None or not decision.group:
        raise ValueError(
            f"{describe(decision)} ran outside a search: call the network of "
            "archgrad.module_space(...) or of Search.module, or take the network of Search.derive()"
        )
    if outer := _INSIDE.get():
        raise ValueError(
            f"{describe(decision)} runs inside {outer!r}: a choice inside another is not "
            "supported, because costs would no longer add up; move it out"
        )
    return now, None if now.mixture is None else now.mixture.cell(decision.group, 0)


def describe(decision: Decision) -> str:
    """Return a choice as an error names it: by its place in the user's module."""
    kind = type(decision).__name__
    if decision.group:
        return f"{kind} {decision.group!r}"
    return f"{'an' if kind[0] == 'I' else 'a'} {kind} of {', '.join(decision.primitives)}"


def mixed(decision: Decision, ops: Callable[[], Sequence[Callable[[], Any]]]) -> Any:
    """Return the sum of the ops' outputs by the weights of the present mixture.

    Args:
        decision: The choice.
        ops: Function that returns a function for each op, which returns the output of the op, a
            tensor or a tree of tensors. A backward pass that recomputes activations calls it again.

    Returns:
        The sum, in the form of the outputs.

    Raises:
        ValueError: No pass is running, or two outputs differ in form.
    """
    now, cell = present_mixture(decision)

    def run() -> Any:
        token = _INSIDE.set(decision.group)
        try:
            return _sum(decision, ops(), cell, now.drop_path)
        finally:
            _INSIDE.reset(token)

    if cell is not None and cell.recompute and decision.training and torch.is_grad_enabled():
        return recomputed(decision, run)  # type: ignore[arg-type]
    return run()


def _sum(
    decision: Decision,
    ops: Sequence[Callable[[], Any]],
    cell: CellMixture | None,
    drop_path: float,
) -> Any:
    rows = None if cell is None else cell.weights[0].unbind()
    active = None if cell is None or cell.active is None else cell.active[0]
    names, outs, weights, idle = [], [], [], []
    for column, (name, op) in enumerate(zip(decision.primitives, ops)):
        if active is not None and not active[column]:
            if cell is not None and cell.idle and rows is not None:
                idle.append(rows[column])
            continue
        out = op()
        if decision.training:
            rate = 0.0 if cell is None else cell.dropout.get(name, 0.0)
            path = 0.0 if name in decision.weightless else drop_path
            out = tree_map_only(Tensor, partial(_dropped, dropout=rate, drop_path=path), out)
        names.append(name)
        outs.append(out)
        weights.append(None if rows is None else rows[column])
    leaves, form = _aligned(decision, names, outs)
    return tree_unflatten([_leaf(each, weights, idle) for each in zip(*leaves)], form)


def _leaf(each: Sequence[Any], weights: Sequence[Tensor | None], idle: Sequence[Tensor]) -> Any:
    """Return the weighted sum of one leaf; one that has no gradient is that of the first op."""
    first = each[0]
    if not isinstance(first, Tensor) or not (first.is_floating_point() or first.is_complex()):
        return first
    total = weighted_sum(
        [None if weight is None else weight.to(first.dtype) for weight in weights], each
    )
    if idle and idle[0].requires_grad:
        # As in a cell: w - w.detach() is 0, but its alpha receives a gradient (GDAS).
        scalar = torch.stack(list(idle)).sum()
        total = total + (scalar - scalar.detach()).to(first.dtype)
    return total


def _aligned(
    decision: Decision, names: Sequence[str], outs: Sequence[Any]
) -> tuple[list[list[Any]], TreeSpec]:
    """Return the leaves of each output and their common form."""
    flat = [tree_flatten(out) for out in outs]
    shapes = [[_form_of(leaf) for leaf in leaves] for leaves, _ in flat]
    for name, shape, (_, form) in zip(names, shapes, flat):
        if form != flat[0][1] or shape != shapes[0]:
            raise ValueError(
                f"{describe(decision)}: {names[0]!r} returns {_shown(shapes[0])} and {name!r} "
                f"returns {_shown(shape)}: all alternatives must return equal shapes"
            )
    return [leaves for leaves, _ in flat], flat[0][1]


def _form_of(leaf: Any) -> Any:
    """Return the shape of a tensor of floats, shape and type of another one, or a plain value."""
    if not isinstance(leaf, Tensor):
        return leaf
    shape = tuple(leaf.shape)
    return shape if leaf.is_floating_point() else (*shape, str(leaf.dtype))


def _shown(forms: Sequence[Any]) -> str:
    return " and ".join(map(str, forms)) or "nothing"


def _dropped(out: Tensor, dropout: float, drop_path: float) -> Tensor:
    """Return an output after dropout, and after drop-path, which sets whole samples to 0."""
    if not out.is_floating_point():
        return out
    if dropout:
        out = F.dropout(out, dropout)
    if not drop_path or not out.dim():
        return out
    keep = 1 - drop_path
    shape = (len(out), *(1,) * (out.dim() - 1))
    return out / keep * out.new_empty(shape).bernoulli_(keep)


def total_weight(decision: Decision) -> Tensor | int:
    """Return the sum of the weights of a choice in the present pass."""
    _, cell = present_mixture(decision)
    return len(decision.primitives) if cell is None else cell.weights[0].sum()
