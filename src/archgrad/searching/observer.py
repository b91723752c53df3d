"""The protocol of an observer, which watches a search. This module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from archgrad.searching.types import Decision, Method, SearchData, State, Values
    from archgrad.storage.records import Row


class Observer(Protocol):
    """Watch a search: read its state, and never write to it.

    A class that inherits from `Observer` writes only the methods that it needs, because the
    methods here do nothing. A class that does not inherit must have all three.
    """

    def on_step(self, method: Method, state: State, values: Values) -> None:
        """Follow one step, whose metrics are ``values``; ``state.step`` counts this step too."""
        return None

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> Row | None:
        """Follow the end of an epoch. ``state.epoch`` is already the next epoch.

        Args:
            method: The method of the search.
            state: The state after the epoch.
            data: The data of the search.
            row: The epoch's metrics, with the columns that earlier observers added.

        Returns:
            Columns to add to the row, or None. Later observers see them. A column "stop", whose
            text is a reason, ends the search after this epoch; such an observer must stand before
            the observer that saves.
        """
        return None

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        """Follow one decision of the method's finalisation."""
        return None
