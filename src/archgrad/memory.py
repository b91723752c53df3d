"""What a method remembers from step to step: a temperature, teachers, the best of several draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from archgrad.arch import Context, Forward

if TYPE_CHECKING:
    from archgrad.search_method import Method
    from archgrad.state import Data, State


class Memory(Protocol):
    """Lives in ``State.memory`` under its patch's name for it; pieces read it from ``Context.memory``."""

    def bind(self, state: State) -> None:
        """Called once the nets of ``state`` are built: at the start, by every stage, and before a resumed state is loaded. ValueError where
        this search cannot have such a memory."""

    def size(self) -> int:
        """Bytes it will hold at most, once bound; said before the search starts."""

    def after_step(self, forward: Forward) -> None:
        """Sees the pass of a half of the step (``forward.context.phase``) after that half's update."""

    def after_epoch(self, method: Method, state: State, data: Data, context: Context) -> dict[str, Any]:
        """What it returns stands in the epoch's row of the metrics; a "stop" in it (a reason) ends the epochs. ``context`` is the readout's,
        of the epoch that ends."""

    def state_dict(self) -> dict[str, Any]:
        """Dicts, lists, tensors and Python scalars only."""

    def load_state_dict(self, saved: dict[str, Any]) -> None: ...
