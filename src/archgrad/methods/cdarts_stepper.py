"""The cycle of CDARTS (arXiv 2006.10724): a search network S and a deeper evaluation network E that runs what was selected from S.

An epoch is one of the paper's iterations: one pass over the images that trains S alone (pretraining), or a cycle: E is derived anew, warmed
up, and then both learn together, while E's answers steer the alphas. E is a supernet too, under the one-hot mixture of the genotype at hand:
so a weight trained in one cycle is there in the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archgrad.arch.edges import EdgeGroup, groups_of
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch
from archgrad.arch.space import Space
from archgrad.components.context import Forward
from archgrad.components.gradients import frozen, gradients, present
from archgrad.components.losses import task
from archgrad.methods.cdarts_heads import Distance, Heads
from archgrad.searching.steps import (
    adam,
    autocast,
    descend,
    forward,
    measures,
    move_alphas,
    remember,
    set_rate,
    sgd,
    total,
    weight_step,
)
from archgrad.searching.types import Method, Plan, State, Values

DISTILLATION = "distillation"
"""How a trace and `Patch.drives` name that term of the loss."""


class Joint(NamedTuple):
    """The loss of the joint stage on validation images, term by term, each a scalar, and the two passes."""

    labels: Tensor  # CE(S) + CE(E)
    distillation: Tensor
    further: Tensor  # what the method adds to the alphas' loss: the regulariser
    search: Forward
    evaluation: Forward

    @property
    def loss(self) -> Tensor:
        return self.labels + self.distillation + self.further


@dataclass(frozen=True)
class Cyclic:
    """``depth``: E's cells in multiples of S's (1 where depth is searched). ``affine``: E's BatchNorms in cells. ``share_classifier``: both
    have one. ``heads``: (channels, classes) -> `Heads`. ``warmup``, ``joint``: passes over the images in a cycle; ``share``: of the batches in
    each pass. ``keep``: optimizers live on from cycle to cycle. ``strength``, ``distance``: of the distillation; ``detach``: E learns nothing
    from it; ``divide``: the released code's division of both cross-entropies by the strength."""

    depth: float
    affine: bool
    share_classifier: bool
    heads: Callable[[Sequence[int], int], Heads]
    warmup: int
    joint: int
    share: float
    keep: bool
    strength: float
    distance: Distance
    detach: bool
    divide: bool

    reads = frozenset({
        "relax", "readout", "select", "reshape", "loss", "weight_terms", "alpha_terms", "memory", "scalars", "extra_alphas", "perturb",
        "transforms", "finalise", "ahead", "alpha_from", "lengths", "limits", "space", "weights", "alphas", "with_rate", "stepper",
    })  # fmt: skip

    def nets(self, space: Space) -> dict[str, nn.Module]:
        spec = space.spec()
        own, deep = spec.get("cells"), max(1, round(self.depth * spec.get("cells", 1)))
        if own is None and self.depth != 1:
            raise ValueError(
                f"the depth of space {space.name!r} is searched, so both networks of cdarts share it: set cdarts.depth to 1"
            )
        size = {"cells": deep} if own is not None else {}
        whole = {"partial_channels": 1} if "partial_channels" in spec else {}
        deeper = space.resized(**size, **whole, **({"affine": True} if self.affine else {}))
        search: Any = space.supernet()  # a `Supernet`
        evaluation: Any = deeper.supernet()
        channels, others = search.feature_channels, evaluation.feature_channels
        if len(channels) < 3 or channels[:2] != others[:2]:
            raise ValueError(
                f"cdarts puts a head behind the first and the second stage of both its networks, but in space {space.name!r} the stages have "
                f"{', '.join(map(str, channels)) or 'no'} channels with {own} cells, {', '.join(map(str, others)) or 'no'} with {deep}"
            )
        evaluation.stem = search.stem
        if self.share_classifier:
            evaluation.classifier = search.classifier
        return {
            "search": search,
            "evaluation": evaluation,
            "heads": self.heads(channels[:2], space.classes),
        }

    def optimizers(self, method: Method, state: State) -> dict[str, torch.optim.Optimizer]:
        """The stem is in both networks' sets, with a momentum in each."""
        return {
            "weights": sgd(state.nets["search"].parameters(), method),
            "alphas": adam(method, state),
            "evaluation": sgd(taught(state).values(), method),
        }

    def lap(self, plan: Plan) -> int:
        """Steps of one pass over the images."""
        return max(1, round(self.share * plan.steps))

    def steps(self, method: Method, plan: Plan, epoch: int) -> int:
        return self.lap(plan) * (
            1 if epoch < method.alpha_from(plan.epochs) else self.warmup + self.joint
        )

    def alpha_steps(self, method: Method, plan: Plan, epoch: int) -> int:
        """Those of the joint passes."""
        return self.lap(plan) * self.joint if method.moves_alphas_in(epoch, plan.epochs) else 0

    def begin_epoch(self, method: Method, state: State) -> None:
        if method.moves_alphas(state):
            state.genotype = method.selected(state)
            if not self.keep:
                state.optimizers = self.optimizers(method, state)

    def phase(self, method: Method, state: State) -> str:
        if not method.moves_alphas(state):
            return "pretraining"
        return "warm-up" if state.step < self.warmup * self.lap(state.plan) else "joint"

    def step(self, method: Method, state: State, train: Batch, val: Batch) -> Values:
        for name in ("weights", "evaluation"):
            set_rate(method, state, name)
        phase = self.phase(method, state)
        if phase == "warm-up":
            return self.warm_up(method, state, val)
        met = self.joint_step(method, state, val) if phase == "joint" else {}
        return {**met, **weight_step(method, state, train, val)}

    def warm_up(self, method: Method, state: State, val: Batch) -> Values:
        """SGD on E's set by E's cross-entropy."""
        passed = evaluate(method, state, "weight", val)
        moved = taught(state)
        loss = total((task,), passed, state.trace)
        descend(method, state, "evaluation", moved, gradients(loss, moved))
        return measures("warmup", passed)

    def joint_step(self, method: Method, state: State, val: Batch) -> Values:
        """SGD on E's set and Adam on the alphas, by one loss. S's own weights take no part: its gradient here is nobody's."""
        moved = taught(state)
        with frozen(set(state.nets["search"].parameters()) - set(moved.values())):
            met = self.joint_loss(method, state, val)
            found = gradients(met.loss, {**moved, **state.alphas})
        descend(method, state, "evaluation", moved, {name: found[name] for name in moved})
        move_alphas(state, present(found, state.alphas))
        remember(state, met.search)
        terms = {"distillation": met.distillation.detach(), "regulariser": met.further.detach()}
        return {**measures("val", met.search), **measures("evaluation", met.evaluation), **terms}

    def joint_loss(self, method: Method, state: State, val: Batch) -> Joint:
        """``CE_S + CE_E + strength * distance(S, E) + the method's further terms of the alphas``."""
        search = forward(method, state, "search", "alpha", val, state.alphas)
        evaluation = evaluate(method, state, "alpha", val)
        labels = total((task,), search, state.trace) + total((task,), evaluation, state.trace)
        none = labels.new_zeros(())
        if self.divide and self.strength:
            labels = labels / self.strength
        further = (
            total(method.alpha_terms[1:], search, state.trace) if method.alpha_terms[1:] else none
        )
        distillation = (
            self.strength * self.distillation(state, search, evaluation) if self.strength else none
        )
        state.trace.note((DISTILLATION,), distillation.view(1))
        return Joint(labels, distillation, further, search, evaluation)

    def distillation(self, state: State, search: Forward, evaluation: Forward) -> Tensor:
        """How far S's answer is from E's."""
        heads = state.nets["heads"]
        with autocast(state):
            student, teacher = heads(search.output), heads(evaluation.output)
        return self.distance(student, teacher.detach() if self.detach else teacher)


def taught(state: State) -> dict[str, Tensor]:
    """E's set by name: stem, E's weights and classifier, the heads unless they are frozen, the ensemble."""
    nets = {net: state.nets[net].named_parameters() for net in ("evaluation", "heads")}
    return {
        f"{net}.{name}": parameter
        for net, named in nets.items()
        for name, parameter in named
        if parameter.requires_grad
    }


def evaluate(method: Method, state: State, phase: str, batch: Batch) -> Forward:
    """A pass of E under the genotype of the cycle."""
    assert state.genotype is not None  # begin_epoch
    mixture = one_hot(state.genotype, tuple(state.space.groups.values()), state.device)
    return forward(method, state, "evaluation", phase, batch, state.alphas, mixture=mixture)


@lru_cache(maxsize=4)
def one_hot(genotype: Genotype, groups: tuple[EdgeGroup, ...], device: torch.device) -> Mixture:
    """`Genotype.one_hot` on a device, once a cycle."""
    return genotype.one_hot(groups_of(groups)).map(lambda weights: weights.to(device))
