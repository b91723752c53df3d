"""OLES's memory (arXiv 2311.04591): how well the training and the validation gradient of every op match, and which ops rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.arch.edges import Groups
from archgrad.components.context import Context, Forward
from archgrad.searching.types import Data, Method, State

PerOp = list[list[Tensor]]
"""Op by op, the gradients of its tensors."""
Measure = Callable[[PerOp, PerOp], Tensor]
"""Training and validation gradients of ops -> (ops,), how well they match."""


def cosine(train: PerOp, val: PerOp) -> Tensor:
    """Of each op's two gradients, as vectors [paper]."""
    g, h = (torch.cat([tensor.flatten() for op in half for tensor in op]) for half in (train, val))
    sizes = torch.tensor([sum(tensor.numel() for tensor in op) for op in train], device=g.device)
    inner, first, second = torch.segment_reduce(
        torch.stack([g * h, g * g, h * h], 1), "sum", lengths=sizes
    ).unbind(1)
    scale = (first * second).sqrt()
    return inner / scale.where(scale > 0, 1.0)


def released(train: PerOp, val: PerOp) -> Tensor:
    """Of the training gradient and the sum of both, which is what lies in ``grad`` there, along the output channels of each tensor; the mean
    over all else, then over tensors [author code]."""

    def match(op: list[Tensor], other: list[Tensor]) -> Tensor:
        return torch.stack(
            [F.cosine_similarity(g, g + h, dim=0).mean() for g, h in zip(op, other, strict=True)]
        ).mean()

    return torch.stack([match(*both) for both in zip(train, val, strict=True)])


MEASURES: dict[str, Measure] = {"paper": cosine, "released": released}


class Matches:
    """How well both gradients of every op match, and the ops that rest. An op is a module: each cell has its own."""

    def __init__(self, threshold: float, interval: int, measure: Measure, stop: bool) -> None:
        self.threshold, self.interval, self.measure, self.stop = threshold, interval, measure, stop
        self.ops: list[list[str]] = []  # the names of the parameters of each
        self.rest: list[int] = []
        self.counts: list[int] = []  # since an op was last judged, as the sums
        self.sums = torch.zeros(0)
        self.born = -1  # the epoch their supernet began
        self.shown: tuple[int, int] | None = None  # epoch, step of the last alpha step
        self.waiting: tuple[tuple[int, int], str, dict[str, Tensor]] | None = (
            None  # gradients of the first half of the step at hand
        )
        self.bytes = 0

    def bind(self, state: State) -> None:
        net = state.nets["search"]
        before = (
            {names[0]: op for op, names in enumerate(self.ops)} if self.born == state.born else {}
        )  # of a new supernet all learns
        self.ops, self.born = list(parametric(net, state.space.groups)), state.born
        stay = {op: before[names[0]] for op, names in enumerate(self.ops) if names[0] in before}
        self.rest = [op for op, was in stay.items() if was in self.rest]
        self.counts, sums = (
            [self.counts[stay[op]] if op in stay else 0 for op in range(len(self.ops))],
            self.sums,
        )
        self.sums = torch.zeros(len(self.ops), device=state.device)
        self.sums[list(stay)] = sums[list(stay.values())].to(self.sums)
        learning = set(self.learning())
        self.bytes = sum(
            p.numel() * p.element_size() for name, p in net.named_parameters() if name in learning
        )
        self.steps, self.epoch = (
            0,
            torch.zeros((), device=state.device),
        )  # of this epoch, the mean over ops added up

    def size(self) -> int:
        return self.bytes

    def learning(self) -> list[str]:
        """The parameters of the ops that do not rest."""
        rest = set(self.rest)
        return [name for op, names in enumerate(self.ops) if op not in rest for name in names]

    def resting(self) -> list[str]:
        return [name for op in self.rest for name in self.ops[op]]

    def see(self, half: str, found: Mapping[str, Tensor | None], context: Context) -> None:
        """The gradients of one half of a step. With the second, compares."""
        place = context.t.place
        if half == "alpha":
            self.shown = place
        if self.waiting and self.waiting[0] == place and self.waiting[1] != half:
            both = {half: found, self.waiting[1]: self.waiting[2]}
            self.waiting = None
            self.compare(both["weight"], both["alpha"])
        else:  # copies: weights are moved by gradients scaled in place
            self.waiting = (
                place,
                half,
                {name: g.clone() for name in self.learning() if (g := found[name]) is not None},
            )

    def compare(self, train: Mapping[str, Tensor | None], val: Mapping[str, Tensor | None]) -> None:
        """Adds a match to every op that learns and ran in both halves; judges those that have an interval of them."""
        halves, rest = (train, val), set(self.rest)
        ran = [
            op
            for op in range(len(self.ops))
            if op not in rest
            and all(h.get(name) is not None for name in self.ops[op] for h in halves)
        ]
        if not ran:
            return
        match = self.measure(
            *([[half[name] for name in self.ops[op]] for op in ran] for half in halves)  # type: ignore[arg-type]
        )
        self.sums[ran] += match
        self.epoch, self.steps = self.epoch + match.mean(), self.steps + 1
        for op in ran:
            self.counts[op] += 1
        if due := [op for op in ran if self.counts[op] == self.interval]:
            means = (self.sums[due] / self.interval).tolist()
            self.rest += [op for op, mean in zip(due, means, strict=True) if mean < self.threshold]
            self.sums[due] = 0
            for op in due:
                self.counts[op] = 0

    def after_step(self, forward: Forward) -> None:
        if forward.context.phase == "alpha" and self.shown != forward.context.t.place:
            raise ValueError(
                "oles compares gradients in an alpha step of its own: leave out darts.hypergradient"
            )

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        """Columns: the mean match of what learnt, and the share of ops that rest."""
        row: dict[str, Any] = (
            {"gradient_match": self.epoch.item() / self.steps} if self.steps else {}
        )
        self.steps, self.epoch = 0, torch.zeros_like(self.epoch)
        row["frozen"] = len(self.rest) / max(len(self.ops), 1)
        if self.stop and self.ops and len(self.rest) == len(self.ops):
            row["stop"] = "every op rests"
        return row

    def state_dict(self) -> dict[str, Any]:
        kept = {"born": self.born, "rest": list(self.rest), "counts": list(self.counts)}
        return {**kept, "sums": self.sums, "steps": self.steps, "epoch": self.epoch}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.born, self.rest, self.counts, self.steps = (
            saved["born"],
            list(saved["rest"]),
            list(saved["counts"]),
            saved["steps"],
        )
        self.sums, self.epoch = saved["sums"].clone(), saved["epoch"]


def parametric(net: nn.Module, groups: Groups) -> Iterator[list[str]]:
    """The names of the parameters of every op that has some, skips aside [author code]: also at stride 2, where they are convolutions."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    for group_name, group in groups.items():
        for index, edge in enumerate(group.edges):
            for name in edge.primitives:
                for module in net.ops(group_name, index, name) if name not in group.free else ():  # type: ignore[operator, union-attr]
                    if own := [names[id(parameter)] for parameter in module.parameters()]:
                        yield own
