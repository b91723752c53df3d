"""Train the network of a genotype from scratch, save it, evaluate it and use it for prediction.

`settings` holds the recipes, `training` the training step, `execute` the loop, and `card` the saved
files. `measure`, `evaluating` and `predicting` apply a trained network to images.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
