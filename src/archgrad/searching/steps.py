"""One step of a search, and the parts that a step is made of.

`Bilevel` is the step of DARTS: alphas learn from validation images and weights from training
images, in either order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
from archgrad.components.gradients import (
    Gradients,
    NamedTensors,
    clip,
    frozen,
    gradients,
    probing,
    update,
    with_zeros,
)
from archgrad.components.hypergradient import Problem
from archgrad.components.losses import Term, task
from archgrad.components.schedules import cosine
from archgrad.errors import short_repr
from archgrad.searching.finite import ALPHAS, Trace, largest_value
from archgrad.searching.patch import CHANGES
from archgrad.searching.types import Values
from archgrad.seeds import seeded

if TYPE_CHECKING:
    from archgrad.searching.types import Method, Plan, State


def forward(
    method: Method,
    state: State,
    net: str,
    phase: str,
    batch: Batch,
    alphas: Alphas,
    weights: NamedTensors | None = None,
    mixture: Mixture | None = None,
) -> Forward:
    """Return one forward pass of ``state.nets[net]``.

    Dropout, drop-path and noise draw from a generator seeded by the place, so a repeated pass has
    the same draws.

    Args:
        method: Method of the search.
        state: State of the search.
        net: Name of the network.
        phase: "weight", "alpha" or "readout".
        batch: Batch of images.
        alphas: Logits by name of the edge group.
        weights: Weights in the place of the network's own, by name.
        mixture: Mixture in the place of that of ``alphas``.
    """
    context = method.context(state, phase)
    mixture = mixture or method.mixture(alphas, context)
    module = state.nets[net]
    place = (state.seed, net, phase, state.epoch, state.step)

    def run(mixture: Mixture, weights: NamedTensors | None) -> Output:
        mixture = replace(mixture, recompute=state.recompute == "cells")
        with seeded(*place, device=state.device), autocast(state):
            arguments, drop = (batch.images, mixture), {"drop_path": mixture.drop_path}
            output: Output = (
                module(*arguments, **drop)
                if weights is None
                else functional_call(module, dict(weights), arguments, drop)
            )
            return output

    @torch.no_grad()
    def again(alphas: Alphas, weights: NamedTensors | None) -> Output:
        with probing(module):
            return run(method.mixture(alphas, context).without_dropout(), weights)

    return Forward(
        alphas, mixture, run(mixture, weights), batch, module, context, again, method.patch.loss
    )


def autocast(state: State) -> torch.autocast:
    """Return the autocast context of the state's precision."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.precision == "bf16")


def total_loss(terms: tuple[Term, ...], passed: Forward, trace: Trace) -> Tensor:
    """Return the sum of the terms.

    The trace records when the value of a term first exceeds its bound.
    """
    each = torch.stack([term_value(term, passed) for term in terms])
    trace.note(terms, each)
    return each.sum() if len(terms) > 1 else each[0]


def term_value(term: Term, passed: Forward) -> Tensor:
    """Return the value of one term.

    Raises:
        ValueError: The value is not a scalar tensor.
    """
    value = term(passed)
    if torch.is_tensor(value) and not value.dim():
        return value
    given = (
        f"a tensor of shape {tuple(value.shape)}" if torch.is_tensor(value) else short_repr(value)
    )
    raise ValueError(
        f"loss term {getattr(term, '__name__', type(term).__name__)!r} returned {given}; "
        "a scalar tensor is expected"
    )


@torch.no_grad()
def pass_metrics(method: Method, prefix: str, passes: Sequence[tuple[float, Forward]]) -> Values:
    """Return the loss and the metrics of one half of a step, named as in the records.

    The loss is that of the labels, without the further terms of the method.

    Args:
        method: Method of the search.
        prefix: Name of the half.
        passes: Passes of the parts of the batch, each behind its share of the samples.
    """
    found: Values = {}
    for share, passed in passes:
        values = {"loss": task(passed)}
        for name, metric in method.metrics.items():
            if (value := metric(passed.output, passed.batch)) is not None:
                values[name] = value
        for name, value in values.items():
            value = value.detach()  # the loss of a user's function has a graph
            part = value if len(passes) == 1 else share * value
            key = f"{prefix}_{name}"
            found[key] = found[key] + part if key in found else part
    return found


MakeOptimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
"""(parameters) -> optimizer."""


def weight_optimizer(parameters: Iterable[Tensor], method: Method) -> torch.optim.SGD:
    """Return SGD of supernet weights, with the method's weight settings."""
    settings = method.weights
    # The fused SGD of torch fails where an op did not run in the first step, because the op has no
    # momentum yet.
    return torch.optim.SGD(
        parameters,
        settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.decay,
        foreach=True,
    )


def set_learning_rate(method: Method, state: State, optimizer: str) -> None:
    """Set an optimizer of weights to the current learning rate of the method's settings."""
    settings = method.weights
    rate = cosine(settings.lr, settings.lr_end, settings.per)
    for group in state.optimizers[optimizer].param_groups:
        group["lr"] = rate(method.context(state, "weight"))


def alpha_optimizer(method: Method, state: State) -> torch.optim.Adam:
    """Return Adam of the alphas, with the method's alpha settings for this length of search."""
    settings = method.alpha_settings(state.plan)
    return torch.optim.Adam(
        state.alphas.values(),
        settings.lr,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.decay,
        foreach=True,
    )


@dataclass(frozen=True)
class Bilevel:
    """Take the step of DARTS (arXiv 1806.09055, algorithm 1).

    Attributes:
        optimizer: Function that makes the optimizer of the weights, whose learning rate is then
            the user's; None is SGD by the method's settings.
    """

    optimizer: MakeOptimizer | None = None
    reads = CHANGES

    def nets(self, space: Space) -> dict[str, nn.Module]:
        return {"search": space.supernet()}

    def optimizers(self, method: Method, state: State) -> dict[str, torch.optim.Optimizer]:
        weights = state.nets["search"].parameters()
        return {
            "weights": self.optimizer(weights)
            if self.optimizer
            else weight_optimizer(weights, method),
            "alphas": alpha_optimizer(method, state),
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
        if self.optimizer is None:
            set_learning_rate(method, state, "weights")
        if not method.moves_alphas(state):
            return weight_step(method, state, train, val)
        if method.order == "weight_first":
            weight_values = weight_step(method, state, train, val)
            return {**weight_values, **alpha_step(method, state, train, val)}
        alpha_values = alpha_step(method, state, train, val)
        return {**alpha_values, **weight_step(method, state, train, val)}


def alpha_step(method: Method, state: State, train: Batch, val: Batch) -> Values:
    """Take one step of Adam on the alphas, by the method's hypergradient, and return metrics."""
    images = {"train": train, "val": val}[method.alpha_split]
    found: Gradients = {}
    passes = []
    for (share, of_images), (_, of_train) in zip(
        images.split(state.parts), train.split(state.parts)
    ):
        part, passed = part_hypergradient(method, state, of_train, of_images)
        if state.parts > 1:
            part = {name: share * gradient for name, gradient in part.items()}
        found = added(found, dict(part))
        passes.append((share, passed))
    move_alphas(state, with_zeros(found, state.alphas))
    show_to_memories(state, passed)
    return pass_metrics(method, method.alpha_split, passes)


def part_hypergradient(
    method: Method, state: State, train: Batch, images: Batch
) -> tuple[dict[str, Tensor], Forward]:
    """Return the gradient of the alphas on ``images``, and its pass.

    Args:
        method: Method of the search.
        state: State of the search.
        train: Batch of training images, for a virtual step of the weights.
        images: Batch that the alphas learn from.
    """
    net = state.nets["search"]

    def upper(alphas: Alphas, weights: NamedTensors | None) -> tuple[Tensor, Forward]:
        passed = forward(method, state, "search", "alpha", images, alphas, weights)
        return total_loss(method.alpha_terms, passed, state.trace), passed

    def lower(alphas: Alphas, weights: NamedTensors | None) -> tuple[Tensor, Forward]:
        return weight_loss(method, state, train, alphas, weights)

    problem = Problem(net, state.alphas, trained(net), state.optimizers["weights"], upper, lower)
    found, passed = method.hypergradient(problem)
    if method.patch.train_alpha_terms:
        further = train_gradients(method, state, train)
        found = {name: gradient + further[name] for name, gradient in found.items()}
    return dict(found), passed


def train_gradients(method: Method, state: State, train: Batch) -> NamedTensors:
    """Return the gradient of the alphas' terms on training images, at the current weights.

    It is added to the hypergradient. The statistics of BatchNorms stay as they were.
    """
    net = state.nets["search"]
    with probing(net), frozen(net.parameters()):
        passed = forward(method, state, "search", "alpha", train, state.alphas)
        found = gradients(
            total_loss(method.patch.train_alpha_terms, passed, state.trace),
            state.alphas,
            zeros=True,
        )
    return with_zeros(found, state.alphas)


def weight_step(method: Method, state: State, train: Batch, val: Batch) -> Values:
    """Take one step of SGD on the supernet weights, and return metrics.

    The alphas are detached, because this half of the step does not train them.
    """
    net = state.nets["search"]
    named = trained(net)
    alphas = {name: rows.detach() for name, rows in state.alphas.items()}
    found: Gradients = {}
    passes = []
    for share, part in train.split(state.parts):
        loss, passed = weight_loss(method, state, part, alphas, None)
        loss = loss if state.parts == 1 else share * loss
        found = added(found, gradients(loss, named))
        passes.append((share, passed))
    for transform in method.patch.transforms:
        found = transform(found, passed)
    move_weights(method, state, "weights", named, found)
    show_to_memories(state, passed)
    return pass_metrics(method, "train", passes)


def trained(net: nn.Module) -> dict[str, Tensor]:
    """Return the parameters by name, without those that the user has frozen."""
    return {name: weight for name, weight in net.named_parameters() if weight.requires_grad}


def added(one: Gradients, other: Gradients) -> Gradients:
    """Return the sum of two sets of gradients; None counts as nothing."""
    found = dict(other)
    for name, gradient in one.items():
        further = other[name]
        found[name] = gradient if further is None else further
        if gradient is not None and further is not None:
            found[name] = gradient + further
    return found


def move_alphas(state: State, found: NamedTensors) -> None:
    """Take one step of Adam on the alphas. The trace records the largest of them."""
    update(state.optimizers["alphas"], state.alphas, found)
    state.trace.note((ALPHAS,), largest_value(state.alphas.values()))


def move_weights(
    method: Method, state: State, optimizer: str, named: NamedTensors, found: Gradients
) -> None:
    """Take one step of SGD on the weights ``named``, with clipped gradients."""
    clip(found, method.weights.clip)
    update(state.optimizers[optimizer], named, found)


def show_to_memories(state: State, passed: Forward) -> None:
    """Show a pass to the memories, after the update that it led to."""
    for memory in state.memory.values():
        memory.after_step(passed)


def weight_loss(
    method: Method, state: State, train: Batch, alphas: Alphas, weights: NamedTensors | None
) -> tuple[Tensor, Forward]:
    """Return the training loss at the mixture of ``alphas``, and its pass.

    Where the method perturbs the mixture, the loss is a weighted sum over the perturbed mixtures,
    and the pass is that of the first of them.
    """
    net = state.nets["search"]

    def loss_at(mixture: Mixture) -> tuple[Tensor, Forward]:
        passed = forward(method, state, "search", "weight", train, alphas, weights, mixture)
        return total_loss(method.weight_terms, passed, state.trace), passed

    context = method.context(state, "weight")
    mixture = method.mixture(alphas, context)
    if method.patch.perturb is None:
        return loss_at(mixture)

    def probe(moved: Mixture) -> Tensor:
        return loss_at(moved)[0]

    # The gradients of a probe are taken inside too, where a module of the user's may recompute it.
    with probing(net), frozen(net.parameters()):
        perturbed = method.patch.perturb(mixture, probe, context)
    parts = [(share, *loss_at(moved)) for share, moved in perturbed]
    return torch.stack([share * loss for share, loss, _ in parts]).sum(), parts[0][2]
