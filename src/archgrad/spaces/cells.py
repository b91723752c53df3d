"""The cell: one edge group running under its `CellMixture`, in a form that computes once what the edges out of a node share.

    node_t = sum over edges s -> t and primitives k of  weight[edge, k] * op_k(node_s)

Out of one node every primitive but pools and skip begins with the same ReLU, and pools (with their BatchNorm) and skip themselves
are the same on every edge: a `Node` holds these, each computed at its first use.

With partial channels (PC-DARTS) ops read a part of a node, and the rest goes by every edge with the sum of that edge's weights:

    node_t = shuffle(sum of  weight[edge, k] * op_k(part(node_s)),  sum of  weight[edge].sum() * rest(node_s))
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
    """One column of one edge; ``place`` and ``key`` are where `Cell.shared` or `Cell.edges` holds its module."""

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
    """A node's tensor (B, C, H, W), and what its outgoing edges share: the part that ops read, what goes by, and first results.

    ``stride`` is that of the edges.
    """

    def __init__(self, value: Tensor, k: int, stride: int) -> None:
        self.value, self.k, self.stride = value, k, stride
        self.part = value if k == 1 else partial_channels.part(value, k)
        self._known: dict[str, Tensor] = {}

    @cached_property
    def rest(self) -> Tensor:
        return partial_channels.rest(self.value, self.k, self.stride)

    def once(self, name: str, function: Callable[[Tensor], Tensor]) -> Tensor:
        """``function(self.part)``, computed once."""
        if name not in self._known:
            self._known[name] = function(self.part)
        return self._known[name]


class Cell(nn.Module):
    """``preprocess``: a module per input; ``stride`` is that of the edges out of the inputs (2 in a reduction cell); ops have
    ``channels / k`` channels (`archgrad.spaces.partial_channels`); ``lookup``: (name, stride) -> what that primitive is here.

    A parameter is named by what it belongs to (``edges.0_2.sep_conv_3x3...``), never by position, so a pruned or derived cell has
    the names of the full one. Extra columns (`EdgeGroup.extras`) have weights of their own.
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
            self.register_buffer("own", group.mask().float(), persistent=False)  # 0 for padding
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
        """inputs (B, ?, H, W) each -> (B, len(concat) * channels, H', W'). ``None``: weight 1 on every searched op."""
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
        sums = self._sums(mixture, states[0].value)
        for target, ops in self.plan.items():
            made = self._node(ops, states, mixture, rows, drop_path)
            states[target] = Node(
                made if self.k == 1 else self._whole(made, ops, states, sums), self.k, 1
            )
        outputs = [states[node].value for node in self.concat]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)

    def ops(self, edge: int, name: str) -> nn.Module:
        """The module of a searched primitive on an edge of the group (its shared one, if it is shared)."""
        found = [
            op
            for ops in self.plan.values()
            for op in ops
            if (op.edge, op.primitive, op.extra) == (edge, name, False)
        ]
        if not found:
            raise ValueError(f"edge {edge} has no primitive {name!r}")
        return self._module(found[0])

    def _module(self, op: Op) -> nn.Module:
        return (self.shared if op.shared else self.edges)[op.place][op.key]  # type: ignore[index]

    def _node(
        self,
        ops: list[Op],
        states: Mapping[int, Node],
        mixture: CellMixture | None,
        rows: Rows | None,
        drop_path: float,
    ) -> Tensor:
        """A node without any input is zero."""
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
                    idle += [weight] * mixture.idle
                    continue
            if op.primitive == "none":
                continue
            out = self._run(op, states[op.source], weight)
            if self.training:
                out = self._dropped(
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
            # An idle op counts as the scalar w - w = 0, which carries its gradient (GDAS, arXiv 1910.04465, its authors' code).
            scalar = torch.stack(idle).sum()
            total = total + (scalar - scalar.detach())
        return total

    def _whole(
        self, made: Tensor, ops: list[Op], states: Mapping[int, Node], sums: Sequence[Tensor]
    ) -> Tensor:
        """A node of partial channels: what its ops made, and what went by its edges."""
        sources = {op.edge: op.source for op in ops}
        if not sources:
            return _zeros(states[0].value, self.channels, self.stride)
        passed = weighted_sum(
            [sums[edge] for edge in sources], [states[source].rest for source in sources.values()]
        )
        return partial_channels.joined(made, passed, self.k)

    def _sums(self, mixture: CellMixture | None, like: Tensor) -> Sequence[Tensor]:
        """Per edge the sum of the weights of its searched ops, each a scalar: how much of the rest it lets by."""
        if self.k == 1:
            return ()
        weights = (
            self.own
            if mixture is None
            else mixture.weights[:, : self.width].to(self.own.device) * self.own
        )
        return weights.sum(1).to(like).unbind()

    def _run(self, op: Op, state: Node, weight: Tensor | None) -> Tensor:
        module = self._module(op)
        if op.shared:
            return state.once(op.primitive, module)
        value = state.once("relu", F.relu) if op.rectified else state.part
        return module(value, weight) if op.scaled else module(value)

    def _dropped(
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
    """(column, primitive, is an extra) of an edge; a removed edge has no extras either."""
    extras = [(group.width + i, name, True) for i, name in enumerate(group.extras)] if names else []
    return [(k, name, False) for k, name in enumerate(names)] + extras


def _scalars(weights: Tensor) -> Rows:
    """(edges, ops) -> nested lists of 0-dim views through one unbind, whose backward is one stack."""
    flat, width = weights.flatten().unbind(), weights.shape[1]
    return [list(flat[i : i + width]) for i in range(0, len(flat), width)]


def _zeros(like: Tensor, channels: int, stride: int) -> Tensor:
    batch, _, height, width = like.shape
    zeros = like.new_zeros(batch, channels, -(-height // stride), -(-width // stride))
    return zeros.contiguous(memory_format=torch.channels_last)
