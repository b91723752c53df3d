"""Curves of a search or a training: losses, accuracies and the alphas' entropy over epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from archgrad import extras
from archgrad.arch.style import BAND, BLUE, FONT, GREEN, INK, MUTED, ORANGE, PAPER, svg
from archgrad.storage import files

# title -> {metrics key: (legend, colour, factor)}; recorded accuracies are shares of 1
PANELS = {
    "loss": {"train_loss": ("train", BLUE, 1.0), "val_loss": ("validation", ORANGE, 1.0)},
    "accuracy, %": {
        "train_accuracy": ("train", BLUE, 100.0),
        "val_accuracy": ("validation", ORANGE, 100.0),
    },
    "entropy of the mixture": {"entropy": ("", GREEN, 1.0)},
}


def curves_svg(rows: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Draw the rows of a ``metrics.jsonl`` into an SVG file. The same rows give the same bytes.

    Args:
        rows: Rows with ``epoch`` (from 0) and any of the keys of `PANELS`.
        path: The file to write.

    Raises:
        ValueError: No row has an epoch and one of these keys.
    """
    rows = list(rows)
    panels = {title: lines for title, keys in PANELS.items() if (lines := _lines(rows, keys))}
    if not panels:
        known = ", ".join(key for keys in PANELS.values() for key in keys)
        raise ValueError(f"nothing to draw: no row has an epoch and one of {known}")
    files.write(Path(path), svg(lambda: _figure(panels)))


Line = tuple[str, str, list[int], list[float]]  # legend, colour, epochs from 1, values


def _lines(rows: list[Mapping[str, Any]], keys: dict[str, tuple[str, str, float]]) -> list[Line]:
    lines = []
    for key, (legend, shade, factor) in keys.items():
        points = [
            (row["epoch"] + 1, row[key] * factor)
            for row in rows
            if row.get("epoch") is not None and row.get(key) is not None
        ]
        if points:
            lines.append(
                (legend, shade, [epoch for epoch, _ in points], [value for _, value in points])
            )
    return lines


def _figure(panels: dict[str, list[Line]]) -> Any:
    with extras.named():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5 * len(panels), 2.7), facecolor=PAPER, layout="constrained")
    for index, (title, lines) in enumerate(panels.items()):
        _draw_panel(figure.add_subplot(1, len(panels), index + 1), title, lines)
    return figure


def _draw_panel(axes: Any, title: str, lines: list[Line]) -> None:
    with extras.named():
        from matplotlib.ticker import MaxNLocator

    for legend, shade, epochs, values in lines:
        marker = "o" if len(epochs) < 3 else None  # a line through one point is invisible
        axes.plot(
            epochs,
            values,
            color=shade,
            linewidth=2,
            marker=marker,
            markersize=4,
            label=legend,
            solid_capstyle="round",
        )
    axes.set_title(title, loc="left", size=10, weight="bold", color=INK, family=FONT, pad=8)
    axes.set_xlabel("epoch", size=8, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.tick_params(labelsize=8, colors=MUTED, length=0)
    axes.grid(axis="y", color=BAND, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(BAND)
    if any(legend for legend, *_ in lines):
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4)
