"""archgrad: neural architecture search by gradient. ``space``, ``method``, ``search``, ``Genotype`` are the whole of everyday use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported on first use: `archgrad --help` must not wait for torch.
_HOME = {
    "Genotype": "arch", "Mixture": "arch", "method": "methods", "space": "spaces", "search": "loop", "Patch": "patch",
    "compose": "patch", "Method": "search_method", "load": "data", "search_data": "data", "retrain": "retraining.retrain",
    "evaluate": "retraining.evaluate", "predict": "retraining.predict",
}  # fmt: skip

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'archgrad' has no attribute {name!r}")
    return getattr(import_module(f"archgrad.{_HOME[name]}"), name)
