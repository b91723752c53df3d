"""Several arms, several seeds, one table: studies whose runs are ordinary searches."""

from archgrad.compare.comparing import comparison
from archgrad.compare.pages import markdown
from archgrad.compare.statistics import difference, spread
from archgrad.compare.study import Study

__all__ = ["Study", "comparison", "difference", "markdown", "spread"]
