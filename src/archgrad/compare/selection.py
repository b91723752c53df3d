"""Which run of an arm would have been taken: the one that did best on validation images. No test accuracy has a say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def validation(genotype: str, epochs: Sequence[Row], decisions: Sequence[Row] = ()) -> float | None:
    """Validation accuracy, a share in [0, 1], of the architecture that a search found; None where nobody measured it.

    That of the last decision where a finalisation decided by it; else, of a draw that was trained alone, what it ended with; else, of the cell
    that the supernet was cut to in the last epoch, its accuracy with the supernet's weights (``discrete_accuracy``, of the gap).
    """
    if decisions and "accuracy" in decisions[-1]["note"]:
        return float(decisions[-1]["note"]["accuracy"])
    own = [row for row in epochs if row.get("genotype") == genotype]
    if drawn := [row["draw_accuracy"] for row in own if row.get("draw_accuracy") is not None]:
        return float(max(drawn))
    cut = own[-1].get("discrete_accuracy") if own and own[-1] is epochs[-1] else None
    return None if cut is None else float(cut)
