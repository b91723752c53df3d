"""Patches that use every field of `Patch`, so that no type is without a user. Each is a small caricature of a method of the field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch import Alphas, Context, EdgeGroup, Forward, Genotype, Mixture
from archgrad.diagnostics.accuracy import accuracy
from archgrad.gradients import gradients, update
from archgrad.hypergradient import second_order
from archgrad.patch import Decision, Patch, Stage
from archgrad.relax import masked_softmax, softmax
from archgrad.schedules import linear, share
from archgrad.search_method import Method
from archgrad.search_space import Space
from archgrad.seeds import forked
from archgrad.select import strongest
from archgrad.state import Data, State
from archgrad.terms import weighted


class Average:
    """A memory of a number and of a tensor: the running mean of the loss and of the logits."""

    def __init__(self) -> None:
        self.loss, self.logits = 0.0, None

    def bind(self, state: State) -> None:
        self.logits = None  # what depends on the supernet clears, the number stays

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        if forward.context.phase != "weight":
            return
        logits = forward.output.logits.detach().mean(0)
        self.logits = logits if self.logits is None else 0.9 * self.logits + 0.1 * logits
        self.loss = 0.9 * self.loss + 0.1 * F.cross_entropy(forward.output.logits, forward.batch.labels).item()

    def after_epoch(self, method: Method, state: State, data: Data, context: Context) -> dict[str, Any]:
        return {"remembered": self.loss}

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "logits": self.logits}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.loss, self.logits = saved["loss"], saved["logits"]


def pull(forward: Forward) -> Tensor:
    """A term that reads the memory."""
    average = forward.context.memory["average"]
    if average.logits is None:
        return forward.output.logits.new_zeros(())
    return average.loss * (forward.output.logits - average.logits).square().mean()


def memory() -> Patch:
    return Patch("memory", memory={"average": Average}, weight_terms=(weighted(linear(0.1, 0.3), pull),))


def edge_factor(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """A softmax over the inputs of each node (PC-DARTS)."""
    weights = dict(mixture.weights)
    for name, group in context.groups.items():
        factor = torch.zeros(len(group.edges), device=alphas[name].device)
        for edges in group.nodes().values():
            factor = factor.index_put((torch.tensor(edges),), alphas[f"{name}/edge"][edges].softmax(0))
        weights[name] = weights[name] * factor[:, None]
    return replace(mixture, weights=weights)


def reshape() -> Patch:
    return Patch("reshape", extra_alphas={"edge": lambda group: (len(group.edges),)}, reshape=(edge_factor,), alpha_from=share(1, of=4))


def pruned(state: State) -> Space:
    """The two strongest ops of every edge."""
    rows = softmax(state.alphas, Context(state.space.groups, None, "readout", {}, 0)).weights  # type: ignore[arg-type]
    return state.space.resized(
        primitives={name: tuple(map(tuple, kept)) for name, group in state.space.groups.items() if (kept := strong(rows[name], group))}
    )


def strong(weights: Tensor, group: EdgeGroup) -> list[list[str]]:
    best = weights.detach().argsort(dim=1, descending=True, stable=True).tolist()
    return [
        [p for k, p in enumerate(edge.primitives) if k in [c for c in order if c < len(edge.primitives)][:2]]
        for edge, order in zip(group.edges, best, strict=True)
    ]


def keep_alphas(old: State, new: State) -> None:
    """The logits of the ops that stay."""
    for name, group in new.space.groups.items():
        for e, edge in enumerate(group.edges):
            columns = [old.space.groups[name].edges[e].primitives.index(p) for p in edge.primitives]
            new.alphas[name].data[e, : len(columns)] = old.alphas[name].data[e, columns]


def stages() -> Patch:
    return Patch("stages", stages=(Stage(share(1, of=2), pruned, keep_alphas),))


def three_decisions(method: Method, state: State, data: Data, decisions: list[Decision]) -> Iterator[Decision]:
    """The first group's first three edges get, one by one, the op whose removal hurts most; between decisions the weights learn on."""
    name, group = next(iter(state.space.groups.items()))
    net = state.nets["search"]
    named = dict(net.named_parameters())
    fixed: dict[int, int] = {int(e): k for e, k in decisions[-1].note["fixed"].items()} if decisions else {}
    for e in range(len(fixed), 3):
        keep = softmax(state.alphas, Context(state.space.groups, None, "readout", {}, 0)).detach()  # type: ignore[arg-type]
        for edge, k in fixed.items():
            keep.weights[name][edge] = F.one_hot(torch.tensor(k), group.width)
        drops = []
        for k in range(len(group.edges[e].primitives)):
            without = {g: w.clone() for g, w in keep.weights.items()}
            without[name][e, k] = 0
            drops.append(accuracy(net, Mixture(without), data.evaluation("val"), state.seed, e, k)[1])
        fixed[e] = max(range(len(drops)), key=drops.__getitem__)
        keep.weights[name][e] = F.one_hot(torch.tensor(fixed[e]), group.width)
        batch = next(iter(data.batches("train", state.epoch, e, 1)))
        with forked(state.seed, "decision", e):
            loss = F.cross_entropy(net(batch.images, keep).logits, batch.labels)
        update(state.optimizers["weights"], named, gradients(loss, named))
        yield Decision(strongest(keep, state.space.groups), {"fixed": {str(edge): k for edge, k in fixed.items()}})


def finalise() -> Patch:
    return Patch("finalise", finalise=three_decisions)


def one_path(alphas: Alphas, context: Context) -> Mixture:
    """One op per edge, drawn by its probability; straight-through (GDAS)."""
    weights, active = {}, {}
    for name, group in context.groups.items():
        p = masked_softmax(alphas[name], group)
        rng = context.rng(f"path/{name}", p.device)
        hard = F.one_hot(torch.multinomial(p.detach() + 1e-9 * group.mask(p.device), 1, generator=rng)[:, 0], group.width).to(p.dtype)
        weights[name], active[name] = hard + (p - p.detach()), (hard > 0).cpu()
    return Mixture(weights, active)


def sampled() -> Patch:
    return Patch("sampled", relax=one_path, readout=softmax)


def cells_differ(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """(edges, ops) -> (cells, edges, ops), each cell with a factor of its own, near 1."""
    factors = {name: 1 + 0.1 * alphas[f"{name}/cell"].tanh() for name in context.groups}
    return replace(mixture, weights={name: w * factors[name] for name, w in mixture.weights.items()})


def per_cell() -> Patch:
    return Patch(
        "per_cell",
        extra_alphas={"cell": lambda group: (max(group.cells, 1), len(group.edges), group.width)},
        reshape=(cells_differ,),
    )


def shaken(mixture: Mixture, loss_at: Callable[[Mixture], Tensor], context: Context) -> list[tuple[float, Mixture]]:
    """Half the loss at the mixture, half where it is worst within a small step (SmoothDARTS), which probes the loss once."""
    probe = mixture.map(lambda w: w.detach().clone().requires_grad_())
    slopes = gradients(loss_at(probe), probe.weights, zeros=True)
    worst = replace(mixture, weights={name: w + 0.01 * slopes[name].sign() for name, w in mixture.weights.items()})
    return [(0.5, mixture), (0.5, worst)]


def perturb() -> Patch:
    return Patch("perturb", perturb=shaken)


def spread(forward: Forward) -> Tensor:
    """An alpha term: logsumexp of the alphas (Beta-DARTS)."""
    return torch.stack([forward.alphas[name].logsumexp(-1).mean() for name in forward.context.groups]).sum()


def decay() -> Patch:
    return Patch("decay", alpha_terms=(weighted(linear(0, 1), spread),), alphas={"decay": 0.0}, order="weight_first")


def unrolled() -> Patch:
    return Patch("unrolled", hypergradient=second_order)


def dropped(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
    """Dropout behind every skip while training (P-DARTS)."""
    return replace(mixture, dropout={"skip_connect": 0.3} if context.phase != "readout" else {})


def dropout() -> Patch:
    return Patch("dropout", reshape=(dropped,))


PATCHES: dict[str, Callable[[], Patch]] = {
    p.__name__: p
    for p in (memory, reshape, stages, finalise, sampled, per_cell, perturb, decay, unrolled, dropout)
}  # fmt: skip


def genotype_of(state: State) -> Genotype:
    return strongest(softmax(state.alphas, Context(state.space.groups, None, "readout", {}, 0)), state.space.groups)  # type: ignore[arg-type]
