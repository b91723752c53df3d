"""The memory of OLES (arXiv 2311.04591).

It compares the training gradient and the validation gradient of every op, and it keeps the ops that
have stopped learning. In this file such an op rests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.arch.edges import Groups
from archgrad.components.context import Context, Forward
from archgrad.searching.types import Memory, Method, SearchData, State

PerOp = list[list[Tensor]]
"""A list for each op, of the gradients of its weights."""
Measure = Callable[[PerOp, PerOp], Tensor]
"""Training and validation gradients of the ops -> the match of each op, (ops,)."""


def cosine_match(train: PerOp, val: PerOp) -> Tensor:
    """Return the cosine of the two gradients of each op, (ops,), with all weights as one vector.

    This is the measure of the paper. An op with a gradient of 0 has the match 0.
    """
    g, h = (torch.cat([tensor.flatten() for op in half for tensor in op]) for half in (train, val))
    sizes = torch.tensor([sum(tensor.numel() for tensor in op) for op in train], device=g.device)
    inner, first, second = torch.segment_reduce(
        torch.stack([g * h, g * g, h * h], 1), "sum", lengths=sizes
    ).unbind(1)
    scale = (first * second).sqrt()
    return inner / scale.where(scale > 0, 1.0)


def released_match(train: PerOp, val: PerOp) -> Tensor:
    """Return the match of each op as the authors' code computes it, (ops,).

    It is the cosine of the training gradient and the sum of both gradients, along the output
    channels of each tensor. The mean is over all other dimensions, then over the tensors. The sum
    comes from the authors' ``grad``, which holds both gradients by then [author code].
    """

    def match(op: list[Tensor], other: list[Tensor]) -> Tensor:
        return torch.stack(
            [F.cosine_similarity(g, g + h, dim=0).mean() for g, h in zip(op, other, strict=True)]
        ).mean()

    return torch.stack([match(*both) for both in zip(train, val, strict=True)])


MEASURES: dict[str, Measure] = {"paper": cosine_match, "released": released_match}


class GradientMatches(Memory):
    """The match of the two gradients of every op, and the list of ops that rest.

    An op is a module here, so each cell has its own. An op is judged by its mean match over
    ``interval`` steps.

    Args:
        threshold: Mean match below which an op rests.
        interval: Number of steps over which a match is averaged.
        measure: The function that computes a match.
        stop: Whether the search ends when every op rests.
    """

    def __init__(self, threshold: float, interval: int, measure: Measure, stop: bool) -> None:
        self.threshold, self.interval, self.measure, self.stop = threshold, interval, measure, stop
        self.ops: list[list[str]] = []  # for each op, the names of its parameters
        self.resting_ops: list[int] = []  # the ops that rest, by their place in `ops`
        self.counts: list[int] = []  # for each op, the steps since it was last judged
        self.op_match_sums = torch.zeros(0)  # for each op, the sum of its matches over these steps
        self.born = -1  # the first epoch of the supernet that the ops belong to
        self.last_alpha_step: tuple[int, int] | None = None  # epoch and step of the last alpha step
        # Place and half of a step, and the gradients of that half, until the other half has run.
        self.waiting_half: tuple[tuple[int, int], str, dict[str, Tensor]] | None = None
        self.bytes = 0

    def bind(self, state: State) -> None:
        net = state.nets["search"]
        before = (  # in a new supernet all ops learn
            {names[0]: op for op, names in enumerate(self.ops)} if self.born == state.born else {}
        )
        self.ops, self.born = list(parametric(net, state.space.groups)), state.born
        stay = {op: before[names[0]] for op, names in enumerate(self.ops) if names[0] in before}
        self.resting_ops = [op for op, was in stay.items() if was in self.resting_ops]
        self.counts, sums = (
            [self.counts[stay[op]] if op in stay else 0 for op in range(len(self.ops))],
            self.op_match_sums,
        )
        self.op_match_sums = torch.zeros(len(self.ops), device=state.device)
        self.op_match_sums[list(stay)] = sums[list(stay.values())].to(self.op_match_sums)
        learning = set(self.learning_parameters())
        self.bytes = sum(
            p.numel() * p.element_size() for name, p in net.named_parameters() if name in learning
        )
        self.steps = 0  # steps of this epoch that had a match
        self.match_sum = torch.zeros((), device=state.device)  # sum over them of the mean over ops

    def size(self) -> int:
        return self.bytes

    def learning_parameters(self) -> list[str]:
        """Return the names of the parameters of the ops that do not rest."""
        rest = set(self.resting_ops)
        return [name for op, names in enumerate(self.ops) if op not in rest for name in names]

    def resting_parameters(self) -> list[str]:
        """Return the names of the parameters of the ops that rest."""
        return [name for op in self.resting_ops for name in self.ops[op]]

    def take_gradients(
        self, half: str, found: Mapping[str, Tensor | None], context: Context
    ) -> None:
        """Take the gradients of one half of a step, and compare them once both halves are there.

        Args:
            half: "weight" or "alpha".
            found: Gradients by the name of the parameter.
            context: The context of the pass, which has the epoch and the step.
        """
        place = context.progress.step_key
        if half == "alpha":
            self.last_alpha_step = place
        if self.waiting_half and self.waiting_half[0] == place and self.waiting_half[1] != half:
            both = {half: found, self.waiting_half[1]: self.waiting_half[2]}
            self.waiting_half = None
            self.compare(both["weight"], both["alpha"])
        else:  # copies, because the clipping of the weight step scales the gradients in place
            self.waiting_half = (
                place,
                half,
                {
                    name: g.clone()
                    for name in self.learning_parameters()
                    if (g := found[name]) is not None
                },
            )

    def compare(self, train: Mapping[str, Tensor | None], val: Mapping[str, Tensor | None]) -> None:
        """Add a match to each learning op that ran in both halves, and judge the ops that are due.

        An op is due when it has as many matches as the interval has steps.
        """
        halves, rest = (train, val), set(self.resting_ops)
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
        self.op_match_sums[ran] += match
        self.match_sum, self.steps = self.match_sum + match.mean(), self.steps + 1
        for op in ran:
            self.counts[op] += 1
        if due := [op for op in ran if self.counts[op] == self.interval]:
            means = (self.op_match_sums[due] / self.interval).tolist()
            self.resting_ops += [
                op for op, mean in zip(due, means, strict=True) if mean < self.threshold
            ]
            self.op_match_sums[due] = 0
            for op in due:
                self.counts[op] = 0

    def after_step(self, forward: Forward) -> None:
        if (
            forward.context.phase == "alpha"
            and self.last_alpha_step != forward.context.progress.step_key
        ):
            raise ValueError(
                "oles needs its own alpha step, in which it compares gradients: "
                "leave out darts.hypergradient"
            )

    def after_epoch(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> dict[str, Any]:
        """Return as metrics the mean match of the learning ops and the fraction of resting ops."""
        row: dict[str, Any] = (
            {"gradient_match": self.match_sum.item() / self.steps} if self.steps else {}
        )
        self.steps, self.match_sum = 0, torch.zeros_like(self.match_sum)
        row["frozen"] = len(self.resting_ops) / max(len(self.ops), 1)
        if self.stop and self.ops and len(self.resting_ops) == len(self.ops):
            row["stop"] = "every op has stopped learning"
        return row

    def state_dict(self) -> dict[str, Any]:
        kept = {"born": self.born, "rest": list(self.resting_ops), "counts": list(self.counts)}
        return {**kept, "sums": self.op_match_sums, "steps": self.steps, "epoch": self.match_sum}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.born, self.resting_ops, self.counts, self.steps = (
            saved["born"],
            list(saved["rest"]),
            list(saved["counts"]),
            saved["steps"],
        )
        self.op_match_sums, self.match_sum = saved["sums"].clone(), saved["epoch"]


def parametric(net: nn.Module, groups: Groups) -> Iterator[list[str]]:
    """Yield, for each op with parameters, their names; skips are left out [author code].

    This holds for skips at stride 2 too, although they are convolutions there.
    """
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    for group_name, group in groups.items():
        for index, edge in enumerate(group.edges):
            for name in edge.primitives:
                for module in net.ops(group_name, index, name) if name not in group.free else ():  # type: ignore[operator]
                    if own := [names[id(p)] for p in module.parameters() if p.requires_grad]:
                        yield own
