"""The presentation of a run: tables for the terminal, pictures of cells, and curves.

matplotlib is imported only when something is drawn.
"""

from archgrad.arch.picture import cells_svg, save_svg
from archgrad.report.curves import curves_svg
from archgrad.report.tables import cell_table, front_table, noise_note, verdict_table

__all__ = [
    "cell_table",
    "cells_svg",
    "curves_svg",
    "front_table",
    "noise_note",
    "save_svg",
    "verdict_table",
]
