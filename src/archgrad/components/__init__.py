"""The pure functions that a method is made of.

They are schedules, relaxations, loss terms, selections, perturbations and gradients.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
