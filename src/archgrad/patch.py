"""A method is what it changes relative to DARTS: a frozen `Patch`, and `compose`, which puts several together or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from archgrad.arch import Alphas, Context, EdgeGroup, Forward, Genotype, Groups, Loss, Mixture
from archgrad.bounds import EPOCHS
from archgrad.errors import shown
from archgrad.hypergradient import Hypergradient
from archgrad.limits import Limits
from archgrad.memory import Memory
from archgrad.origin import Origin
from archgrad.schedules import Scalar, When
from archgrad.terms import Term

if TYPE_CHECKING:
    from archgrad.search_method import Method
    from archgrad.search_space import Space
    from archgrad.state import Data, State
    from archgrad.stepper import Stepper

Relaxation = Callable[[Alphas, Context], Mixture]
Reshape = Callable[[Mixture, Alphas, Context], Mixture]
LossAt = Callable[[Mixture], Tensor]
Perturb = Callable[[Mixture, LossAt, Context], list[tuple[float, Mixture]]]
"""Mixtures to train the weights at, each with its share of the loss (SmoothDARTS)."""
Select = Callable[[Mixture, Groups, Limits], Genotype]
"""What is read off a mixture; it keeps to the limits."""


class Decision(NamedTuple):
    """One step of a `Finalise`: the genotype as decided so far, and whatever it needs (JSON-able) to go on from here."""

    genotype: Genotype
    note: dict[str, Any]


Finalise = Callable[["Method", "State", "Data", list[Decision]], Iterator[Decision]]
"""What happens after the last epoch. Goes on from the decisions already taken: a generator's frame cannot be saved."""

Found = dict[str, Tensor | None]
Transform = Callable[[Found, Forward], Found]
"""The gradients of the supernet weights by name, and the pass they come from -> those the weights are moved by; None rests (OLES)."""

Carry = Callable[["State", "State"], None]
Ahead = Callable[["Method", "State"], float]
"""Forward passes of an image that are still to come beside the steps, to tell how long a search takes; a backward pass counts as two."""


class Stage(NamedTuple):
    """At ``begin`` the search goes on in another space. ``carry(old, new)`` hands over what should live on. Alphas move from ``alpha_from``
    on, an epoch of the whole search (None: at once). ``continues``: the supernet goes on living, and schedules of its life with it. ``set_by``:
    the option that decides how many stages there are, for messages."""

    begin: When
    change: Callable[[Method, State], Space]
    carry: Carry | None = None
    alpha_from: When | None = None
    continues: bool = False
    set_by: str = ""


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
    train_alpha_terms: tuple[Term, ...] = ()  # of the alphas too, but of a pass over training images
    drives: Mapping[Any, str] = field(default_factory=dict)  # term -> what to try where it diverges, as in "--sddarts.strength below 1"
    memory: Mapping[str, Callable[[], Memory]] = field(default_factory=dict)
    scalars: Mapping[str, Scalar] = field(default_factory=dict)  # schedules worth a column of the metrics
    extra_alphas: Mapping[str, Callable[[EdgeGroup], tuple[int, ...]]] = field(default_factory=dict)  # name -> shape; kept as group/name
    hypergradient: Hypergradient | None = None
    alpha_split: str | None = None  # whose images alphas learn from: "val" | "train" (one level instead of two)
    perturb: Perturb | None = None
    transforms: tuple[Transform, ...] = ()  # of the weights' gradients, in order, before they are clipped
    stages: tuple[Stage, ...] | None = None
    finalise: Finalise | None = None
    order: str | None = None  # "alpha_first" | "weight_first"
    alpha_from: When | None = None  # first epoch with alpha steps; the latest of all patches counts
    lengths: tuple[When, ...] = ()  # further moments and intervals, in epochs; asked beforehand, so that what does not fit is refused
    limits: Limits = ()  # what the architecture may cost: every selection and every draw keeps to it
    space: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)  # of WeightSettings
    alphas: Mapping[str, Any] = field(default_factory=dict)  # of AlphaSettings
    with_rate: tuple[str, ...] = ()  # those of AlphaSettings that grow with an automatic lr (`archgrad.rate`)
    ahead: Mapping[str, Ahead] = field(default_factory=dict)  # what memories measure and a finalisation does -> how much is to come
    stepper: Stepper | None = None
    needs_alphas: bool = False  # without alpha steps it does nothing, even where a field of it seems to
    origins: tuple[Origin, ...] = ()  # the methods it is of, each with its options

    def __post_init__(self) -> None:
        """ValueError where a field is of another type; one value in the place of several, and a list of them, are taken as they are meant."""
        for name in ADDED:
            value = getattr(self, name)
            several = tuple(value) if isinstance(value, list | tuple) and not hasattr(value, "_fields") else (value,)
            object.__setattr__(self, name, several)
            self._check(name, several if name in ACTING else ())
        if self.any_mixture and self.relax is not None:
            raise ValueError(f"patch {self.name!r}: it has a relaxation of its own, so it does not read any mixture: leave out any_mixture")
        for name in (*UNIT, "loss", "hypergradient", "perturb", "finalise", "alpha_from"):
            self._check(name, [value] if (value := getattr(self, name)) is not None else [])
        for name in (*MERGED, "ahead"):
            if not isinstance(value := getattr(self, name), Mapping):
                raise ValueError(f"patch {self.name!r}: {name} must be a mapping by name, not {shown(value)}")
            self._check(name, value.values() if name in ("memory", "scalars", "extra_alphas", "ahead") else ())

    def _check(self, name: str, values: Iterable[Any]) -> None:
        for value in values:
            if not callable(value):
                raise ValueError(f"patch {self.name!r}: {name} must be a function, not {shown(value)}")

    def __repr__(self) -> str:
        return f"<Patch {self.name}: {', '.join(sorted(self.sets())) or 'DARTS'}>"

    def sets(self) -> frozenset[str]:
        """The fields this patch sets, but for its name, its origins and what only messages read."""
        unset = Patch("")
        return frozenset(f.name for f in fields(self) if f.name not in ASIDE and getattr(self, f.name) != getattr(unset, f.name))


ACTING = ("reshape", "weight_terms", "alpha_terms", "train_alpha_terms", "transforms", "lengths")
ASIDE = ("name", "drives", "origins", "any_mixture", "needs_alphas")
UNIT = ("relax", "readout", "select")
EXCLUSIVE = ("loss", "hypergradient", "alpha_split", "perturb", "stages", "finalise", "order", "stepper")
ADDED = ("reshape", "weight_terms", "alpha_terms", "train_alpha_terms", "transforms", "lengths", "limits", "with_rate", "origins")
SETTLED = ("order", "hypergradient", "weights", "alphas")  # where the user's own options decide: darts.*, weights.*, alphas.*
IN_ALPHA_STEPS = ("alpha_terms", "train_alpha_terms", "hypergradient", "alpha_split")
QUIET = ("memory", "scalars", "extra_alphas", "alphas", "with_rate", "ahead", "lengths", "alpha_from")
"""Fields that do nothing by themselves."""
MERGED = ("drives", "memory", "scalars", "extra_alphas", "space", "weights", "alphas")


def claims(patch: Patch, *, apart: bool = False) -> dict[str, Any]:
    """What only one can decide, and what this patch says of it: the relaxation unit, exclusive fields, and keys such as ``weights.lr``. Of a
    patch for any mixture the unit falls apart, and ``apart`` says that of others it does, too."""
    sets = patch.sets()
    unit = {"relax/readout/select": [getattr(patch, name) for name in UNIT]} if sets & set(UNIT) and not patch.any_mixture else {}
    if patch.any_mixture or apart:
        unit |= {name: getattr(patch, name) for name in ("readout", "select") if name in sets}
    alone = {name: getattr(patch, name) for name in EXCLUSIVE if name in sets}
    return unit | alone | {f"{name}.{key}": value for name in MERGED for key, value in getattr(patch, name).items()}


def conflicts(*patches: Patch) -> dict[str, list[Patch]]:
    """What several set and do not agree on -> who sets it, in order of the names."""
    apart = any(patch.any_mixture for patch in patches)
    owners: dict[str, list[tuple[Patch, Any]]] = {}
    for patch in patches:
        for what, value in claims(patch, apart=apart).items():
            owners.setdefault(what, []).append((patch, value))
    return {
        what: [patch for patch, _ in found]
        for what, found in sorted(owners.items())
        if any(value != found[0][1] for _, value in found)
    }


def idle(*patches: Patch) -> list[tuple[Patch, Patch]]:
    """The patches that can never act, each with the one whose ``alpha_from`` never comes: they act in alpha steps alone."""
    never = next((patch for patch in patches if _never(patch)), None)
    return [(patch, never) for patch in patches if never is not None and patch is not never and _in_alpha_steps(patch)]


def _never(patch: Patch) -> bool:
    try:
        return patch.alpha_from is not None and patch.alpha_from(EPOCHS) >= EPOCHS
    except ValueError:  # of a moment that this length has not
        return False


def _in_alpha_steps(patch: Patch) -> bool:
    acts = patch.sets() - set(QUIET)
    return patch.needs_alphas or (bool(acts) and acts <= set(IN_ALPHA_STEPS))


def compose(*patches: Patch, settle: Patch | None = None) -> Patch:
    """One patch of several. Terms, reshapes, transforms and memories add up; on what only one can decide all who set it must agree, unless
    ``settle`` does (the user's own word, which wins).

    ValueError names the field and both patches.
    """
    settle = settle or Patch("")
    for what, owners in conflicts(*patches).items():
        if what not in claims(settle):
            names = " and ".join(patch.name for patch in owners)
            own = f", or say which by --{what if '.' in what else f'darts.{what}'}" if what.split(".")[0] in SETTLED else ""
            raise ValueError(f"{names} both set {what}: use one of them{own}")
    for one, never in idle(*patches):
        raise ValueError(f"{one.name} acts in alpha steps alone, and {never.name} has an alpha_from that never comes: leave out one of them")
    everyone = (*patches, settle)
    values: dict[str, Any] = {"name": "+".join(patch.name for patch in patches) or "darts"}
    units = [patch for patch in everyone if patch.sets() & set(UNIT)]
    values["any_mixture"] = bool(units) and all(patch.any_mixture for patch in units)
    for patch in sorted(units, key=lambda one: one.any_mixture):  # what reads any mixture is put over the unit
        parts = ("readout", "select") if patch.any_mixture else UNIT
        values |= {name: value for name in parts if (value := getattr(patch, name)) is not None or not patch.any_mixture}
    values["needs_alphas"] = bool(patches) and all(patch.needs_alphas for patch in patches)
    for name in EXCLUSIVE:
        values[name] = next((v for patch in reversed(everyone) if (v := getattr(patch, name)) is not None), None)
    for name in ADDED:
        values[name] = tuple(item for patch in everyone for item in getattr(patch, name))
    for name in (*MERGED, "ahead"):  # which nobody can disagree on: it goes with a finalisation or a memory
        values[name] = {key: value for patch in everyone for key, value in getattr(patch, name).items()}
    begins = [patch.alpha_from for patch in everyone if patch.alpha_from is not None]
    values["alpha_from"] = (lambda epochs: max(begin(epochs) for begin in begins)) if begins else None
    return Patch(**values)
