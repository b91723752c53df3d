"""Choices that a user writes into a module of his own, and the search space of such a module."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
