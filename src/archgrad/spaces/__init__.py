"""Search spaces, by name. A new space enrols by one line of the table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

from archgrad import plugins
from archgrad.arch.space import Space
from archgrad.errors import shown
from archgrad.spaces.darts import STEMS, Darts
from archgrad.spaces.mbconv import STEMS as MOBILE
from archgrad.spaces.mbconv import MBConv
from archgrad.spaces.nasbench201 import NasBench201
from archgrad.spaces.nasbenchmacro import NasBenchMacro


class Entry(NamedTuple):
    """``build(**options)``, where the space comes from, and its choices of ``stem``, for images of different sizes."""

    build: Callable[..., Space]
    paper: str
    stems: Collection[str] = ()


ROBUST = "Zela et al., Understanding and Robustifying Differentiable Architecture Search, arXiv 1909.09656"

SPACES: dict[str, Entry] = {
    "darts": Entry(
        Darts, "Liu et al., DARTS: Differentiable Architecture Search, arXiv 1806.09055", STEMS
    ),
    "s1": Entry(partial(Darts, "s1"), ROBUST, STEMS),
    "s2": Entry(partial(Darts, "s2"), ROBUST, STEMS),
    "s3": Entry(partial(Darts, "s3"), ROBUST, STEMS),
    "s4": Entry(partial(Darts, "s4"), ROBUST, STEMS),
    "nasbench201": Entry(NasBench201, "Dong and Yang, NAS-Bench-201, arXiv 2001.00326"),
    "mbconv": Entry(
        MBConv, "Yu et al., Cyclic Differentiable Architecture Search, arXiv 2006.10724", MOBILE
    ),
    "nasbenchmacro": Entry(
        NasBenchMacro,
        "Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, arXiv 2103.11922",
    ),
}


def space(name: str, /, **options: Any) -> Space:
    """The space of that name. ValueError for an unknown name or option, or an option out of range."""
    plugins.find()
    if name not in SPACES:
        raise plugins.unknown("space", name, SPACES)
    return SPACES[name].build().resized(**options)


def space_of(given: Any) -> Space:
    """A space as it is, by its name, or by a mapping of its ``name`` and options. ValueError for anything else."""
    if isinstance(given, str):
        given = {"name": given}
    if isinstance(given, Mapping) and "name" in given:
        return space(
            given["name"], **{name: value for name, value in given.items() if name != "name"}
        )
    if not all(
        hasattr(type(given), name) or hasattr(given, name)
        for name in ("name", "groups", "defaults", "resized", "spec", "supernet")
    ):
        raise ValueError(f"a space or the name of one is expected, not {shown(given)}")
    found: Space = given
    return found
