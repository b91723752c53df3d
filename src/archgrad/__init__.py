"""archgrad: neural architecture search by gradient.

``space``, ``method``, ``search`` and ``Genotype`` are enough for everyday use.
"""

import lazy_loader

__version__ = "0.1.0"

# Each name is imported at its first use, because `archgrad --help` must not wait for torch.
# `__init__.pyi` lists the names.
__getattr__, _, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_names]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
