"""Blank pictures for tests that do not check pictures, because drawing two of them takes longer than a small search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from archgrad.arch import picture, style
from archgrad.report import curves

DRAWN = style.svg
"""The real ones."""


def blank(draw: Callable[[], Any]) -> str:
    return '<?xml version="1.0"?>\n<svg/>\n'


@contextmanager
def pictures(svg: Callable[[Callable[[], Any]], str]) -> Iterator[None]:
    """Inside, the pictures of a run are made by ``svg``."""
    with pytest.MonkeyPatch.context() as patched:
        for part in (curves, picture):
            patched.setattr(part, "svg", svg)
        yield
