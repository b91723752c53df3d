"""The cell, which computes the ops of one edge group under a `CellMixture`.

    node_t = sum over edges s -> t and primitives k of  weight[edge, k] * op_k(node_s)

The edges out of a node share computations. All primitives except pools and skips begin with the
same ReLU of the node, and pools (with their BatchNorm) and skips are the same on every edge. A
`Node` computes each of these once, at its first use.

With partial channels (PC-DARTS) the ops read a part of a node. The rest bypasses the ops with the
sum of the edge's weights:

    node_t = shuffle(
        sum of  weight[edge, k] * op_k(part(node_s)),
        sum of  weight[edge].sum() * rest(node_s),
    )
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.arch.edges import EdgeGroup
from archgrad.arch.mixture import CellMixture
from archgrad.spaces import partial_channels
from archgrad.spaces.primitives import Primitive, Style, primitive
from archgrad.spaces.recompute import recomputed
from archgrad.spaces.weighted import weighted_sum

Rows = list[list[Tensor]]


class Op(NamedTuple):
    """One column of one edge; its module is in ``Cell.shared`` or ``Cell.edges``, ``[place][key]``.

    The flags are those of its `Primitive`; ``extra`` marks an unsearched column.
    """

    edge: int
    column: int
    source: int
    primitive: str
    place: str
    key: str
    rectified: bool
    shared: bool
    scaled: bool
    path: str
    extra: bool


class Node:
    """The tensor (B, C, H, W) of a node, and the results that its outgoing edges share.

    ``part`` are the channels that ops read, and ``rest`` are the channels that bypass them.
    ``stride`` is that of the outgoing edges.
    """

    def __init__(self, value: Tensor, k: int, stride: int) -> None:
        self.value, self.k, self.stride = value, k, stride
        self.part = value if k == 1 else partial_channels.part(value, k)
        self._known: dict[str, Tensor] = {}

    @cached_property
    def rest(self) -> Tensor:
        """Return the channels that bypass the ops, pooled if the edges have stride 2."""
        return partial_channels.rest(self.value, self.k, self.stride)

    def compute_once(self, name: str, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``function(self.part)``, which is computed only once for each name."""
        if name not in self._known:
            self._known[name] = function(self.part)
        return self._known[name]


class Cell(nn.Module):
    """A module that computes one edge group.

    A parameter has the name of its edge and primitive (``edges.0_2.sep_conv_3x3...``) and not a
    number, so a pruned or derived cell has the same names as the full one. Extra columns
    (`EdgeGroup.extras`) have their own modules.

    Args:
        group: The edge group.
        preprocess: A module for each input, which gives it the channels of the cell.
        channels: Channels of each node.
        stride: Stride of the edges out of the inputs (2 in a reduction cell).
        style: Properties of the BatchNorms.
        k: Divisor of the channels: ops have ``channels / k`` of them (PC-DARTS).
        lookup: (name, stride) -> the primitive of that name in this cell.
    """

    own: Tensor

    def __init__(
        self,
        group: EdgeGroup,
        preprocess: Iterable[nn.Module],
        channels: int,
        stride: int,
        style: Style,
        k: int = 1,
        lookup: Callable[[str, int], Primitive] = primitive,
    ) -> None:
        super().__init__()
        self.preprocess = nn.ModuleList(preprocess)
        self.concat, self.width, self.extras = group.concat, group.width, len(group.extras)
        self.channels, self.stride, self.k = channels, stride, k
        if k > 1:
            self.register_buffer("own", group.mask().float(), persistent=False)  # 0 is padding
        self.plan: dict[int, list[Op]] = {target: [] for target in sorted(group.nodes())}
        edges: dict[str, dict[str, nn.Module]] = {}
        shared: dict[str, dict[str, nn.Module]] = {}
        for index, (source, target, names) in enumerate(group.edges):
            step = stride if source < len(self.preprocess) else 1
            for column, name, extra in _columns(group, names):
                kind = lookup(name, step)
                table, place = (
                    (shared, f"{source}") if kind.shared else (edges, f"{source}_{target}")
                )
                key = f"extra_{name}" if extra and not kind.shared else name
                modules = table.setdefault(place, {})
                if key not in modules:
                    modules[key] = kind.build(channels // k, step, style)
                flags = (kind.rectified, kind.shared, kind.scaled, kind.path)
                self.plan[target].append(Op(index, column, source, name, place, key, *flags, extra))
        self.edges = nn.ModuleDict(
            {place: nn.ModuleDict(modules) for place, modules in edges.items()}
        )
        self.shared = nn.ModuleDict(
            {place: nn.ModuleDict(modules) for place, modules in shared.items()}
        )

    def forward(
        self, inputs: Iterable[Tensor], mixture: CellMixture | None = None, drop_path: float = 0.0
    ) -> Tensor:
        """Compute the output of the cell.

        Args:
            inputs: A tensor (B, C', H, W) for each input node.
            mixture: Weights of the ops; None gives every searched op the weight 1.
            drop_path: Probability of dropping an op in training mode.

        Returns:
            (B, len(concat) * channels, H', W').
        """
        inputs = tuple(inputs)
        if mixture is not None and mixture.recompute and self.training and torch.is_grad_enabled():
            return recomputed(self, lambda: self._pass(inputs, mixture, drop_path))
        return self._pass(inputs, mixture, drop_path)

    def _pass(
        self, inputs: tuple[Tensor, ...], mixture: CellMixture | None, drop_path: float
    ) -> Tensor:
        states = {
            i: Node(fit(x), self.k, self.stride)
            for i, (fit, x) in enumerate(zip(self.preprocess, inputs))
        }
        assert mixture is None or mixture.weights.shape[1] in (
            self.width,
            self.width + self.extras,
        ), mixture.weights.shape
        rows = None if mixture is None else _scalars(mixture.weights.to(states[0].value))
        sums = self._weight_sums(mixture, states[0].value)
        for target, ops in self.plan.items():
            made = self._sum_of_ops(ops, states, mixture, rows, drop_path)
            states[target] = Node(
                made if self.k == 1 else self._joined_node(made, ops, states, sums), self.k, 1
            )
        outputs = [states[node].value for node in self.concat]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)

    def ops(self, edge: int, name: str) -> nn.Module:
        """Return the module of a searched primitive on an edge.

        Args:
            edge: Index of the edge in the group.
            name: Name of the primitive.

        Returns:
            The module; edges out of the same node may share it.

        Raises:
            ValueError: The edge has no such primitive.
        """
        found = [
            op
            for ops in self.plan.values()
            for op in ops
            if (op.edge, op.primitive, op.extra) == (edge, name, False)
        ]
        if not found:
            raise ValueError(f"edge {edge} has no primitive {name!r}")
        return self._module_of(found[0])

    def _module_of(self, op: Op) -> nn.Module:
        modules = (self.shared if op.shared else self.edges)[op.place]
        found: nn.Module = modules[op.key]  # type: ignore[index]
        return found

    def _sum_of_ops(
        self,
        ops: list[Op],
        states: Mapping[int, Node],
        mixture: CellMixture | None,
        rows: Rows | None,
        drop_path: float,
    ) -> Tensor:
        """Return the weighted sum of a node's ops; zeros for a node without inputs."""
        weights, outs, idle = [], [], []
        for op in ops:
            weight = None
            if mixture is None or rows is None:
                if op.extra:
                    continue
            elif op.column >= len(rows[op.edge]):
                continue
            else:
                weight = rows[op.edge][op.column]
                if mixture.active is not None and not mixture.active[op.edge][op.column]:
                    if mixture.idle:
                        idle.append(weight)
                    continue
            if op.primitive == "none":
                continue
            out = self._run_op(op, states[op.source], weight)
            if self.training:
                out = self._drop_output(
                    op,
                    states[op.source],
                    out,
                    {} if mixture is None else mixture.dropout,
                    drop_path,
                )
            outs.append(out)
            weights.append(None if op.scaled else weight)
        if not outs:
            total = _zeros(states[0].part, self.channels // self.k, self.stride)
        else:
            total = weighted_sum(weights, outs) if mixture is not None else sum(outs[1:], outs[0])
        if idle and idle[0].requires_grad:
            # A skipped op contributes the scalar w - w.detach() = 0, which carries a gradient of 1
            # (GDAS, arXiv 1910.04465, author code).
            scalar = torch.stack(idle).sum()
            total = total + (scalar - scalar.detach())
        return total

    def _joined_node(
        self, made: Tensor, ops: list[Op], states: Mapping[int, Node], sums: Sequence[Tensor]
    ) -> Tensor:
        """Return a node with partial channels, from the output of its ops and the bypassed rest."""
        sources = {op.edge: op.source for op in ops}
        if not sources:
            return _zeros(states[0].value, self.channels, self.stride)
        passed = weighted_sum(
            [sums[edge] for edge in sources], [states[source].rest for source in sources.values()]
        )
        return partial_channels.joined(made, passed, self.k)

    def _weight_sums(self, mixture: CellMixture | None, like: Tensor) -> Sequence[Tensor]:
        """Return for each edge the sum of its searched weights, the factor of the bypassed rest."""
        if self.k == 1:
            return ()
        weights = (
            self.own
            if mixture is None
            else mixture.weights[:, : self.width].to(self.own.device) * self.own
        )
        return weights.sum(1).to(like).unbind()

    def _run_op(self, op: Op, state: Node, weight: Tensor | None) -> Tensor:
        module = self._module_of(op)
        if op.shared:
            return state.compute_once(op.primitive, module)
        value = state.compute_once("relu", F.relu) if op.rectified else state.part
        out: Tensor = module(value, weight) if op.scaled else module(value)
        return out

    def _drop_output(
        self, op: Op, state: Node, out: Tensor, dropout: Mapping[str, float], drop_path: float
    ) -> Tensor:
        if dropout.get(op.primitive, 0.0) > 0:
            out = F.dropout(out, dropout[op.primitive])
        if drop_path > 0 and op.path != "never":
            keep = 1 - drop_path
            kept = torch.empty_like(out[:, :1, :1, :1]).bernoulli_(keep)
            out = (
                out / keep * kept
                if op.path == "whole"
                else state.part + (out - state.part) / keep * kept
            )
        return out


def _columns(group: EdgeGroup, names: tuple[str, ...]) -> list[tuple[int, str, bool]]:
    """Return (column, primitive, is an extra) of an edge; a removed edge has no extras."""
    extras = [(group.width + i, name, True) for i, name in enumerate(group.extras)] if names else []
    return [(k, name, False) for k, name in enumerate(names)] + extras


def _scalars(weights: Tensor) -> Rows:
    """Return weights (edges, ops) as nested lists of scalars, through one unbind.

    The backward of one unbind is one stack, which is faster than that of many selections.
    """
    flat, width = weights.flatten().unbind(), weights.shape[1]
    return [list(flat[i : i + width]) for i in range(0, len(flat), width)]


def _zeros(like: Tensor, channels: int, stride: int) -> Tensor:
    batch, _, height, width = like.shape
    zeros = like.new_zeros(batch, channels, -(-height // stride), -(-width // stride))
    return zeros.contiguous(memory_format=torch.channels_last)
