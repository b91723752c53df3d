"""Checks that a search in the user's loop has all that its method reads."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from archgrad.arch.passes import Batch, Output
from archgrad.components.hypergradient import finite_differences, second_order, step_of
from archgrad.components.losses import label_loss
from archgrad.errors import is_out_of_memory, one_line, short_repr
from archgrad.modules.space import ModuleSpace
from archgrad.searching.method import Method
from archgrad.searching.types import State

READ = "give module_space(logits=function of the output)"


def check_space(space: Any) -> None:
    """Check that a space is one of a module of the user's.

    Raises:
        ValueError: It is another value.
    """
    if not callable(getattr(space, "read_logits", None)):
        raise ValueError(
            f"space: a space of archgrad.module_space is expected, not {short_repr(space)}"
        )


def check_logits(method: Method, space: ModuleSpace) -> None:
    """Check that the module has the logits that a method reads.

    Raises:
        ValueError: It has not; the message names the method and the argument that gives them.
    """
    shape = space.logit_shape
    shown = "no tensor" if shape is None else f"a tensor {shape}"
    for name in method.patch.reads_logits:
        if shape is None or len(shape) != 2:
            raise ValueError(
                f"{name} reads the logits (B, K) of a classifier, but the module returns {shown}: "
                f"{READ}"
            )
    for name in method.patch.reads_accuracy:
        if shape is None or len(shape) < 2:
            raise ValueError(
                f"{name} judges networks by their accuracy, for which it needs logits (B, K), but "
                f"the module returns {shown}: {READ}"
            )


def check_optimizer(method: Method, optimizer: Any) -> None:
    """Check that a search can use an optimizer of the user's.

    Raises:
        ValueError: It is none, its step needs a function, or the hypergradient cannot
            differentiate its step.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(
            "optimizer: a function (parameters) -> torch optimizer is expected; it returned "
            f"{short_repr(optimizer)}"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ValueError(
            f"optimizer: a step of {type(optimizer).__name__} needs a function that computes the "
            "loss again, which a search does not have: take another optimizer"
        )
    if method.hypergradient in (second_order, finite_differences):
        step_of(optimizer)


def check_batches(method: Method, state: State, train: Batch, val: Batch) -> None:
    """Check that the batches of a step have the indices and the classes that the method reads.

    Raises:
        ValueError: They have not; the message names the method and the form of a batch.
    """
    halves = {"weight": ("train", train), "alpha": ("val", val)}
    if method.alpha_split == "train":
        halves["alpha"] = halves["weight"]
    for memory in state.memory.values():
        for half in getattr(memory, "indexed", ()):
            split, batch = halves[half]
            _check_index(split, batch, state.plan.images[0 if split == "train" else 1])
    if state.epoch == state.step == 0 and not callable(val.images):
        for name in method.patch.reads_accuracy:
            _check_labels(name, state.space, val.labels)


def _check_index(split: str, batch: Batch, count: int) -> None:
    index = batch.index
    if callable(batch.images) or len(index) != len(tree_leaves(batch.labels)[0]):
        raise ValueError(
            f"{split}: remembered logits (sddarts.teachers) need the index of each sample: give "
            "batches (inputs, targets, index)"
        )
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise ValueError(
            f"{split}: an index of a sample lies outside 0 to {count - 1}, which "
            f"Search(samples=...) allows: it is {int(index.min())} to {int(index.max())}"
        )


def _check_labels(name: str, space: Any, labels: Any) -> None:
    _, _, *rest = space.logit_shape
    rows = labels.flatten(1).shape[1] if torch.is_tensor(labels) and labels.dim() > 1 else 1
    expected = torch.Size(rest).numel() * space.logit_shape[0] // example_size(space)
    if not torch.is_tensor(labels) or labels.is_floating_point() or rows != expected:
        given = f"{tuple(labels.shape)}, {labels.dtype}" if torch.is_tensor(labels) else "no tensor"
        raise ValueError(
            f"{name} judges networks by their accuracy, for which targets must be classes (B,), "
            f"but they are {given}: take another method"
        )


def example_size(space: ModuleSpace) -> int:
    """Return the number of samples of the example."""
    tensors = [leaf for leaf in tree_leaves(space.plan.example) if torch.is_tensor(leaf)]
    return len(tensors[0]) if tensors and tensors[0].dim() else 1


def default_loss(output: Output, batch: Batch) -> Tensor:
    """Return the cross-entropy of logits (B, K) and classes (B,).

    Raises:
        ValueError: The output or the targets have another form.
    """
    try:
        return label_loss(output, batch)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            "the cross-entropy, which is the loss without Search(loss=...), does not fit the "
            f"output of the module and the targets ({one_line(error)}): give a loss, or "
            "module_space(logits=function of the output)"
        ) from error


def scalar(value: Any, name: str) -> Tensor:
    """Return a value of a user's function, which must be a scalar tensor.

    Raises:
        ValueError: It is not.
    """
    if torch.is_tensor(value) and not value.dim():
        return value
    given = f"a tensor {tuple(value.shape)}" if torch.is_tensor(value) else short_repr(value)
    raise ValueError(f"{name} must be a scalar tensor, not {given}: take its mean")
