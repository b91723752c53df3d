"""Observers of a search: records, measurements, rules that stop it, and requests to stop."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
