"""What a method remembers from step to step: a temperature, teachers, the best of several draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from archgrad.arch import Forward

if TYPE_CHECKING:
    from archgrad.state import Data, State


class Memory(Protocol):
    """Lives in ``State.memory`` under its patch's name for it; pieces read it from ``Context.memory``."""

    def bind(self, state: State) -> None:
        """Called once the nets of ``state`` are built: at the start, by every stage, and before a resumed state is loaded."""

    def after_step(self, forward: Forward) -> None:
        """Sees the weight phase's pass after the weights were updated."""

    def after_epoch(self, state: State, data: Data) -> dict[str, float]:
        """Numbers it returns stand in the epoch's row of the metrics."""

    def state_dict(self) -> dict[str, Any]:
        """Dicts, lists, tensors and Python scalars only."""

    def load_state_dict(self, saved: dict[str, Any]) -> None: ...
