"""Images from anywhere, as batches that are a function of their place in the run.

``load`` finds, decodes and splits; ``search_data`` and ``retrain_data`` give what the loops iterate; `Preprocess` is what a fresh
process needs to read an image as training did.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
