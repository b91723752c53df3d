"""What a search space is: the two protocols a space keeps, and the defaults its literature starts from."""

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

if TYPE_CHECKING:
    from torch import Tensor, nn

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class WeightSettings:
    """SGD of the supernet weights. The learning rate falls by cosine over the supernet's life.

    Attributes:
        lr: learning rate at the start.
        lr_end: learning rate at the end of the cosine.
        per: time after which the learning rate moves: an epoch, or a step; never keeps it at its
            start.
        momentum: momentum of SGD.
        nesterov: take Nesterov's form of the momentum.
        decay: weight decay of the supernet weights.
        clip: largest norm of all gradients together; 0 is off.
    """

    lr: NotNegative = 0.025
    lr_end: NotNegative = 0.001
    per: Literal["epoch", "step", "never"] = "epoch"  # how often the learning rate moves
    momentum: Share = 0.9
    nesterov: bool = False
    decay: NotNegative = 3e-4
    clip: Annotated[float, Field(ge=0)] = 5.0  # global gradient norm; 0 is off


@dataclass(frozen=True)
class AlphaSettings:
    """Adam of the alphas.

    Attributes:
        lr: learning rate.
        beta1: decay of Adam's mean of the gradients.
        beta2: decay of Adam's mean of the squared gradients.
        decay: weight decay of the alphas.
        init: scale of the first alphas, which are this number times N(0, 1).
    """

    lr: NotNegative = 3e-4
    beta1: Share = 0.5
    beta2: Share = 0.999
    decay: NotNegative = 1e-3
    init: NotNegative = 1e-3


def _number_or_auto(given: Any) -> Any:
    try:
        if given == AUTO or 0 <= float(given) < math.inf:
            return given
    except (TypeError, ValueError):
        pass
    raise ValueError("a number from 0 on, or auto, is expected")


Rate = Annotated[float | Literal["auto"], BeforeValidator(_number_or_auto)]
"""What a user may say of ``alphas.lr``."""
ALPHAS = options.model(
    AlphaSettings,
    lr=(
        Annotated[
            Rate,
            Field(
                description="learning rate; auto fits the published one to the number of alpha steps"
            ),
        ],
        AUTO,
    ),
)
"""What a user may say of the alphas' settings."""


@dataclass(frozen=True)
class Defaults:
    """What "DARTS" means in a space, by the code its published results come from."""

    order: Literal["alpha_first", "weight_first"] = "alpha_first"  # of the two halves of a step
    weights: WeightSettings = WeightSettings()
    alphas: AlphaSettings = AlphaSettings()
    batch: int = 64
    epochs: int = 50


class Supernet(Protocol):
    """An `nn.Module` that reads the mixture as an argument."""

    stem: nn.Module
    classifier: nn.Module
    feature_channels: tuple[int, ...]  # C of each entry of Output.features, one per stage

    def forward(
        self, images: Tensor, mixture: Mixture | None = None, *, drop_path: float = 0.0
    ) -> Output:
        """images (B, C, H, W); ``None`` is weight 1 on every op."""

    def ops(self, group: str, edge: int, primitive: str) -> list[nn.Module]:
        """The modules of one primitive on one edge, one per cell of the group (shared modules included)."""


class Space(Protocol):
    """A frozen value. Everything about it follows from `spec`."""

    @property
    def name(self) -> str: ...

    @property
    def groups(self) -> Groups: ...

    @property
    def defaults(self) -> Defaults: ...

    @property
    def classes(self) -> int: ...

    @property
    def in_channels(self) -> int: ...

    def resized(self, **changes: Any) -> Space:
        """The same space with other ``channels``, ``classes``, ``in_channels``, ``primitives`` (every space has these), ``cells`` (where
        depth is not searched), ...; ``primitives=None`` restores the full sets. ValueError for what it does not have."""

    def spec(self) -> dict[str, Any]:
        """JSON-able; ``base.resized(**spec)`` is this space again, whatever ``base`` of that name."""

    def supernet(self) -> nn.Module:
        """A fresh `Supernet`, initialised by torch's defaults; `method.build` re-seeds each module by its name."""

    def evaluation(self, **options: Any) -> Space:
        """The same space, primitives included, as its derived networks are built: their published width and depth, affine BatchNorms, no
        option that only a search has (extras, partial channels). ``options`` are the space's own, and win; None is none given."""

    def derive(self, genotype: Genotype, **options: Any) -> nn.Module:
        """The derived network of a genotype (the library's spaces take its text or its name, too): `evaluation` with one op an edge at most.
        ValueError if it does not fit."""


def check_cells(space: Space, option: str) -> None:
    """ValueError if an edge group of ``space`` is in none of its cells, so that its alphas and its genotype would be noise: names the least
    depth at which all are, as ``option`` sets it. Only what begins asks: runs recorded with fewer cells still open."""
    if not (lacking := absent(space)):
        return
    cells = space.spec()["cells"]
    least = next(depth for depth in count(cells) if not absent(space.resized(cells=depth)))
    shallow = counted(cells, "cell")
    raise ValueError(
        f"a network of {shallow} has no {' and no '.join(lacking)} cell in space {space.name}: {option} must be at least {least}"
    )


def absent(space: Space) -> list[str]:
    """The edge groups that are in no cell."""
    return [name for name, group in space.groups.items() if group.edges and not group.cells]
