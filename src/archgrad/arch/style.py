"""The style of all pictures: colours of primitives, fonts, and reproducible SVG text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from archgrad import extras

FONT = "DejaVu Sans"  # matplotlib contains it, so pictures are the same on all machines
INK, MUTED, FAINT, BAND, PAPER = "#1f2933", "#7b8794", "#9aa5b1", "#dfe5ec", "#ffffff"
BLUE, ORANGE, GREEN = "#2b6cb0", "#c2570c", "#2f855a"
FAMILIES = {  # by the beginning of the primitive's name
    "sep_conv": BLUE,
    "nor_conv": BLUE,
    "dil_conv": "#7346b3",
    "conv": "#22577a",
    "mb": "#0f766e",
    "skip": GREEN,
    "max_pool": ORANGE,
    "avg_pool": "#a16207",
    "noise": "#b83280",
    "none": "#b6c0cb",
}


def colour(primitive: str) -> str:
    """Return the colour of a primitive's family, such as ``#2b6cb0``."""
    return next(
        (shade for start, shade in FAMILIES.items() if primitive.lower().startswith(start)),
        "#52606d",
    )


def label(primitive: str) -> str:
    """Return the name of a primitive for people, such as ``sep conv 3×3``."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", primitive).replace("_", " ")


def svg(draw: Callable[[], Any]) -> str:
    """Return a figure as SVG text without a date, random ids or fonts of the machine.

    Args:
        draw: Returns the matplotlib figure.

    Returns:
        The SVG text.
    """
    with extras.named():
        from matplotlib import rc_context

    with rc_context(
        {
            "svg.hashsalt": "archgrad",
            "svg.fonttype": "path",
            "font.family": FONT,
            "mathtext.fontset": "dejavusans",
        }
    ):
        buffer = io.StringIO()
        draw().savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
