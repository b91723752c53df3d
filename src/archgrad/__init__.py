"""archgrad: neural architecture search by gradient. ``space``, ``method``, ``search``, ``Genotype`` are the whole of everyday use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what an editor and a type checker see
    from archgrad.alpha_record import alphas as alphas
    from archgrad.arch import Genotype as Genotype
    from archgrad.arch import Mixture as Mixture
    from archgrad.data.arrays import dataset as dataset
    from archgrad.data.batches import search_data as search_data
    from archgrad.data.load import load as load
    from archgrad.loop import search as search
    from archgrad.methods import method as method
    from archgrad.patch import Patch as Patch
    from archgrad.patch import compose as compose
    from archgrad.retraining.evaluate import evaluate as evaluate
    from archgrad.retraining.predict import predict as predict
    from archgrad.retraining.retrain import retrain as retrain
    from archgrad.search_method import Method as Method
    from archgrad.spaces import space as space

__version__ = "0.1.0"

# Imported on first use: `archgrad --help` must not wait for torch.
_HOME = {
    "Genotype": "arch", "Mixture": "arch", "method": "methods", "space": "spaces", "search": "loop", "Patch": "patch",
    "compose": "patch", "Method": "search_method", "load": "data.load", "dataset": "data.arrays", "search_data": "data.batches",
    "alphas": "alpha_record",
    "retrain": "retraining.retrain", "evaluate": "retraining.evaluate", "predict": "retraining.predict",
}  # fmt: skip

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'archgrad' has no attribute {name!r}")
    return getattr(import_module(f"archgrad.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
