"""Load images and iterate over them in batches. Each batch is a function of its place in the run.

``load`` finds, decodes and splits images. ``search_data`` and ``retrain_data`` return the batches
of a search and of a retraining. `Preprocess` holds what a new process needs to read an image as in
training.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
