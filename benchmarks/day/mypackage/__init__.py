"""A package of a researcher's own."""

__version__ = "0.3"
