"""Modules of a derived network that hold no object of archgrad: they are torch's own classes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

from torch import fx, nn


def chained(blocks: Sequence[nn.Module], inputs: int, names: Sequence[str]) -> nn.Module:
    """Return blocks one behind the other, as a module.

    Args:
        blocks: The blocks.
        inputs: Number of positional arguments of a call. The first goes through the blocks, and
            every block also takes the others.
        names: Names of the other arguments.

    Returns:
        A `torch.nn.Sequential` if there is one argument, else a `torch.fx.GraphModule`.
    """
    if inputs == 1 and not names:
        return nn.Sequential(*blocks)
    graph = fx.Graph()
    x, *others = [graph.placeholder(f"x{number}") for number in range(inputs)]
    named: dict[str, Any] = {name: graph.placeholder(name) for name in names}
    for number in range(len(blocks)):
        x = graph.call_module(str(number), (x, *others), named)
    graph.output(x)
    return fx.GraphModule({str(k): block for k, block in enumerate(blocks)}, graph, "Chained")


def joined(kept: Sequence[int], how: str, inputs: int) -> nn.Module:
    """Return a module that hands on the sum or the mean of some of its inputs.

    Args:
        kept: Numbers of the inputs.
        how: "sum" or "mean".
        inputs: Number of tensors in a call; 0 if the call has one list of them.

    Returns:
        A `torch.fx.GraphModule`.
    """
    graph = fx.Graph()
    if inputs:
        given = [graph.placeholder(f"x{number}") for number in range(inputs)]
        chosen = [given[number] for number in kept]
    else:
        several = graph.placeholder("tensors")
        chosen = [graph.call_function(operator.getitem, (several, number)) for number in kept]
    total = reduce(lambda a, b: graph.call_function(operator.add, (a, b)), chosen)
    if how == "mean" and len(kept) > 1:
        total = graph.call_function(operator.truediv, (total, len(kept)))
    graph.output(total)
    return fx.GraphModule({}, graph, "Joined")
