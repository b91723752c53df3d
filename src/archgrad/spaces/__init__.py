"""The table of search spaces, and the parts from which a new space is built.

A new space needs one line in the table `SPACES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

from archgrad import plugins
from archgrad.arch.space import Space
from archgrad.arguments import named_if_wrong
from archgrad.errors import short_repr
from archgrad.spaces import options
from archgrad.spaces.cells import Cell
from archgrad.spaces.darts import STEMS, Darts
from archgrad.spaces.derived import Derived
from archgrad.spaces.mbconv import STEMS as MOBILE
from archgrad.spaces.mbconv import MBConv
from archgrad.spaces.nasbench201 import NasBench201
from archgrad.spaces.nasbenchmacro import NasBenchMacro
from archgrad.spaces.primitives import FREE, PRIMITIVES, Conv, Primitive, Style

__all__ = [
    "FREE",
    "PRIMITIVES",
    "SPACES",
    "Cell",
    "Conv",
    "Darts",
    "Derived",
    "Entry",
    "MBConv",
    "NasBench201",
    "NasBenchMacro",
    "Primitive",
    "Style",
    "entry",
    "options",
    "space",
    "space_of",
]


class Entry(NamedTuple):
    """A line of the table.

    ``build(**options)`` returns the space, ``paper`` is its source, and ``stems`` are the values of
    its option ``stem``, for images of different sizes.
    """

    build: Callable[..., Space]
    paper: str
    stems: Collection[str] = ()


ROBUST = (
    "Zela et al., Understanding and Robustifying Differentiable Architecture Search, "
    "arXiv 1909.09656"
)

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
        "Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, "
        "arXiv 2103.11922",
    ),
}


@named_if_wrong
def space(name: str, /, **options: Any) -> Space:
    """Return the search space of a name.

    Args:
        name: Name of the space, as `archgrad spaces` lists it, or ``mypackage.nets:Net`` for a
            module of your own.
        options: Options of the space, such as ``channels`` and ``cells``.

    Returns:
        The space.

    Raises:
        ValueError: The name or an option is unknown, or a value is out of range.

    >>> space("nasbench201", channels=8).groups["cell"].width
    5
    """
    return entry(name).build().resized(**options)


def entry(name: str) -> Entry:
    """Return the line of a space in the table.

    Args:
        name: Name of the space, or ``mypackage.nets:Net`` for a module of your own.

    Returns:
        The line.

    Raises:
        ValueError: There is no such space, or the module cannot be imported.
    """
    plugins.load_entry_points()
    plugins.load_space(name)
    if name not in SPACES:
        raise plugins.unknown("space", name, SPACES)
    return SPACES[name]


def space_of(given: Any) -> Space:
    """Return a search space in any of its forms.

    Args:
        given: A space, its name, or a mapping with its ``name`` and its options.

    Returns:
        The space.

    Raises:
        ValueError: The value is none of these.
    """
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
        raise ValueError(f"a space or the name of one is expected, not {short_repr(given)}")
    found: Space = given
    return found
