"""The progressive search of DrNAS (Chen et al. 2021, arXiv 2006.10355, section 3.3), for any method: ``drnas+progressive`` is DrNAS as
published in the space of DARTS.

Stages: each prunes the weakest ops of every edge and lets more channels through the others. One supernet lives through all of them: what stays
is carried over (`archgrad.methods.progressive_carry`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archgrad.arch.space import Space
from archgrad.components.schedules import never, share
from archgrad.methods.progressive_carry import carry
from archgrad.methods.stages import rested, survivors
from archgrad.option_types import PositiveInt, Share
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch
from archgrad.searching.types import Method, Stage, State

PRESETS: dict[
    str, dict[str, Any]
] = {  # [author code], but K in the space of DARTS: its 36 channels go by 6, the 16 here do not
    "darts": {"keep": (4,)},
    "nasbench201": {"rest": 0.2},
}


@marked(PRESETS)
def progressive(
    *,
    partial: tuple[PositiveInt, ...] = (4, 2),
    keep: tuple[PositiveInt, ...] = (3,),
    rest: Share = 0.4,
) -> Patch:
    """Stages of equal length, for any method: in each an edge keeps fewer ops, and more of the
    channels go through them.

    Args:
        partial: divisors K of a node's channels, one for each stage: 1/K of them go through the
            ops.
        keep: numbers of ops that each edge keeps in the second, the third, ... stage.
        rest: share of each stage, at its start, in which the alphas rest.

    Returns:
        The patch of the method.

    Raises:
        ValueError: `partial` has not one value for each stage that `keep` makes.
    """
    if len(partial) != len(keep) + 1:
        raise ValueError(
            f"progressive.partial needs a value for each of the {len(keep) + 1} stages that progressive.keep makes"
        )
    begins = [share(k, of=len(partial)) for k in range(len(partial))]
    changes = [opened(partial), *(narrowed(*both) for both in zip(partial[1:], keep))]
    return Patch(
        "progressive",
        stages=tuple(
            Stage(
                begin,
                change,
                carry if k else None,
                rested(begin, end, rest),
                continues=True,
                set_by="progressive.keep",
            )
            for k, (begin, end, change) in enumerate(zip(begins, [*begins[1:], never], changes))
        ),
        space={"partial_channels": partial[0]},
    )


def opened(partial: tuple[int, ...]) -> Callable[[Method, State], Space]:
    """The first stage's space; ValueError if that of a later one could not be: not in the middle of a search."""

    def change(method: Method, state: State) -> Space:
        first, *_ = [state.space.resized(partial_channels=k) for k in partial]
        return first

    return change


def narrowed(k: int, keep: int) -> Callable[[Method, State], Space]:
    def change(method: Method, state: State) -> Space:
        return state.space.resized(partial_channels=k, primitives=survivors(method, state, keep))

    return change
