"""A package that a researcher writes."""

__version__ = "0.3"
