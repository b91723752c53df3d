"""The progressive search of DrNAS (Chen et al. 2021, arXiv 2006.10355, section 3.3).

It goes with any method: ``drnas+progressive`` is DrNAS as published in the space of DARTS. One
supernet lives through all stages (`archgrad.methods.progressive_carry`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archgrad.arch.space import Space
from archgrad.components.schedules import epoch_at_share, never
from archgrad.methods.progressive_carry import carry
from archgrad.methods.stages import end_of_rest, survivors
from archgrad.option_types import PositiveInt, Share
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Method, Stage, State

# [author code] The exception is K in the space of DARTS: the authors divide 36 channels by 6, but
# the 16 channels here cannot be divided by 6.
PRESETS: dict[str, dict[str, Any]] = {
    "darts": {"keep": (4,)},
    "nasbench201": {"rest": 0.2},
}


@with_origin(PRESETS)
def progressive(
    *,
    partial: tuple[PositiveInt, ...] = (4, 2),
    keep: tuple[PositiveInt, ...] = (3,),
    rest: Share = 0.4,
) -> Patch:
    """Search in stages of equal length, with fewer ops and more of the channels in each.

    It goes with any method. At each new stage an edge keeps the ops with the largest alphas, and
    1/K of the channels of a node go through them, with a smaller K.

    Args:
        partial: divisors K of a node's channels, one for each stage.
        keep: numbers of ops that each edge keeps in the second, the third, ... stage.
        rest: fraction of each stage, at its start, in which the alphas do not move.

    Returns:
        The patch of the method.

    Raises:
        ValueError: `partial` does not have one value for each stage, that is one more than `keep`.
    """
    if len(partial) != len(keep) + 1:
        raise ValueError(
            f"progressive.partial needs a value for each of the {len(keep) + 1} stages "
            "that progressive.keep makes"
        )
    begins = [epoch_at_share(k, of=len(partial)) for k in range(len(partial))]
    changes = [to_first_stage(partial), *(to_next_stage(*both) for both in zip(partial[1:], keep))]
    return Patch(
        "progressive",
        stages=tuple(
            Stage(
                begin,
                change,
                carry if k else None,
                end_of_rest(begin, end, rest),
                continues=True,
                set_by="progressive.keep",
            )
            for k, (begin, end, change) in enumerate(zip(begins, [*begins[1:], never], changes))
        ),
        space={"partial_channels": partial[0]},
    )


def to_first_stage(partial: tuple[int, ...]) -> Callable[[Method, State], Space]:
    """Return the function that computes the space of the first stage.

    The function raises ValueError where the space of a later stage is impossible. So the error
    comes before the search, not in the middle of it.
    """

    def change(method: Method, state: State) -> Space:
        first, *_ = [state.space.resized(partial_channels=k) for k in partial]
        return first

    return change


def to_next_stage(k: int, keep: int) -> Callable[[Method, State], Space]:
    """Return the change to a later space, with ``keep`` ops an edge and 1/k of the channels."""

    def change(method: Method, state: State) -> Space:
        return state.space.resized(partial_channels=k, primitives=survivors(method, state, keep))

    return change
