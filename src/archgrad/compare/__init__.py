"""Studies: several arms are searched with several seeds, and their results are compared."""

from archgrad.compare.comparing import comparison
from archgrad.compare.pages import to_markdown
from archgrad.compare.statistics import difference, spread
from archgrad.compare.study import Study

__all__ = ["Study", "comparison", "difference", "spread", "to_markdown"]
