"""Images from anywhere, as batches that are a function of their place in the run.

``load`` finds, decodes and splits; ``search_data`` and ``retrain_data`` give what the loops iterate; `Preprocess` is what a fresh
process needs to read an image as training did.
"""

from archgrad.data.augment import Augment
from archgrad.data.batches import Data, Split, retrain_data, search_data
from archgrad.data.dataset import Dataset, Images
from archgrad.data.fingerprint import difference, fingerprint_like, same_images
from archgrad.data.load import load, load_labelled
from archgrad.data.preprocess import Preprocess, stem_for

__all__ = [
    "Augment", "Data", "Dataset", "Images", "Preprocess", "Split", "difference", "fingerprint_like", "load", "load_labelled", "retrain_data",
    "same_images", "search_data", "stem_for",
]  # fmt: skip
