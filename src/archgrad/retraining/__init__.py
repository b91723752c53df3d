"""What happens to the network of a genotype: trained from scratch, saved, measured, used.

`settings` has the recipes, `training` the step, `execute` the loop over it, `card` what is saved, `measure`, `evaluating` and `predicting` the use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
