"""The examples in docstrings print what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import archgrad


def test_examples_of_docstrings():
    tried = 0
    for module in pkgutil.walk_packages(archgrad.__path__, "archgrad."):
        if module.name != "archgrad.__main__":  # its import starts the command line
            found = doctest.testmod(importlib.import_module(module.name))
            assert not found.failed, module.name
            tried += found.attempted
    assert tried > 20
