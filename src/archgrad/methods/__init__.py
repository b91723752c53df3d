"""The one table of methods. A line here enrols a method in the command line and in the whole generic test suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from archgrad import options
from archgrad.errors import unknown
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
from archgrad.patch import Patch, compose
from archgrad.search_method import Method
from archgrad.search_space import AlphaSettings, Space, WeightSettings


class Entry(NamedTuple):
    patch: Callable[..., Patch]  # keyword options -> what the method changes
    paper: str
    summary: str
    presets: Mapping[str, Mapping[str, Any]] = {}  # options that differ in a space, by its name, and further sets of options, by theirs

    def options(self, space_name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The space's preset, over it the one named by ``preset``, and over both what was given. ValueError for an unknown preset."""
        if not self.presets:
            return dict(given)
        own = {name: value for name, value in given.items() if name != "preset"}
        named = given.get("preset")
        if named is not None and named not in self.presets:
            raise unknown("preset", named, self.presets)
        return {**self.presets.get(space_name, {}), **self.presets.get(named or "", {}), **own}

    def model(self) -> type[BaseModel]:
        """The options a user may set."""
        return options.model(self.patch, **({"preset": (str | None, None)} if self.presets else {}))


METHODS: dict[str, Entry] = {
    "darts": Entry(darts, "Liu, Simonyan, Yang 2019, arXiv 1806.09055", "softmax mixture; alphas on validation, weights on training images"),
    "random": Entry(random, "Li, Talwalkar 2019, arXiv 1902.07638", "control arm: k random architectures at equal cost, best on validation"),
    "stdarts": Entry(stdarts, "2023, arXiv 2306.06855", "a softmax so cold that the supernet is nearly the derived network", stdarts_presets),
    "sddarts": Entry(sddarts, "2023, arXiv 2302.05629", "the supernet also learns from its own earlier selves, which vote"),
    "cdarts": Entry(cdarts, "2022, arXiv 2006.10724", "a search and an evaluation network that teach each other in cycles", cdarts_presets),
    "snas": Entry(snas, "Xie et al. 2019, arXiv 1812.09926", "a mixture drawn from a concrete distribution; one level"),
    "gdas": Entry(gdas, "Dong, Yang 2019, arXiv 1910.04465", "one drawn op an edge runs; straight-through Gumbel softmax", gdas_presets),
    "pdarts": Entry(pdarts, "Chen et al. 2019, arXiv 1904.12760", "three stages: ever deeper, over ever fewer ops; few skips", pdarts_presets),
    "pcdarts": Entry(pcdarts, "Xu et al. 2020, arXiv 1907.05737", "a part of the channels goes through the ops; a softmax over a node's inputs"),
    "fairdarts": Entry(fairdarts, "Chu et al. 2020, arXiv 1911.12126", "ops that do not compete, each driven to 0 or 1; selection by threshold"),
    "drnas": Entry(drnas, "Chen et al. 2021, arXiv 2006.10355", "a mixture drawn from a learned Dirichlet distribution", drnas_presets),
    "progressive": Entry(
        progressive, "Chen et al. 2021, arXiv 2006.10355", "stages: ever fewer ops, ever more channels; for any method", progressive_presets
    ),
    "dartsminus": Entry(dartsminus, "Chu et al. 2021, arXiv 2009.01027", "a second, unsearched skip on every edge, whose weight falls to 0"),
    "dartspt": Entry(dartspt, "Wang et al. 2021, arXiv 2108.04392", "selects the op whose removal hurts, after any search", dartspt_presets),
    "betadarts": Entry(betadarts, "Ye et al. 2022, arXiv 2203.01665", "a growing pull of alphas on an edge to each other", betadarts_presets),
    "robustdarts": Entry(robustdarts, "Zela et al. 2020, arXiv 1909.09656", "stops where the alphas' curvature rises", robustdarts_presets),
    "smoothdarts": Entry(smoothdarts, "Chen, Hsieh 2020, arXiv 2002.05283", "weights learn at a random or at the worst mixture near by"),
    "lambdadarts": Entry(lambdadarts, "Movahedi et al. 2023, arXiv 2210.07998", "weights that make cells agree", lambdadarts_presets),
    "oles": Entry(oles, "Jiang et al. 2023, arXiv 2311.04591", "ops whose training and validation gradients part stop learning"),
    "reinmax": Entry(reinmax, "Liu et al. 2023, arXiv 2304.08612", "GDAS with a second-order gradient of the draw", gdas_presets),
    "rsws": Entry(rsws, "Li, Talwalkar 2019, arXiv 1902.07638", "a random path a step; the best of many by shared weights", rsws_presets),
}


def method(name: str, space: Space, *, budget: Patch | None = None, **given: Any) -> Method:
    """A method by name, or several as ``"a+b"``, over a space.

    Options go under their owner's name (``darts={"order": "weight_first"}``), and for a single method directly. ``weights`` and ``alphas``
    set the optimizers (fields of `WeightSettings` and `AlphaSettings`); ``budget`` is what `archgrad.budget.budget` makes of limits.
    ValueError: what is unknown, out of range or in conflict.
    """
    names = name.split("+")
    for one in names:
        if one not in METHODS:
            raise unknown("method", one, METHODS)
        if names.count(one) > 1:
            raise ValueError(f"method {name!r} names {one} twice")
    owners = {*names, "darts", "weights", "alphas"}
    sections = {key: dict(value or {}) for key, value in given.items() if key in owners and isinstance(value, Mapping)}
    loose = {key: value for key, value in given.items() if key not in sections}
    if loose and len(names) > 1:
        raise unknown("section of options", next(iter(loose)), owners)
    sections.setdefault(names[0], {}).update(loose)
    patches = [
        options.call(one, METHODS[one].patch, METHODS[one].options(space.name, sections.get(one, {}))) for one in names if one != "darts"
    ]
    return Method(compose(*patches, *([budget] if budget else []), settle=_user(sections, space)), space)


def _user(sections: Mapping[str, Mapping[str, Any]], space: Space) -> Patch:
    """What the user set himself, as one patch: it settles what the methods disagree on."""
    own = options.call("darts", darts, sections.get("darts", {}))
    weights = _settings("weights", WeightSettings, sections.get("weights", {}))
    alphas = _settings("alphas", AlphaSettings, sections.get("alphas", {}))
    return Patch("darts", order=own.order, hypergradient=own.hypergradient, weights=weights, alphas=alphas)


def _settings(owner: str, kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields of a settings class, converted and checked by building one."""
    made = options.call(owner, kind, given)
    return {name: getattr(made, name) for name in given}
