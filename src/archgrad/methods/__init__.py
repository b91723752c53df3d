"""The one table of methods. A line here enrols a method in the command line and in the whole generic test suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field

from archgrad import options, plugins
from archgrad.arch.space import ALPHAS, AUTO, Space, WeightSettings
from archgrad.errors import shown, unknown
from archgrad.methods.betadarts import PRESETS as betadarts_presets
from archgrad.methods.betadarts import betadarts
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
from archgrad.searching.method import Made, Method
from archgrad.searching.origin import origin
from archgrad.searching.patch import Patch
from archgrad.searching.rate import Length, Published
from archgrad.spaces import space_of


class Entry(NamedTuple):
    patch: Callable[..., Patch]  # keyword options -> what the method changes
    paper: str
    summary: str
    presets: Mapping[
        str, Mapping[str, Any]
    ] = {}  # options that differ in a space, by its name, and further sets of options, by theirs
    lengths: Mapping[
        str, Length
    ] = {}  # published searches by the name of their space; elsewhere a search is as long as the space's own

    def options(self, space_name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The space's preset, over it the one named by ``preset``, and over both what was given. ValueError for an unknown preset."""
        if not self.presets:
            return dict(given)
        own = {name: value for name, value in given.items() if name != "preset"}
        named = given.get("preset")
        if named is not None and named not in self.presets:
            raise unknown("preset", named, self.presets)
        return {**self.presets.get(space_name, {}), **self.presets.get(named or "", {}), **own}

    def made(self, name: str, space_name: str, given: Mapping[str, Any]) -> Patch:
        """The patch of the method, as `options` has it in a space. ValueError for what is unknown or out of range."""
        values = options.values(name, options.model(self.patch), self.options(space_name, given))
        said = frozenset(given) | frozenset(self.presets.get(given.get("preset") or "", {}))
        return replace(
            self.patch(**values),
            origins=(origin(self.patch, values, self.presets, said)._replace(name=name),),
        )

    def usual(self, name: str, space_name: str, given: Mapping[str, Any]) -> Patch:
        """The method at its defaults in a space; of what was ``given`` it has only what has no default."""
        fields = options.model(self.patch).model_fields
        needed = {
            key: value
            for key, value in given.items()
            if key in fields and fields[key].is_required()
        }
        return self.made(name, space_name, needed)

    def model(self) -> type[BaseModel]:
        """The options a user may set."""
        return options.model(
            self.patch, **({"preset": (self._preset(), None)} if self.presets else {})
        )

    def _preset(self) -> Any:
        meaning = (
            f"name of a set of options, laid over those of the space: {', '.join(self.presets)}"
        )
        return Annotated[str | None, Field(description=meaning)]


IN_NASBENCH201 = {"nasbench201": Length(100)}  # [author code] as all lengths

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
        "a softmax so cold that the supernet is nearly the derived network",
        stdarts_presets,
    ),
    "sddarts": Entry(
        sddarts,
        "2023, arXiv 2302.05629",
        "the supernet also learns from its own earlier selves, which vote",
    ),
    "cdarts": Entry(
        cdarts,
        "2022, arXiv 2006.10724",
        "a search and an evaluation network that teach each other in cycles",
        cdarts_presets,
        {"darts": Length(32)},
    ),
    "snas": Entry(
        snas,
        "Xie et al. 2019, arXiv 1812.09926",
        "a mixture drawn from a concrete distribution; one level",
        {},
        {"darts": Length(150, 96, 45_000)},  # on all images, of which 0.9 train both here
    ),
    "gdas": Entry(
        gdas,
        "Dong, Yang 2019, arXiv 1910.04465",
        "one drawn op an edge runs; straight-through Gumbel softmax",
        gdas_presets,
        {"darts": Length(250, 256), "nasbench201": Length(250)},
    ),
    "pdarts": Entry(
        pdarts,
        "Chen et al. 2019, arXiv 1904.12760",
        "three stages: ever deeper, over ever fewer ops; few skips",
        pdarts_presets,
        {"darts": Length(75, 96)},
    ),
    "pcdarts": Entry(
        pcdarts,
        "Xu et al. 2020, arXiv 1907.05737",
        "a part of the channels goes through the ops; a softmax over a node's inputs",
        {},
        {"darts": Length(50, 256)},
    ),
    "fairdarts": Entry(
        fairdarts,
        "Chu et al. 2020, arXiv 1911.12126",
        "ops that do not compete, each driven to 0 or 1; selection by threshold",
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
        "stages: ever fewer ops, ever more channels; for any method",
        progressive_presets,
        IN_NASBENCH201,
    ),
    "dartsminus": Entry(
        dartsminus,
        "Chu et al. 2021, arXiv 2009.01027",
        "a second, unsearched skip on every edge, whose weight falls to 0",
    ),
    "dartspt": Entry(
        dartspt,
        "Wang et al. 2021, arXiv 2108.04392",
        "selects the op whose removal hurts, after any search",
        dartspt_presets,
        IN_NASBENCH201,
    ),
    "betadarts": Entry(
        betadarts,
        "Ye et al. 2022, arXiv 2203.01665",
        "a growing pull of alphas on an edge to each other",
        betadarts_presets,
        IN_NASBENCH201,
    ),
    "robustdarts": Entry(
        robustdarts,
        "Zela et al. 2020, arXiv 1909.09656",
        "stops where the alphas' curvature rises",
        robustdarts_presets,
    ),
    "smoothdarts": Entry(
        smoothdarts,
        "Chen, Hsieh 2020, arXiv 2002.05283",
        "weights learn at a random or at the worst mixture near by",
    ),
    "lambdadarts": Entry(
        lambdadarts,
        "Movahedi et al. 2023, arXiv 2210.07998",
        "weights that make cells agree",
        lambdadarts_presets,
        IN_NASBENCH201,
    ),
    "oles": Entry(
        oles,
        "Jiang et al. 2023, arXiv 2311.04591",
        "ops whose training and validation gradients part stop learning",
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
        "a random path a step; the best of many by shared weights",
        rsws_presets,
        {"nasbench201": Length(250)},
    ),
}


def method(
    name: str,
    space: Space | str,
    *,
    patches: Iterable[Patch] = (),
    budget: Patch | None = None,
    **given: Any,
) -> Method:
    """A method by name, or several as ``"a+b"``, over a space or its name, and with them ``patches`` of your own, composed in this order: the
    one door that knows what each method's options are in this space (`Entry.presets`), and which rate of the alphas is published for it.

    Options go under their owner's name (``darts={"order": "weight_first"}``), and for a single method directly. ``weights`` and ``alphas``
    set the optimizers (fields of `WeightSettings` and `AlphaSettings`); ``budget`` is what `archgrad.methods.budget.budget` makes of limits.
    The alphas' ``lr`` may be "auto", and is so by default: the published rate, fitted to the length of the search where that starts
    (`archgrad.searching.rate`). ValueError: what is unknown, out of range or in conflict.
    """
    plugins.find()
    space = space_of(space)
    if not isinstance(name, str):
        raise ValueError(
            f"the name of a method is expected, such as darts or stdarts+sddarts, not {shown(name)}"
        )
    names = name.split("+")
    for one in names:
        if one not in METHODS:
            raise plugins.unknown("method", one, METHODS)
        if names.count(one) > 1:
            raise ValueError(f"method {name!r} names {one} twice")
    owners = {*names, "darts", "weights", "alphas"}
    sections = {
        key: dict(value or {})
        for key, value in given.items()
        if key in owners and isinstance(value, Mapping)
    }
    loose = {key: value for key, value in given.items() if key not in sections}
    if loose and len(names) > 1:
        raise unknown("section of options", next(iter(loose)), owners)
    sections.setdefault(names[0], {}).update(loose)
    made = [
        METHODS[one].made(one, space.name, sections.get(one, {})) for one in names if one != "darts"
    ]
    own = _own(patches, names)
    word = options.values("alphas", ALPHAS, sections.get("alphas", {}))
    auto = word.get("lr", AUTO) == AUTO
    said = {name: value for name, value in word.items() if not (auto and name == "lr")}
    patch = compose(*made, *own, *([budget] if budget else []), settle=_user(sections, said))
    with_rate = tuple(name for name in patch.with_rate if name not in said)
    usual = {
        one: METHODS[one].usual(one, space.name, sections.get(one, {}))
        for one in names
        if one != "darts"
    }
    whole = replace(patch, with_rate=with_rate)
    plain = (
        None if own or budget else Made(again, name, given, whole, space)
    )  # functions of a user cannot be made again by name
    return Method(whole, space, published(usual, space, patch, auto), plain)


def again(name: str, space: Space, given: Mapping[str, Any]) -> Method:
    """A method of the names and options that a pickled one was made of."""
    return method(name, space, **given)


def _own(patches: Iterable[Patch], names: Iterable[str]) -> tuple[Patch, ...]:
    """The user's patches. ValueError where one of them is of a method that is named, too."""
    own = tuple(patches) if isinstance(patches, Iterable) else (patches,)
    for one in own:
        if not callable(getattr(one, "sets", None)):
            raise ValueError(f"patches: a list of archgrad.Patch is expected, not {shown(one)}")
        for twice in (known.name for known in one.origins if known.name in names):
            raise ValueError(
                f"patch {one.name!r} is of the method {twice}, which is named, too: leave out one of the two"
            )
    return own


def published(
    usual: Mapping[str, Patch], space: Space, patch: Patch, auto: bool
) -> Published | None:
    """What the literature says of the alphas' rate of methods that are ``usual`` by name and make up ``patch``; None where they disagree, and so
    the user decides. A rate that an option of a method set otherwise (``drnas.alphas_lr``) is the user's word, and no automatic one."""
    own = space.defaults
    rates = {one.alphas["lr"] for one in usual.values() if "lr" in one.alphas} or {own.alphas.lr}
    length = Length(own.epochs, own.batch)
    plans = {METHODS[one].lengths.get(space.name, length).plan for one in usual} or {length.plan}
    lr, *others = sorted(rates)
    return (
        None
        if others
        else Published(
            lr, tuple(sorted(plans)), auto and patch.alphas.get("lr", own.alphas.lr) == lr
        )
    )


def _user(sections: Mapping[str, Mapping[str, Any]], alphas: Mapping[str, Any]) -> Patch:
    """What the user set himself, as one patch: it settles what the methods disagree on."""
    own = options.call("darts", darts, sections.get("darts", {}))
    weights = options.values("weights", options.model(WeightSettings), sections.get("weights", {}))
    return Patch(
        "darts", order=own.order, hypergradient=own.hypergradient, weights=weights, alphas=alphas
    )
