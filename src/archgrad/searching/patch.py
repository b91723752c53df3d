"""A method is what it changes relative to DARTS: a frozen `Patch`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from archgrad.arch.edges import EdgeGroup
from archgrad.arch.passes import Loss
from archgrad.components.hypergradient import Hypergradient
from archgrad.components.losses import Term
from archgrad.components.schedules import Scalar, When
from archgrad.cost.limits import Limits
from archgrad.errors import shown
from archgrad.searching.origin import Origin
from archgrad.searching.types import (
    Ahead,
    Finalise,
    Memory,
    Perturb,
    Relaxation,
    Reshape,
    Select,
    Stage,
    Transform,
)

if TYPE_CHECKING:
    from archgrad.searching.types import Stepper


@dataclass(frozen=True)
class Patch:
    """Unset fields are DARTS's. ``relax``, ``readout`` and ``select`` are one unit: a relaxation comes with what reads it."""

    name: str
    relax: Relaxation | None = None
    readout: Relaxation | None = None  # what discretisation reads; None reads ``relax``
    select: Select | None = None
    any_mixture: bool = False  # ``select`` and ``readout`` do for the mixture of any ``relax``, and so compose with it
    reshape: tuple[Reshape, ...] = ()  # in order, in the readout too
    loss: Loss | None = None  # in the place of the cross-entropy, in both halves
    weight_terms: tuple[Term, ...] = ()
    alpha_terms: tuple[Term, ...] = ()
    train_alpha_terms: tuple[
        Term, ...
    ] = ()  # of the alphas too, but of a pass over training images
    drives: Mapping[Any, str] = field(
        default_factory=dict
    )  # term -> what to try where it diverges, as in "--sddarts.strength below 1"
    memory: Mapping[str, Callable[[], Memory]] = field(default_factory=dict)
    scalars: Mapping[str, Scalar] = field(
        default_factory=dict
    )  # schedules worth a column of the metrics
    extra_alphas: Mapping[str, Callable[[EdgeGroup], tuple[int, ...]]] = field(
        default_factory=dict
    )  # name -> shape; kept as group/name
    hypergradient: Hypergradient | None = None
    alpha_split: str | None = (
        None  # whose images alphas learn from: "val" | "train" (one level instead of two)
    )
    perturb: Perturb | None = None
    transforms: tuple[
        Transform, ...
    ] = ()  # of the weights' gradients, in order, before they are clipped
    stages: tuple[Stage, ...] | None = None
    finalise: Finalise | None = None
    order: str | None = None  # "alpha_first" | "weight_first"
    alpha_from: When | None = None  # first epoch with alpha steps; the latest of all patches counts
    lengths: tuple[
        When, ...
    ] = ()  # further moments and intervals, in epochs; asked beforehand, so that what does not fit is refused
    limits: Limits = ()  # what the architecture may cost: every selection and every draw keeps to it
    space: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)  # of WeightSettings
    alphas: Mapping[str, Any] = field(default_factory=dict)  # of AlphaSettings
    with_rate: tuple[
        str, ...
    ] = ()  # those of AlphaSettings that grow with an automatic lr (`archgrad.searching.rate`)
    ahead: Mapping[str, Ahead] = field(
        default_factory=dict
    )  # what memories measure and a finalisation does -> how much is to come
    stepper: Stepper | None = None
    needs_alphas: bool = (
        False  # without alpha steps it does nothing, even where a field of it seems to
    )
    origins: tuple[Origin, ...] = ()  # the methods it is of, each with its options

    def __post_init__(self) -> None:
        """ValueError where a field is of another type; one value in the place of several, and a list of them, are taken as they are meant."""
        for name in ADDED:
            value = getattr(self, name)
            several = (
                tuple(value)
                if isinstance(value, list | tuple) and not hasattr(value, "_fields")
                else (value,)
            )
            object.__setattr__(self, name, several)
            self._check(name, several if name in ACTING else ())
        if self.any_mixture and self.relax is not None:
            raise ValueError(
                f"patch {self.name!r}: it has a relaxation of its own, so it does not read any mixture: leave out any_mixture"
            )
        for name in (*UNIT, "loss", "hypergradient", "perturb", "finalise", "alpha_from"):
            self._check(name, [value] if (value := getattr(self, name)) is not None else [])
        for name in (*MERGED, "ahead"):
            if not isinstance(value := getattr(self, name), Mapping):
                raise ValueError(
                    f"patch {self.name!r}: {name} must be a mapping by name, not {shown(value)}"
                )
            self._check(
                name,
                value.values() if name in ("memory", "scalars", "extra_alphas", "ahead") else (),
            )

    def _check(self, name: str, values: Iterable[Any]) -> None:
        for value in values:
            if not callable(value):
                raise ValueError(
                    f"patch {self.name!r}: {name} must be a function, not {shown(value)}"
                )

    def __repr__(self) -> str:
        return f"<Patch {self.name}: {', '.join(sorted(self.sets())) or 'DARTS'}>"

    def sets(self) -> frozenset[str]:
        """The fields this patch sets, but for its name, its origins and what only messages read."""
        unset = Patch("")
        return frozenset(
            f.name
            for f in fields(self)
            if f.name not in ASIDE and getattr(self, f.name) != getattr(unset, f.name)
        )


ACTING = ("reshape", "weight_terms", "alpha_terms", "train_alpha_terms", "transforms", "lengths")
ASIDE = ("name", "drives", "origins", "any_mixture", "needs_alphas")
UNIT = ("relax", "readout", "select")
EXCLUSIVE = (
    "loss",
    "hypergradient",
    "alpha_split",
    "perturb",
    "stages",
    "finalise",
    "order",
    "stepper",
)
ADDED = (
    "reshape",
    "weight_terms",
    "alpha_terms",
    "train_alpha_terms",
    "transforms",
    "lengths",
    "limits",
    "with_rate",
    "origins",
)
SETTLED = (
    "order",
    "hypergradient",
    "weights",
    "alphas",
)  # where the user's own options decide: darts.*, weights.*, alphas.*
IN_ALPHA_STEPS = ("alpha_terms", "train_alpha_terms", "hypergradient", "alpha_split")
QUIET = (
    "memory",
    "scalars",
    "extra_alphas",
    "alphas",
    "with_rate",
    "ahead",
    "lengths",
    "alpha_from",
)
"""Fields that do nothing by themselves."""
MERGED = ("drives", "memory", "scalars", "extra_alphas", "space", "weights", "alphas")
