"""The table of all methods, and the function that makes a method by name.

A line in `METHODS` is all that the command line and the generic tests need to have a new method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field

from archgrad import options, plugins
from archgrad.arch.space import ALPHAS, AUTO, Space, WeightSettings
from archgrad.arguments import named_if_wrong
from archgrad.errors import short_repr, unknown_name
from archgrad.methods.betadarts import PRESETS as betadarts_presets
from archgrad.methods.betadarts import betadarts
from archgrad.methods.budget import budget
from archgrad.methods.cdarts import PRESETS as cdarts_presets
from archgrad.methods.cdarts import cdarts
from archgrad.methods.darts import darts
from archgrad.methods.dartsminus import dartsminus
from archgrad.methods.dartspt import PRESETS as dartspt_presets
from archgrad.methods.dartspt import dartspt
from archgrad.methods.drnas import PRESETS as drnas_presets
from archgrad.methods.drnas import drnas
from archgrad.methods.fairdarts import fairdarts
from archgrad.methods.gdas import PRESETS as gdas_presets
from archgrad.methods.gdas import gdas
from archgrad.methods.lambdadarts import PRESETS as lambdadarts_presets
from archgrad.methods.lambdadarts import lambdadarts
from archgrad.methods.oles import oles
from archgrad.methods.pcdarts import pcdarts
from archgrad.methods.pdarts import PRESETS as pdarts_presets
from archgrad.methods.pdarts import pdarts
from archgrad.methods.progressive import PRESETS as progressive_presets
from archgrad.methods.progressive import progressive
from archgrad.methods.random import random
from archgrad.methods.reinmax import reinmax
from archgrad.methods.robustdarts import PRESETS as robustdarts_presets
from archgrad.methods.robustdarts import robustdarts
from archgrad.methods.rsws import PRESETS as rsws_presets
from archgrad.methods.rsws import rsws
from archgrad.methods.sddarts import sddarts
from archgrad.methods.smoothdarts import smoothdarts
from archgrad.methods.snas import snas
from archgrad.methods.stdarts import PRESETS as stdarts_presets
from archgrad.methods.stdarts import stdarts
from archgrad.searching.compose import compose
from archgrad.searching.method import Construction, Method
from archgrad.searching.origin import origin
from archgrad.searching.patch import Patch
from archgrad.searching.rate import Length, Published
from archgrad.spaces import space_of

__all__ = [
    "METHODS",
    "Entry",
    "betadarts",
    "budget",
    "cdarts",
    "darts",
    "dartsminus",
    "dartspt",
    "drnas",
    "fairdarts",
    "gdas",
    "lambdadarts",
    "method",
    "oles",
    "pcdarts",
    "pdarts",
    "progressive",
    "published_rate",
    "random",
    "reinmax",
    "robustdarts",
    "rsws",
    "sddarts",
    "smoothdarts",
    "snas",
    "stdarts",
]


class Entry(NamedTuple):
    """A line of the table of methods.

    Attributes:
        patch: The function of the method. It takes the options by keyword and returns a patch.
        paper: Authors, year and arXiv number.
        summary: The idea in a few words, for a list of methods.
        presets: Options by the name of a space, where a default differs in that space. Other names
            are further sets of options, which a user chooses by ``preset``.
        lengths: Length of the published search, by the name of its space. In other spaces it is the
            space's own default length.
    """

    patch: Callable[..., Patch]
    paper: str
    summary: str
    presets: Mapping[str, Mapping[str, Any]] = {}
    lengths: Mapping[str, Length] = {}

    def resolved_options(self, space_name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options in a space that differ from the defaults of the method.

        Args:
            space_name: Name of the space, whose preset is the base.
            given: Options of the user, which override every preset. The option ``preset`` names a
                further preset, which overrides the preset of the space.

        Raises:
            ValueError: No preset has the name.
        """
        if not self.presets:
            return dict(given)
        chosen = {name: value for name, value in given.items() if name != "preset"}
        named = given.get("preset")
        if named is not None and named not in self.presets:
            raise unknown_name("preset", named, self.presets)
        return {**self.presets.get(space_name, {}), **self.presets.get(named or "", {}), **chosen}

    def make_patch(self, name: str, space_name: str, given: Mapping[str, Any]) -> Patch:
        """Return the patch of the method in a space, with its origin.

        Args:
            name: Name of the method.
            space_name: Name of the space, for its preset.
            given: Options of the user, as in `resolved_options`.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        values = options.values(
            name, options.model(self.patch), self.resolved_options(space_name, given)
        )
        by_user = frozenset(given) | frozenset(self.presets.get(given.get("preset") or "", {}))
        return replace(
            self.patch(**values),
            origins=(origin(self.patch, values, self.presets, by_user)._replace(name=name),),
        )

    def make_default_patch(self, name: str, space_name: str, given: Mapping[str, Any]) -> Patch:
        """Return the patch of the method at its defaults in a space.

        From the ``given`` options it takes those without a default only.
        """
        fields = options.model(self.patch).model_fields
        needed = {
            key: value
            for key, value in given.items()
            if key in fields and fields[key].is_required()
        }
        return self.make_patch(name, space_name, needed)

    def options_model(self) -> type[BaseModel]:
        """Return the model of the options that a user may set."""
        if not self.presets:
            return options.model(self.patch)
        names = ", ".join(self.presets)
        meaning = f"name of a set of options, which win over those of the space: {names}"
        kind = Annotated[str | None, Field(description=meaning)]
        return options.model(self.patch, preset=(kind, None))


IN_NASBENCH201 = {"nasbench201": Length(100)}  # [author code], as all lengths below

METHODS: dict[str, Entry] = {
    "darts": Entry(
        darts,
        "Liu, Simonyan, Yang 2019, arXiv 1806.09055",
        "softmax mixture; alphas on validation, weights on training images",
    ),
    "random": Entry(
        random,
        "Li, Talwalkar 2019, arXiv 1902.07638",
        "control arm: k random architectures at equal cost, best on validation",
    ),
    "stdarts": Entry(
        stdarts,
        "2023, arXiv 2306.06855",
        "a cold softmax: the supernet is nearly the derived network",
        stdarts_presets,
    ),
    "sddarts": Entry(
        sddarts,
        "2023, arXiv 2302.05629",
        "the supernet also learns from the vote of its earlier states",
    ),
    "cdarts": Entry(
        cdarts,
        "2022, arXiv 2006.10724",
        "a search and an evaluation network learn from each other in cycles",
        cdarts_presets,
        {"darts": Length(32)},
    ),
    "snas": Entry(
        snas,
        "Xie et al. 2019, arXiv 1812.09926",
        "a mixture drawn from a concrete distribution; alphas on training images",
        {},
        # The authors train on all images; here 0.9 of them train both weights and alphas.
        {"darts": Length(150, 96, 45_000)},
    ),
    "gdas": Entry(
        gdas,
        "Dong, Yang 2019, arXiv 1910.04465",
        "one drawn op per edge runs; straight-through Gumbel softmax",
        gdas_presets,
        {"darts": Length(250, 256), "nasbench201": Length(250)},
    ),
    "pdarts": Entry(
        pdarts,
        "Chen et al. 2019, arXiv 1904.12760",
        "three stages with deeper supernets and fewer ops; few skips",
        pdarts_presets,
        {"darts": Length(75, 96)},
    ),
    "pcdarts": Entry(
        pcdarts,
        "Xu et al. 2020, arXiv 1907.05737",
        "a part of the channels goes through the ops; a softmax over the inputs of a node",
        {},
        {"darts": Length(50, 256)},
    ),
    "fairdarts": Entry(
        fairdarts,
        "Chu et al. 2020, arXiv 1911.12126",
        "one sigmoid per op, pushed to 0 or 1; selection by a threshold",
        {},
        {"darts": Length(50, 128)},
    ),
    "drnas": Entry(
        drnas,
        "Chen et al. 2021, arXiv 2006.10355",
        "a mixture drawn from a learned Dirichlet distribution",
        drnas_presets,
        IN_NASBENCH201,
    ),
    "progressive": Entry(
        progressive,
        "Chen et al. 2021, arXiv 2006.10355",
        "stages with fewer ops and more channels; for any method",
        progressive_presets,
        IN_NASBENCH201,
    ),
    "dartsminus": Entry(
        dartsminus,
        "Chu et al. 2021, arXiv 2009.01027",
        "a second skip on every edge, not searched, whose weight falls to 0",
    ),
    "dartspt": Entry(
        dartspt,
        "Wang et al. 2021, arXiv 2108.04392",
        "selects, after any search, the op whose removal costs most accuracy",
        dartspt_presets,
        IN_NASBENCH201,
    ),
    "betadarts": Entry(
        betadarts,
        "Ye et al. 2022, arXiv 2203.01665",
        "a growing loss that pulls the alphas of an edge together",
        betadarts_presets,
        IN_NASBENCH201,
    ),
    "robustdarts": Entry(
        robustdarts,
        "Zela et al. 2020, arXiv 1909.09656",
        "stops where the curvature over the alphas rises",
        robustdarts_presets,
    ),
    "smoothdarts": Entry(
        smoothdarts,
        "Chen, Hsieh 2020, arXiv 2002.05283",
        "weights learn at a random or at the worst mixture nearby",
    ),
    "lambdadarts": Entry(
        lambdadarts,
        "Movahedi et al. 2023, arXiv 2210.07998",
        "weights also learn to make the cells agree on the mixture",
        lambdadarts_presets,
        IN_NASBENCH201,
    ),
    "oles": Entry(
        oles,
        "Jiang et al. 2023, arXiv 2311.04591",
        "an op stops learning once its training and validation gradients differ",
    ),
    "reinmax": Entry(
        reinmax,
        "Liu et al. 2023, arXiv 2304.08612",
        "GDAS with a second-order gradient of the draw",
        gdas_presets,
    ),
    "rsws": Entry(
        rsws,
        "Li, Talwalkar 2019, arXiv 1902.07638",
        "one random architecture per step; the best of many by shared weights",
        rsws_presets,
        {"nasbench201": Length(250)},
    ),
}


@named_if_wrong
def method(
    name: str,
    space: Space | str,
    *,
    patches: Iterable[Patch] = (),
    budget: Patch | None = None,
    **given: Any,
) -> Method:
    """Return a method by its name, or several composed methods, over a space.

    Each method has the options of its presets in this space (`Entry.presets`). The learning rate of
    the alphas is "auto" by default: the published rate, fitted to the length of the search when the
    search starts (`archgrad.searching.rate`).

    Args:
        name: Name of a method, or several as "a+b".
        space: A space, or the name of one.
        patches: Further patches of yours, composed after the named methods in this order.
        budget: A budget, made of limits by `archgrad.methods.budget`.
        given: Options, as a mapping under the name of their method: ``darts={"order":
            "weight_first"}``. The options of a single method may also stand directly. ``weights``
            and ``alphas`` set the optimizers (`WeightSettings`, `AlphaSettings`).

    Returns:
        The method.

    Raises:
        ValueError: A name or an option is unknown, a value is out of range, or two patches
            conflict.

    >>> method("stdarts+sddarts", "nasbench201", sddarts={"k": 2}).name
    'stdarts+sddarts'
    """
    plugins.load_entry_points()
    space = space_of(space)
    if not isinstance(name, str):
        raise ValueError(
            "the name of a method is expected, such as darts or stdarts+sddarts, not "
            f"{short_repr(name)}"
        )
    names = name.split("+")
    for one in names:
        if one not in METHODS:
            raise plugins.unknown("method", one, METHODS)
        if names.count(one) > 1:
            raise ValueError(f"method {name!r} names {one} twice")
    sections = _sections(names, given)
    changing = [one for one in names if one != "darts"]  # the patch of darts is the user's own
    made = [METHODS[one].make_patch(one, space.name, sections.get(one, {})) for one in changing]
    further = _checked_patches(patches, names)
    if budget is not None and not callable(getattr(budget, "set_fields", None)):
        raise ValueError(
            "budget: the patch of archgrad.methods.budget.budget is expected, not "
            f"{short_repr(budget)}"
        )
    limiting = (budget,) if budget else ()
    alphas = options.values("alphas", ALPHAS, sections.get("alphas", {}))
    auto = alphas.get("lr", AUTO) == AUTO
    if auto:
        alphas.pop("lr", None)
    patch = compose(*made, *further, *limiting, settle=_user_patch(sections, alphas))
    with_rate = tuple(name for name in patch.with_rate if name not in alphas)
    usual = {
        one: METHODS[one].make_default_patch(one, space.name, sections.get(one, {}))
        for one in changing
    }
    whole = replace(patch, with_rate=with_rate)
    # A patch of the user or a budget has functions, which no name and no option can make again.
    recipe = None if further or budget else Construction(method_again, name, given, whole, space)
    return Method(whole, space, published_rate(usual, space, patch, auto), recipe)


def method_again(name: str, space: Space, given: Mapping[str, Any]) -> Method:
    """Return the method that a pickled one was, made of the same names and options."""
    return method(name, space, **given)


def _sections(names: list[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options by their owner; options without an owner are those of a single method."""
    owners = {*names, "darts", "weights", "alphas"}
    sections = {
        key: dict(value or {})
        for key, value in given.items()
        if key in owners and isinstance(value, Mapping)
    }
    direct = {key: value for key, value in given.items() if key not in sections}
    if direct and len(names) > 1:
        raise unknown_name("section of options", next(iter(direct)), owners)
    sections.setdefault(names[0], {}).update(direct)
    return sections


def _checked_patches(patches: Iterable[Patch], names: Iterable[str]) -> tuple[Patch, ...]:
    """Return the user's patches; raise ValueError where one is of a method that is named, too."""
    checked = tuple(patches) if isinstance(patches, Iterable) else (patches,)
    for one in checked:
        if not callable(getattr(one, "set_fields", None)):
            raise ValueError(
                f"patches: a list of archgrad.Patch is expected, not {short_repr(one)}"
            )
        for twice in (known.name for known in one.origins if known.name in names):
            raise ValueError(
                f"patch {one.name!r} belongs to the method {twice}, which is also named; "
                "leave out one of the two"
            )
    return checked


def published_rate(
    usual: Mapping[str, Patch], space: Space, patch: Patch, auto: bool
) -> Published | None:
    """Return the published learning rate of the alphas, and the lengths of the searches it is for.

    Args:
        usual: The named methods at their defaults, by name.
        space: The space.
        patch: The composed patch.
        auto: Whether the user left the rate to be fitted. A rate that an option of a method has
            changed (``drnas.alphas_lr``) is the user's choice and is not fitted.

    Returns:
        The rate, or None where the methods have different published rates.
    """
    defaults = space.defaults
    default = defaults.alphas.lr
    rates = {one.alphas["lr"] for one in usual.values() if "lr" in one.alphas} or {default}
    length = Length(defaults.epochs, defaults.batch)
    plans = {METHODS[one].lengths.get(space.name, length).plan for one in usual} or {length.plan}
    lr, *others = sorted(rates)
    if others:
        return None
    return Published(lr, tuple(sorted(plans)), auto and patch.alphas.get("lr", default) == lr)


def _user_patch(sections: Mapping[str, Mapping[str, Any]], alphas: Mapping[str, Any]) -> Patch:
    """Return the user's own options as a patch, which decides where the methods disagree."""
    step = options.call("darts", darts, sections.get("darts", {}))
    weights = options.values("weights", options.model(WeightSettings), sections.get("weights", {}))
    return Patch(
        "darts", order=step.order, hypergradient=step.hypergradient, weights=weights, alphas=alphas
    )
