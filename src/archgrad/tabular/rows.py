"""The search among the rows of a benchmark table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def best_row(
    accuracy: NDArray[np.float64], costs: Mapping[str, NDArray[Any]], bounds: Mapping[str, float]
) -> int | None:
    """Return the most accurate row within bounds.

    Args:
        accuracy: (rows,) accuracies.
        costs: Name of a cost -> (rows,) costs.
        bounds: Name of a cost -> the largest cost allowed.

    Returns:
        The index of the row; None if no row is within the bounds.
    """
    within = np.all([costs[name] <= bound for name, bound in bounds.items()], axis=0)
    return int(np.where(within, accuracy, -1).argmax()) if within.any() else None
