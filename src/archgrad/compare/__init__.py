"""Several arms, several seeds, one table: studies whose runs are ordinary searches."""

from archgrad.compare.statistics import difference, spread
from archgrad.compare.study import Study
from archgrad.compare.tables import comparison, markdown

__all__ = ["Study", "comparison", "difference", "markdown", "spread"]
