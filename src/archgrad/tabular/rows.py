"""What the tables have in common: choosing among their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def best_row(
    accuracy: NDArray[np.float64], costs: Mapping[str, NDArray[Any]], bounds: Mapping[str, float]
) -> int | None:
    """The row of the highest ``accuracy`` (rows,) whose ``costs``, (rows,) each, are within ``bounds``; None where there is none."""
    within = np.all([costs[name] <= bound for name, bound in bounds.items()], axis=0)
    return int(np.where(within, accuracy, -1).argmax()) if within.any() else None
