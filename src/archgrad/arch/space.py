"""The protocols of a search space and its supernet, and the default settings of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator, Field

from archgrad import options
from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Output
from archgrad.bounds import AUTO as AUTO
from archgrad.errors import counted
from archgrad.option_types import NotNegativeFloat, Share

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightSettings:
    """Settings of SGD for the supernet weights. The learning rate falls along a cosine.

    Attributes:
        lr: learning rate at the start.
        lr_end: learning rate at the end of the cosine.
        per: moment at which the learning rate changes: after every epoch, after every step, or
            never.
        momentum: momentum of SGD.
        nesterov: Nesterov momentum instead of plain momentum.
        decay: weight decay of the supernet weights.
        clip: largest norm of all gradients together; 0 is off.
    """

    lr: NotNegativeFloat = 0.025
    lr_end: NotNegativeFloat = 0.001
    per: Literal["epoch", "step", "never"] = "epoch"
    momentum: Share = 0.9
    nesterov: bool = False
    decay: NotNegativeFloat = 3e-4
    clip: Annotated[float, Field(ge=0)] = 5.0  # an infinite norm is allowed: it never clips


@dataclass(frozen=True)
class AlphaSettings:
    """Settings of Adam for the alphas.

    Attributes:
        lr: learning rate.
        beta1: decay of Adam's mean of the gradients.
        beta2: decay of Adam's mean of the squared gradients.
        decay: weight decay of the alphas.
        init: standard deviation of the initial alphas, which have mean 0.
    """

    lr: NotNegativeFloat = 3e-4
    beta1: Share = 0.5
    beta2: Share = 0.999
    decay: NotNegativeFloat = 1e-3
    init: NotNegativeFloat = 1e-3


def _number_or_auto(given: Any) -> Any:
    try:
        if given == AUTO or 0 <= float(given) < math.inf:
            return given
    except (TypeError, ValueError):
        pass
    raise ValueError("a number from 0 on, or auto, is expected")


Rate = Annotated[float | Literal["auto"], BeforeValidator(_number_or_auto)]
"""Type of the option ``alphas.lr``."""
ALPHAS = options.model(
    AlphaSettings,
    lr=(
        Annotated[
            Rate,
            Field(
                description="learning rate; auto scales the published rate by the number of alpha "
                "steps"
            ),
        ],
        AUTO,
    ),
)
"""Model of the options of section ``alphas``."""


@dataclass(frozen=True)
class Defaults:
    """The settings of DARTS in a space, from the code of its published results."""

    order: Literal["alpha_first", "weight_first"] = "alpha_first"  # order of the two half steps
    weights: WeightSettings = WeightSettings()
    alphas: AlphaSettings = AlphaSettings()
    batch: int = 64
    epochs: int = 50


class Supernet(Protocol):
    """An `nn.Module` whose forward takes the mixture as an argument."""

    stem: nn.Module
    classifier: nn.Module
    feature_channels: tuple[int, ...]  # channels of each entry of Output.features, one per stage

    def forward(
        self, images: Tensor, mixture: Mixture | None = None, *, drop_path: float = 0.0
    ) -> Output:
        """Compute the output of images.

        Args:
            images: (B, C, H, W).
            mixture: Weights of the ops; None gives every op the weight 1.
            drop_path: Probability of dropping an op while the network trains.

        Returns:
            Logits, features and auxiliary logits.
        """

    def ops(self, group: str, edge: int, primitive: str) -> list[nn.Module]:
        """Return the modules of one primitive on one edge.

        Args:
            group: Name of the edge group.
            edge: Index of the edge in its group.
            primitive: Name of the primitive.

        Returns:
            One module for each cell of the group; a module that serves several edges is returned
            for each of them.
        """


class Space(Protocol):
    """A search space. It is a frozen value that follows completely from its `spec`."""

    @property
    def name(self) -> str:
        """Return the name in the table of spaces."""

    @property
    def groups(self) -> Groups:
        """Return the edge groups by name."""

    @property
    def defaults(self) -> Defaults:
        """Return the settings of DARTS in this space."""

    @property
    def classes(self) -> int:
        """Return the number of classes; 0 if a module of the user's decides it."""

    @property
    def in_channels(self) -> int:
        """Return the number of channels of an image; 0 if a module of the user's decides it."""

    def resized(self, **changes: Any) -> Space:
        """Return the same space with other options.

        Args:
            changes: ``channels``, ``classes``, ``in_channels`` and ``primitives`` (all spaces have
                these), ``cells`` (spaces with fixed depth) and others. ``primitives=None`` restores
                the full sets.

        Returns:
            The space.

        Raises:
            ValueError: The space has no such option, or a value is out of range.
        """

    def spec(self) -> dict[str, Any]:
        """Return all options as values for JSON.

        ``base.resized(**spec)`` is this space again for any ``base`` with the same name.
        """

    def supernet(self) -> nn.Module:
        """Return a new `Supernet` with torch's initialisation.

        `archgrad.Method.build` then initialises each module from a seed and the module's name.
        """

    def evaluation(self, **options: Any) -> Space:
        """Return the space in the form of its derived networks.

        They have their published width and depth, affine BatchNorms, and no option that only a
        search has (extras, partial channels). The primitives stay.

        Args:
            options: Options of the space that replace the published ones; None replaces nothing.

        Returns:
            The space.
        """

    def derive(self, genotype: Genotype, **options: Any) -> nn.Module:
        """Return the derived network of a genotype: `evaluation` with at most one op on an edge.

        Args:
            genotype: The genotype. Spaces of the library also take its text or its name.
            options: Options as in `evaluation`.

        Returns:
            The network.

        Raises:
            ValueError: The genotype is not one of this space.
        """


def check_cells(space: Space, option: str) -> None:
    """Check that every edge group is in a cell; otherwise its alphas would receive no gradient.

    Only new runs are checked. Runs that were recorded with fewer cells can still be read.

    Args:
        space: The space.
        option: Name of the option that sets the depth, for the message.

    Raises:
        ValueError: A group is in no cell. The message names the least depth that has all groups.
    """
    if not (lacking := absent(space)):
        return
    cells = space.spec()["cells"]
    least = next(depth for depth in count(cells) if not absent(space.resized(cells=depth)))
    shallow = counted(cells, "cell")
    raise ValueError(
        f"a network of {shallow} has no {' and no '.join(lacking)} cell in space {space.name}: "
        f"{option} must be at least {least}"
    )


def absent(space: Space) -> list[str]:
    """Return the names of the edge groups that are in no cell."""
    return [name for name, group in space.groups.items() if group.edges and not group.cells]
