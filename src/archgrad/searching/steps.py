"""One training step. `Bilevel` is DARTS's: alphas on validation images, weights on training images, in either order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from archgrad.arch.edges import Alphas
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Output
from archgrad.arch.space import Space
from archgrad.components.context import Forward
from archgrad.components.gradients import Named, clip, frozen, gradients, present, probing, update
from archgrad.components.hypergradient import Problem
from archgrad.components.losses import Term, task
from archgrad.components.schedules import cosine
from archgrad.errors import shown
from archgrad.searching.finite import ALPHAS, Trace, largest
from archgrad.searching.types import Values
from archgrad.seeds import forked

if TYPE_CHECKING:
    from archgrad.searching.types import Method, Plan, State


def forward(
    method: Method,
    state: State,
    net: str,
    phase: str,
    batch: Batch,
    alphas: Alphas,
    weights: Named | None = None,
    mixture: Mixture | None = None,
) -> Forward:
    """One pass of ``state.nets[net]`` under the mixture of ``alphas`` (or one given); ``weights`` stand in for the net's own.

    Dropout, drop-path and noise draw from a generator seeded by the place, so a repeated pass sees the same draw.
    """
    context = method.context(state, phase)
    mixture = mixture or method.mixture(alphas, context)
    module = state.nets[net]
    place = (state.seed, net, phase, state.epoch, state.step)

    def run(mixture: Mixture, weights: Named | None) -> Output:
        mixture = replace(mixture, recompute=state.recompute == "cells")
        with forked(*place, device=state.device), autocast(state):
            arguments, drop = (batch.images, mixture), {"drop_path": mixture.drop_path}
            return (
                module(*arguments, **drop)
                if weights is None
                else functional_call(module, dict(weights), arguments, drop)
            )

    @torch.no_grad()
    def again(alphas: Alphas, weights: Named | None) -> Output:
        with probing(module):
            return run(method.mixture(alphas, context).whole(), weights)

    return Forward(
        alphas, mixture, run(mixture, weights), batch, module, context, again, method.patch.loss
    )


def autocast(state: State) -> torch.autocast:
    """The precision of the state's forward passes."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.precision == "bf16")


def total(terms: tuple[Term, ...], passed: Forward, trace: Trace) -> Tensor:
    """The sum of the terms, whose sizes the trace notes."""
    each = torch.stack([scalar(term, passed) for term in terms])
    trace.note(terms, each)
    return each.sum() if len(terms) > 1 else each[0]


def scalar(term: Term, passed: Forward) -> Tensor:
    """The value of one term. ValueError where it is none that a loss can be summed of."""
    value = term(passed)
    if not torch.is_tensor(value) or value.dim():
        what = f"a tensor of shape {tuple(value.shape)}" if torch.is_tensor(value) else shown(value)
        raise ValueError(
            f"term {getattr(term, '__name__', type(term).__name__)!r} of the loss gives {what}: a scalar tensor is expected"
        )
    return value


@torch.no_grad()
def measures(prefix: str, passed: Forward) -> Values:
    """Loss of the labels and accuracy of one pass, as they stand in the metrics; a method's further terms are not in them."""
    right = (passed.output.logits.argmax(1) == passed.batch.labels).float().mean()
    return {f"{prefix}_loss": task(passed), f"{prefix}_accuracy": right}


def sgd(parameters: Iterable[Tensor], method: Method) -> torch.optim.SGD:
    """SGD of supernet weights, by the method's weight settings."""
    s = method.weights
    # foreach, not fused: torch's fused SGD fails where an op idled in the first step and so has no momentum yet.
    return torch.optim.SGD(
        parameters,
        s.lr,
        momentum=s.momentum,
        nesterov=s.nesterov,
        weight_decay=s.decay,
        foreach=True,
    )


def set_rate(method: Method, state: State, optimizer: str) -> None:
    """The learning rate of now, by the method's weight settings."""
    s = method.weights
    for group in state.optimizers[optimizer].param_groups:
        group["lr"] = cosine(s.lr, s.lr_end, s.per)(method.context(state, "weight"))


def adam(method: Method, state: State) -> torch.optim.Adam:
    """Adam of the alphas, by the method's alpha settings in a search of this length."""
    s = method.alpha_settings(state.plan)
    return torch.optim.Adam(
        state.alphas.values(), s.lr, betas=(s.beta1, s.beta2), weight_decay=s.decay, foreach=True
    )


@dataclass(frozen=True)
class Bilevel:
    """DARTS (arXiv 1806.09055, algorithm 1)."""

    reads = frozenset({
        "relax", "readout", "select", "reshape", "loss", "weight_terms", "alpha_terms", "train_alpha_terms", "memory", "scalars",
        "extra_alphas", "hypergradient", "alpha_split", "perturb", "transforms", "stages", "finalise", "ahead", "order", "alpha_from", "lengths",
        "limits", "space", "weights", "alphas", "with_rate", "stepper",
    })  # fmt: skip

    def nets(self, space: Space) -> dict[str, nn.Module]:
        return {"search": space.supernet()}

    def optimizers(self, method: Method, state: State) -> dict[str, torch.optim.Optimizer]:
        return {
            "weights": sgd(state.nets["search"].parameters(), method),
            "alphas": adam(method, state),
        }

    def steps(self, method: Method, plan: Plan, epoch: int) -> int:
        return plan.steps

    def alpha_steps(self, method: Method, plan: Plan, epoch: int) -> int:
        return plan.steps if method.moves_alphas_in(epoch, plan.epochs) else 0

    def begin_epoch(self, method: Method, state: State) -> None:
        pass

    def phase(self, method: Method, state: State) -> str:
        return "search" if method.moves_alphas(state) else "weights only"

    def step(self, method: Method, state: State, train: Batch, val: Batch) -> Values:
        set_rate(method, state, "weights")
        halves = [alpha_step] * method.moves_alphas(state) + [weight_step]
        if method.order == "weight_first":
            halves.reverse()
        return {
            name: value
            for half in halves
            for name, value in half(method, state, train, val).items()
        }


def alpha_step(method: Method, state: State, train: Batch, val: Batch) -> Values:
    """Adam on the alphas, by the method's hypergradient of the loss on their images."""
    net, images = state.nets["search"], {"train": train, "val": val}[method.alpha_split]

    def upper(alphas: Alphas, weights: Named | None) -> tuple[Tensor, Forward]:
        passed = forward(method, state, "search", "alpha", images, alphas, weights)
        return total(method.alpha_terms, passed, state.trace), passed

    def lower(alphas: Alphas, weights: Named | None) -> tuple[Tensor, Forward]:
        return weight_loss(method, state, train, alphas, weights)

    problem = Problem(
        net, state.alphas, dict(net.named_parameters()), state.optimizers["weights"], upper, lower
    )
    found, passed = method.hypergradient(problem)
    if method.train_alpha_terms:
        further = train_gradients(method, state, train)
        found = {name: gradient + further[name] for name, gradient in found.items()}
    move_alphas(state, found)
    remember(state, passed)
    return measures(method.alpha_split, passed)


def train_gradients(method: Method, state: State, train: Batch) -> Named:
    """The gradient by the alphas of the terms on training images, at the weights of now. It is added to any hypergradient; the pass for it
    leaves the statistics of BatchNorms as they were."""
    net = state.nets["search"]
    with probing(net), frozen(net.parameters()):
        passed = forward(method, state, "search", "alpha", train, state.alphas)
        found = gradients(
            total(method.train_alpha_terms, passed, state.trace), state.alphas, zeros=True
        )
    return present(found, state.alphas)


def weight_step(method: Method, state: State, train: Batch, val: Batch) -> Values:
    """SGD on the supernet weights; what this half does not train carries no gradient."""
    net = state.nets["search"]
    named = dict(net.named_parameters())
    loss, passed = weight_loss(
        method, state, train, {name: a.detach() for name, a in state.alphas.items()}, None
    )
    found = gradients(loss, named)
    for transform in method.patch.transforms:
        found = transform(found, passed)
    descend(method, state, "weights", named, found)
    remember(state, passed)
    return measures("train", passed)


def move_alphas(state: State, found: Named) -> None:
    """One step of Adam on the alphas, whose largest the trace notes."""
    update(state.optimizers["alphas"], state.alphas, found)
    state.trace.note((ALPHAS,), largest(state.alphas.values()))


def descend(
    method: Method, state: State, optimizer: str, named: Named, found: dict[str, Tensor | None]
) -> None:
    """One step of SGD on the weights ``named``, whose gradients are clipped to the method's norm."""
    clip(found, method.weights.clip)
    update(state.optimizers[optimizer], named, found)


def remember(state: State, passed: Forward) -> None:
    for memory in state.memory.values():
        memory.after_step(passed)


def weight_loss(
    method: Method, state: State, train: Batch, alphas: Alphas, weights: Named | None
) -> tuple[Tensor, Forward]:
    """The training loss at the mixture of ``alphas``, or, where the method perturbs it, the weighted sum over its neighbours."""

    net = state.nets["search"]

    def at(mixture: Mixture) -> tuple[Tensor, Forward]:
        passed = forward(method, state, "search", "weight", train, alphas, weights, mixture)
        return total(method.weight_terms, passed, state.trace), passed

    context = method.context(state, "weight")
    mixture = method.mixture(alphas, context)
    if method.perturb is None:
        return at(mixture)

    def probe(moved: Mixture) -> Tensor:
        with probing(net), frozen(net.parameters()):
            return at(moved)[0]

    parts = [(share, *at(moved)) for share, moved in method.perturb(mixture, probe, context)]
    return torch.stack([share * loss for share, loss, _ in parts]).sum(), parts[0][2]
