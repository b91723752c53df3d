"""The step of CDARTS (arXiv 2006.10724), with a search network S and an evaluation network E.

An epoch is one of the paper's iterations. It is either one pass over the images that trains S alone
(pretraining), or a cycle. A cycle selects a genotype from S, trains E alone with it (warm-up), and
then trains both networks and the alphas (joint). E is a deeper supernet that runs under the one-hot
mixture of the genotype, so weights that were trained in one cycle are there in the next.
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
from archgrad.components.gradients import frozen, gradients, with_zeros
from archgrad.components.losses import task
from archgrad.methods.cdarts_heads import Distance, Heads
from archgrad.searching.steps import (
    Bilevel,
    alpha_optimizer,
    autocast,
    forward,
    move_alphas,
    move_weights,
    pass_metrics,
    set_learning_rate,
    show_to_memories,
    total_loss,
    weight_optimizer,
    weight_step,
)
from archgrad.searching.types import Method, Plan, State, Values

DISTILLATION = "distillation"
"""Name of this term of the loss, in a trace and in `Patch.drives`."""


class Joint(NamedTuple):
    """The loss of a joint step on validation images, and its two passes.

    Attributes:
        labels: CE(S) + CE(E), a scalar.
        distillation: The weighted distance between the logits of S and E, a scalar.
        further: The other terms of the alphas' loss, such as L_reg, a scalar.
        search: The pass of S.
        evaluation: The pass of E.
    """

    labels: Tensor
    distillation: Tensor
    further: Tensor
    search: Forward
    evaluation: Forward

    @property
    def loss(self) -> Tensor:
        """Return the sum of the three terms."""
        return self.labels + self.distillation + self.further


@dataclass(frozen=True)
class Cyclic:
    """The stepper of CDARTS.

    Attributes:
        depth: Cells of E in multiples of the cells of S; 1 where depth is searched.
        affine: Whether the BatchNorms in the cells of E scale and shift.
        share_classifier: Whether both networks have the same classifier.
        heads: (channels, classes) -> `Heads`.
        warmup: Passes over the images in a cycle that train E alone.
        joint: Passes over the images in a cycle that train both networks and the alphas.
        share: Fraction of the batches of a half in one pass.
        keep: Whether the optimizers live on from cycle to cycle.
        strength: Factor of the distillation.
        distance: Distance of the distillation.
        detach: Whether E learns nothing from the distillation.
        divide: Whether both cross-entropies are divided by the strength, as in the released code.
    """

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

    reads = Bilevel.reads - {
        "train_alpha_terms",
        "hypergradient",
        "alpha_split",
        "stages",
        "order",
    }

    def nets(self, space: Space) -> dict[str, nn.Module]:
        """Return the networks S ("search") and E ("evaluation"), and the heads ("heads").

        Raises:
            ValueError: The depth of the space is searched and ``depth`` is not 1, or the features
                of S and E behind the first two stages differ in their channels.
        """
        search: Any = space.supernet()  # a `Supernet`
        if not hasattr(search, "feature_channels"):
            raise ValueError(
                "cdarts puts a head behind the first and the second stage of its networks, but a "
                f"module of your own ({space.name}) has no stages: take another method"
            )
        spec = space.spec()
        cells = spec.get("cells")  # None: the depth is searched
        deep = max(1, round(self.depth * spec.get("cells", 1)))
        if cells is None and self.depth != 1:
            raise ValueError(
                f"the depth of space {space.name!r} is searched, so both networks of cdarts share "
                "it: set cdarts.depth to 1"
            )
        changes: dict[str, Any] = {}
        if cells is not None:
            changes["cells"] = deep
        if "partial_channels" in spec:
            changes["partial_channels"] = 1
        if self.affine:
            changes["affine"] = True
        evaluation: Any = space.resized(**changes).supernet()
        channels, others = search.feature_channels, evaluation.feature_channels
        if len(channels) < 3 or channels[:2] != others[:2]:
            raise ValueError(
                "cdarts puts a head behind the first and the second stage of both its networks, "
                f"but in space {space.name!r} the stages have "
                f"{', '.join(map(str, channels)) or 'no'} channels with {cells} cells, "
                f"{', '.join(map(str, others)) or 'no'} with {deep}"
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
        """Return one optimizer of S ("weights"), one of the alphas, and one of E ("evaluation").

        The shared stem is in two of them, with a momentum in each.
        """
        return {
            "weights": weight_optimizer(state.nets["search"].parameters(), method),
            "alphas": alpha_optimizer(method, state),
            "evaluation": weight_optimizer(evaluation_parameters(state).values(), method),
        }

    def pass_steps(self, plan: Plan) -> int:
        """Return the number of steps of one pass over the images."""
        return max(1, round(self.share * plan.steps))

    def steps(self, method: Method, plan: Plan, epoch: int) -> int:
        """Return the number of steps of an epoch: one pass in the pretraining, else a cycle."""
        pretrains = epoch < method.alpha_from(plan.epochs)
        return self.pass_steps(plan) * (1 if pretrains else self.warmup + self.joint)

    def alpha_steps(self, method: Method, plan: Plan, epoch: int) -> int:
        """Return the number of steps of an epoch that move the alphas: its joint passes."""
        return (
            self.pass_steps(plan) * self.joint if method.moves_alphas_in(epoch, plan.epochs) else 0
        )

    def begin_epoch(self, method: Method, state: State) -> None:
        """Select the genotype of a new cycle, and make new optimizers unless they are kept."""
        if method.moves_alphas(state):
            state.genotype = method.selected_genotype(state)
            if not self.keep:
                state.optimizers = self.optimizers(method, state)

    def phase(self, method: Method, state: State) -> str:
        """Return the phase of the present step: "pretraining", "warm-up" or "joint"."""
        if not method.moves_alphas(state):
            return "pretraining"
        return "warm-up" if state.step < self.warmup * self.pass_steps(state.plan) else "joint"

    def step(self, method: Method, state: State, train: Batch, val: Batch) -> Values:
        """Take one step of the present phase, and return its metrics."""
        for name in ("weights", "evaluation"):
            set_learning_rate(method, state, name)
        phase = self.phase(method, state)
        if phase == "warm-up":
            return self.warm_up(method, state, val)
        joint = self.joint_step(method, state, val) if phase == "joint" else {}
        return {**joint, **weight_step(method, state, train, val)}

    def warm_up(self, method: Method, state: State, val: Batch) -> Values:
        """Take one SGD step of the parameters of E by the cross-entropy of E."""
        passed = evaluation_pass(method, state, "weight", val)
        moved = evaluation_parameters(state)
        loss = total_loss((task,), passed, state.trace)
        move_weights(method, state, "evaluation", moved, gradients(loss, moved))
        return pass_metrics(method, "warmup", [(1.0, passed)])

    def joint_step(self, method: Method, state: State, val: Batch) -> Values:
        """Take one SGD step of the parameters of E and one Adam step of the alphas, by one loss.

        The weights that only S has do not learn from this loss, so they get no gradient.
        """
        moved = evaluation_parameters(state)
        with frozen(set(state.nets["search"].parameters()) - set(moved.values())):
            joint = self.joint_loss(method, state, val)
            found = gradients(joint.loss, {**moved, **state.alphas})
        move_weights(method, state, "evaluation", moved, {name: found[name] for name in moved})
        move_alphas(state, with_zeros(found, state.alphas))
        show_to_memories(state, joint.search)
        return {
            **pass_metrics(method, "val", [(1.0, joint.search)]),
            **pass_metrics(method, "evaluation", [(1.0, joint.evaluation)]),
            "distillation": joint.distillation.detach(),
            "regulariser": joint.further.detach(),
        }

    def joint_loss(self, method: Method, state: State, val: Batch) -> Joint:
        """Return the joint loss, CE(S) + CE(E) + strength * distance(S, E) + further terms."""
        search = forward(method, state, "search", "alpha", val, state.alphas)
        evaluation = evaluation_pass(method, state, "alpha", val)
        labels = total_loss((task,), search, state.trace) + total_loss(
            (task,), evaluation, state.trace
        )
        further = distillation = labels.new_zeros(())
        if self.divide and self.strength:
            labels = labels / self.strength
        if terms := method.alpha_terms[1:]:
            further = total_loss(terms, search, state.trace)
        if self.strength:
            distillation = self.strength * self.distillation(state, search, evaluation)
        state.trace.note((DISTILLATION,), distillation.view(1))
        return Joint(labels, distillation, further, search, evaluation)

    def distillation(self, state: State, search: Forward, evaluation: Forward) -> Tensor:
        """Return the distance between the logits of S and of E, a scalar."""
        heads = state.nets["heads"]
        with autocast(state):
            student, teacher = heads(search.output), heads(evaluation.output)
        return self.distance(student, teacher.detach() if self.detach else teacher)


def evaluation_parameters(state: State) -> dict[str, Tensor]:
    """Return the parameters that the SGD of E moves, by name.

    They are the stem, the weights and the classifier of E, the heads unless they are frozen, and
    the weights of the ensemble unless they are fixed.
    """
    nets = {net: state.nets[net].named_parameters() for net in ("evaluation", "heads")}
    return {
        f"{net}.{name}": parameter
        for net, named in nets.items()
        for name, parameter in named
        if parameter.requires_grad
    }


def evaluation_pass(method: Method, state: State, phase: str, batch: Batch) -> Forward:
    """Return a pass of E under the genotype of the cycle."""
    assert state.genotype is not None  # `begin_epoch` selects it
    mixture = one_hot(state.genotype, tuple(state.space.groups.values()), state.device)
    return forward(method, state, "evaluation", phase, batch, state.alphas, mixture=mixture)


@lru_cache(maxsize=4)
def one_hot(genotype: Genotype, groups: tuple[EdgeGroup, ...], device: torch.device) -> Mixture:
    """Return the one-hot mixture of a genotype on a device. It is made once a cycle."""
    return genotype.one_hot(groups_of(groups)).map(lambda weights: weights.to(device))
