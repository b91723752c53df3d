"""Three methods, a space and a primitive that a researcher adds without a change of archgrad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from archgrad import Mixture, Patch
from archgrad.arch.edges import Alphas, Edge, EdgeGroup, groups_of
from archgrad.arch.passes import Batch, Output
from archgrad.arch.space import Defaults
from archgrad.components.context import Context, Forward
from archgrad.components.losses import task, weighted
from archgrad.components.relax import masked_softmax
from archgrad.components.schedules import constant, geometric
from archgrad.methods import METHODS
from archgrad.methods import Entry as Method
from archgrad.searching.carry import carried
from archgrad.spaces import SPACES, options
from archgrad.spaces import Entry as Space
from archgrad.spaces.cells import Cell
from archgrad.spaces.derived import Derived
from archgrad.spaces.primitives import FREE, PRIMITIVES, Conv, Primitive, Style

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


def cooled(*, start: Positive = 1.0, end: Positive = 0.1) -> Patch:
    """Search with ``softmax(a / T)``, whose temperature T falls by equal factors.

    This method is a relaxation.

    Args:
        start: temperature in the first epoch.
        end: temperature that T would reach one epoch after the last.
    """
    temperature = geometric(start, end)

    def relax(alphas: Alphas, context: Context) -> Mixture:
        T = temperature(context)
        return Mixture(
            {
                name: masked_softmax(alphas[name] / T, group)
                for name, group in context.groups.items()
            }
        )

    return Patch("cooled", relax=relax, scalars={"T": temperature})


def mixed(*, strength: Annotated[float, Field(ge=0)] = 0.5) -> Patch:
    """Train the alphas on training images too, and count how often each op leads.

    This method has a loss term and a memory.

    Args:
        strength: factor of the loss on training images.
    """
    return Patch(
        "mixed", train_alpha_terms=weighted(constant(strength), task), memory={"leads": Leads}
    )


class Leads:
    """The number of alpha steps in which each op of an edge had the largest weight."""

    def __init__(self) -> None:
        self.groups: Any = None
        self.table: dict[str, Tensor] = {}

    def bind(self, state: Any) -> None:
        if self.groups is None:
            self.table = {
                name: torch.zeros(len(group.edges), group.width)
                for name, group in state.space.groups.items()
            }
        else:
            self.table = carried(self.groups, state.space.groups, self.table)
        self.groups = state.space.groups

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        if forward.context.phase == "alpha":
            for name, rows in self.table.items():
                rows[
                    torch.arange(len(rows)), forward.mixture.weights[name].detach().argmax(-1).cpu()
                ] += 1

    def after_epoch(self, method: Any, state: Any, data: Any, context: Context) -> dict[str, Any]:
        steps = sum(float(rows.sum()) for rows in self.table.values())
        leads = sum(float(rows.amax(-1).sum()) for rows in self.table.values())
        return {"lead": leads / steps if steps else None}

    def state_dict(self) -> dict[str, Any]:
        return {"table": self.table}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.table = saved["table"]


def soft(*, smoothing: Share = 0.1) -> Patch:
    """Replace the loss by a cross-entropy with smoothed labels, in both halves of a step.

    Args:
        smoothing: fraction of the label that is spread over all classes.
    """

    def loss(output: Output, batch: Batch) -> Tensor:
        return F.cross_entropy(output.exact, batch.labels, label_smoothing=smoothing)

    return Patch("soft", loss=loss)


METHODS["cooled"] = Method(cooled, "nobody yet", "a softmax that cools", {"chain": {"end": 0.3}})
METHODS["mixed"] = Method(mixed, "nobody yet", "alphas that learn from both halves of the images")
METHODS["soft"] = Method(soft, "nobody yet", "smoothed labels")
PRIMITIVES["ghost_5x5"] = Primitive(
    lambda channels, stride, style: Conv(channels, channels, 5, stride, style)
)
THREE = ("skip_connect", "nor_conv_3x3", "ghost_5x5")


@dataclass(frozen=True)
class Chain:
    """A chain of ``cells`` layers. Each layer has one edge with three primitives."""

    name: str = "chain"
    channels: int = 8
    cells: int = 3
    primitives: options.PrimitiveSets = None
    in_channels: int = 3
    classes: int = 10

    defaults = Defaults()

    def __post_init__(self) -> None:
        options.check_whole(self, 1, "channels", "cells", "in_channels", "classes")
        object.__setattr__(
            self, "primitives", options.primitive_sets(self.primitives, {"layers": self.cells})
        )

    @cached_property
    def groups(self) -> Any:
        sets = self.primitives or THREE
        each = sets["layers"] if isinstance(sets, Mapping) else (sets,) * self.cells
        edges = tuple(Edge(layer, layer + 1, names) for layer, names in enumerate(each))
        return groups_of([EdgeGroup("layers", edges, concat=(self.cells,), hidden=(), free=FREE)])

    def resized(self, **changes: Any) -> Chain:
        return options.with_changes(self, changes)

    def spec(self) -> dict[str, Any]:
        return options.spec(self)

    def supernet(self) -> nn.Module:
        return ChainNet(self)

    def evaluation(self, **given: Any) -> Chain:
        return options.evaluated(self, {"channels": 16}, given)

    def derive(self, genotype: Any, **given: Any) -> Derived:
        return Derived(
            genotype, self.evaluation(**given).resized(primitives=genotype.primitives(self.groups))
        )


class ChainNet(nn.Module):
    """The supernet of the chain, and with one op on each edge its derived network."""

    def __init__(self, space: Chain) -> None:
        super().__init__()
        self.stem = Conv(space.in_channels, space.channels, 3, 1, Style(affine=True))
        self.cell = Cell(
            space.groups["layers"], [nn.Identity()], space.channels, 1, Style(affine=True)
        )
        self.classifier = nn.Linear(space.channels, space.classes)
        self.feature_channels = (space.channels,)

    def forward(
        self, images: Tensor, mixture: Mixture | None = None, *, drop_path: float = 0.0
    ) -> Output:
        x = self.cell(
            [self.stem(images)], None if mixture is None else mixture.cell("layers", 0), drop_path
        )
        return Output(self.classifier(x.mean((2, 3))), (x,))

    def ops(self, group: str, edge: int, primitive: str) -> list[nn.Module]:
        return [self.cell.ops(edge, primitive)]


SPACES["chain"] = Space(Chain, "nobody yet")
