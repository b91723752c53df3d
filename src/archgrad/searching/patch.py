"""A method as the changes that it makes to DARTS: a frozen `Patch`.

Each field carries a `Rule`, which says how `archgrad.searching.compose.compose` merges the field
and how the checks read it. A new field needs its rule and a place that reads it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from archgrad.arch.edges import EdgeGroup
from archgrad.arch.passes import Loss, Metric
from archgrad.arguments import named_if_wrong
from archgrad.components.hypergradient import Hypergradient
from archgrad.components.losses import Term
from archgrad.components.schedules import Scalar, When
from archgrad.cost.limits import Limits
from archgrad.errors import short_repr
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


class Merge(Enum):
    """The ways in which a field of several patches becomes one value."""

    NAME = auto()  # the names, joined by "+"
    UNIT = auto()  # relax, readout and select, which one patch gives together
    OF_UNIT = auto()  # true if it is true in every patch that gives part of the unit
    ONE = auto()  # the value of one patch; all patches that set it must agree
    ADDED = auto()  # a tuple with the values of all patches, in their order
    KEYS = auto()  # a mapping with the keys of all patches, which must agree on a shared key
    UNION = auto()  # the same without a check, where a key belongs to something that is checked
    LATEST = auto()  # the latest of the epochs
    ALL = auto()  # true if it is true in every patch


class Rule(NamedTuple):
    """Rule by which a field of `Patch` is merged and checked."""

    merge: Merge
    functions: bool = False  # every value must be callable
    descriptive: bool = False  # it does not change the search: names, texts and flags
    inert_alone: bool = False  # it has no effect without other fields
    in_alpha_steps: bool = False  # it has an effect in alpha steps alone
    user_settles: bool = False  # options of the user decide: darts.*, weights.*, alphas.*


def _rule(merge: Merge, **marks: bool) -> Mapping[str, Rule]:
    """Return the metadata of a field with this rule."""
    return {"rule": Rule(merge, **marks)}


@dataclass(frozen=True)
class Patch:
    """Describe a method by its changes to DARTS. A field that is not set is DARTS's.

    ``relax``, ``readout`` and ``select`` are one unit, because a relaxation needs the functions
    that read it.

    Attributes:
        name: Name of the method.
        relax: Relaxation, (alphas, context) -> mixture.
        readout: Relaxation that discretisation reads; None reads ``relax``.
        select: Selection, (mixture, groups, limits) -> genotype.
        any_mixture: Whether ``select`` and ``readout`` read the mixture of any ``relax``, and so
            compose with it.
        reshape: Changes of the mixture, in order, in the readout too.
        loss: Loss in the place of the cross-entropy, in both halves of a step.
        metrics: Name -> function (output, batch) -> scalar or None, recorded for each half of a
            step; without any the records have the accuracy.
        weight_terms: Terms added to the loss of the weights.
        alpha_terms: Terms added to the loss of the alphas.
        train_alpha_terms: Terms of the alphas that are computed on training images.
        drives: Term -> the setting to lower where the term diverges, as in
            "--sddarts.strength below 1".
        memory: Name -> function that makes a memory.
        scalars: Name -> schedule that stands as a column in the metrics.
        extra_alphas: Name -> shape of further logits of a group, kept as ``group/name``.
        hypergradient: Function that computes the gradient of the alphas.
        alpha_split: Split whose images alphas learn from: "val", or "train" (one level instead of
            two).
        perturb: Function that gives the mixtures that the weights are trained at.
        transforms: Changes of the weights' gradients, in order, before they are clipped.
        stages: Stages, each of which goes on in another space.
        finalise: Generator of the decisions after the last epoch.
        order: Order of the two halves of a step: "alpha_first" or "weight_first".
        alpha_from: First epoch with alpha steps; of several patches the latest counts.
        lengths: Further moments and intervals in epochs, which are computed before the search so
            that one that does not fit is refused.
        limits: Limits of the architecture's cost, which every selection and every draw keeps to.
        space: Changes of the space (`Space.resized`).
        weights: Fields of `WeightSettings`.
        alphas: Fields of `AlphaSettings`.
        with_rate: Fields of `AlphaSettings` that grow with an automatic learning rate
            (`archgrad.searching.rate`).
        ahead: Name -> forward passes that memories and the finalisation still take.
        stepper: Stepper in the place of `archgrad.searching.steps.Bilevel`.
        needs_alphas: Whether the method does nothing without alpha steps, even if one of its
            fields acts in weight steps.
        reads_logits: Names of the methods that read the logits (B, K) of a classifier, which a
            module of the user's need not have.
        reads_accuracy: Names of the methods that judge networks by their accuracy.
        origins: Methods that made this patch, with their options.

    Raises:
        ValueError: A field has a value of another type.
    """

    name: str = field(metadata=_rule(Merge.NAME, descriptive=True))
    relax: Relaxation | None = field(default=None, metadata=_rule(Merge.UNIT, functions=True))
    readout: Relaxation | None = field(default=None, metadata=_rule(Merge.UNIT, functions=True))
    select: Select | None = field(default=None, metadata=_rule(Merge.UNIT, functions=True))
    any_mixture: bool = field(default=False, metadata=_rule(Merge.OF_UNIT, descriptive=True))
    reshape: tuple[Reshape, ...] = field(default=(), metadata=_rule(Merge.ADDED, functions=True))
    loss: Loss | None = field(default=None, metadata=_rule(Merge.ONE, functions=True))
    metrics: Mapping[str, Metric] = field(
        default_factory=dict, metadata=_rule(Merge.KEYS, functions=True, descriptive=True)
    )
    weight_terms: tuple[Term, ...] = field(default=(), metadata=_rule(Merge.ADDED, functions=True))
    alpha_terms: tuple[Term, ...] = field(
        default=(), metadata=_rule(Merge.ADDED, functions=True, in_alpha_steps=True)
    )
    train_alpha_terms: tuple[Term, ...] = field(
        default=(), metadata=_rule(Merge.ADDED, functions=True, in_alpha_steps=True)
    )
    drives: Mapping[Any, str] = field(
        default_factory=dict, metadata=_rule(Merge.KEYS, descriptive=True)
    )
    memory: Mapping[str, Callable[[], Memory]] = field(
        default_factory=dict, metadata=_rule(Merge.KEYS, functions=True, inert_alone=True)
    )
    scalars: Mapping[str, Scalar] = field(
        default_factory=dict, metadata=_rule(Merge.KEYS, functions=True, inert_alone=True)
    )
    extra_alphas: Mapping[str, Callable[[EdgeGroup], tuple[int, ...]]] = field(
        default_factory=dict, metadata=_rule(Merge.KEYS, functions=True, inert_alone=True)
    )
    hypergradient: Hypergradient | None = field(
        default=None,
        metadata=_rule(Merge.ONE, functions=True, in_alpha_steps=True, user_settles=True),
    )
    alpha_split: str | None = field(default=None, metadata=_rule(Merge.ONE, in_alpha_steps=True))
    perturb: Perturb | None = field(default=None, metadata=_rule(Merge.ONE, functions=True))
    transforms: tuple[Transform, ...] = field(
        default=(), metadata=_rule(Merge.ADDED, functions=True)
    )
    stages: tuple[Stage, ...] | None = field(default=None, metadata=_rule(Merge.ONE))
    finalise: Finalise | None = field(default=None, metadata=_rule(Merge.ONE, functions=True))
    order: str | None = field(default=None, metadata=_rule(Merge.ONE, user_settles=True))
    alpha_from: When | None = field(
        default=None, metadata=_rule(Merge.LATEST, functions=True, inert_alone=True)
    )
    lengths: tuple[When, ...] = field(
        default=(), metadata=_rule(Merge.ADDED, functions=True, inert_alone=True)
    )
    limits: Limits = field(default=(), metadata=_rule(Merge.ADDED))
    space: Mapping[str, Any] = field(default_factory=dict, metadata=_rule(Merge.KEYS))
    weights: Mapping[str, Any] = field(
        default_factory=dict, metadata=_rule(Merge.KEYS, user_settles=True)
    )
    alphas: Mapping[str, Any] = field(
        default_factory=dict, metadata=_rule(Merge.KEYS, inert_alone=True, user_settles=True)
    )
    with_rate: tuple[str, ...] = field(default=(), metadata=_rule(Merge.ADDED, inert_alone=True))
    ahead: Mapping[str, Ahead] = field(
        default_factory=dict, metadata=_rule(Merge.UNION, functions=True, inert_alone=True)
    )
    stepper: Stepper | None = field(default=None, metadata=_rule(Merge.ONE))
    needs_alphas: bool = field(default=False, metadata=_rule(Merge.ALL, descriptive=True))
    reads_logits: tuple[str, ...] = field(default=(), metadata=_rule(Merge.ADDED, descriptive=True))
    reads_accuracy: tuple[str, ...] = field(
        default=(), metadata=_rule(Merge.ADDED, descriptive=True)
    )
    origins: tuple[Origin, ...] = field(default=(), metadata=_rule(Merge.ADDED, descriptive=True))

    def __post_init__(self) -> None:
        if self.any_mixture and self.relax is not None:
            raise ValueError(
                f"patch {self.name!r} has a relaxation of its own, so it cannot read any mixture: "
                "leave out any_mixture"
            )
        for name, rule in RULES.items():
            if rule.merge is Merge.ADDED:
                object.__setattr__(self, name, _several(getattr(self, name)))
            values = self._values(name, rule.merge)
            if rule.functions:
                self._check_functions(name, values)

    def _values(self, name: str, merge: Merge) -> Iterable[Any]:
        """Return the single values of a field, or raise a ValueError if it must be a mapping."""
        value = getattr(self, name)
        if merge is Merge.ADDED:
            return tuple(value)
        if merge not in (Merge.KEYS, Merge.UNION):
            return () if value is None else (value,)
        if not isinstance(value, Mapping):
            raise ValueError(
                f"patch {self.name!r}: {name} must be a mapping by name, not {short_repr(value)}"
            )
        return value.values()

    def _check_functions(self, name: str, values: Iterable[Any]) -> None:
        for value in values:
            if not callable(value):
                raise ValueError(
                    f"patch {self.name!r}: {name} must be a function, not {short_repr(value)}"
                )

    def __repr__(self) -> str:
        return f"<Patch {self.name}: {', '.join(sorted(self.set_fields())) or 'DARTS'}>"

    def set_fields(self) -> frozenset[str]:
        """Return the names of the fields that this patch sets and that change a search."""
        unset = Patch("")
        return frozenset(name for name in CHANGES if getattr(self, name) != getattr(unset, name))


Patch.__init__ = named_if_wrong(Patch.__init__)  # type: ignore[method-assign]


def _several(value: Any) -> tuple[Any, ...]:
    """Return a tuple of values; a single value, or a list, is taken as it was meant."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(value)
    return (value,)


def rule_of(one: Field[Any]) -> Rule:
    """Return the rule of a field of `Patch`."""
    rule: Rule = one.metadata["rule"]
    return rule


RULES: Mapping[str, Rule] = {one.name: rule_of(one) for one in fields(Patch)}
"""The name of each field of `Patch` -> its rule."""

CHANGES = frozenset(name for name, rule in RULES.items() if not rule.descriptive)
"""The fields that change a search. A stepper names those of them that it reads."""

SETTLED = frozenset(name for name, rule in RULES.items() if rule.user_settles)
"""The fields on which options of the user decide where patches do not agree."""
