"""The picture of a genotype: its cells, or the stages of a chain, drawn like metro maps.

Each link is a line with the name of its primitive.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from archgrad import extras
from archgrad.arch import chain
from archgrad.storage import files

if TYPE_CHECKING:
    from archgrad.arch.genotype import Genotype
from archgrad.arch.picture_layout import Placement, Route, placement
from archgrad.arch.style import BAND, FAINT, FONT, INK, MUTED, PAPER, colour, label, svg

# Lengths are in layout units of INCH inches.
INCH = 0.64
STEP = 2.4  # from node to node
LANE = 0.56  # from lane to lane
FIRST = 0.86  # from the row of nodes to the first lane
RADIUS = 0.38  # radius of a node
CORNER = 0.34  # radius of a line's innermost bends
HEAD = 0.18  # length and width of an arrow's head
PILL = 0.38  # height of a label
MARGIN = 0.5
TITLE = 0.5
CHARACTER = 0.17  # width of a character of a title
POINTS = 8.5  # type size

TITLES = {"normal": "normal cell", "reduce": "reduction cell"}


def cells_svg(genotype: Genotype) -> str:
    """Return a picture of a genotype as SVG text.

    Args:
        genotype: The genotype; its cells are drawn below one another.

    Returns:
        The SVG text. The same genotype always gives the same bytes.
    """
    return svg(lambda: _figure(genotype))


def save_svg(genotype: Genotype, path: str | Path) -> None:
    """Write the picture of a genotype to a file.

    Args:
        genotype: The genotype.
        path: The SVG file.
    """
    files.write(Path(path), cells_svg(genotype))


def _figure(genotype: Genotype) -> Any:
    with extras.named():
        from matplotlib.figure import Figure

    placements = [placement(cell) for cell in chain.rows(genotype.cells)]
    nodes = max(cell.nodes - 1 + cell.concatenates for cell in placements)
    title = max(len(_title(cell)) for cell in placements)  # the path of a choice may be long
    width = 2 * MARGIN + max(2 * RADIUS + STEP * nodes, CHARACTER * title)
    heights = [TITLE + _reach(cell, 1) + _reach(cell, -1) for cell in placements]
    height = sum(heights) + MARGIN * (len(placements) + 1)
    figure = Figure(figsize=(width * INCH, height * INCH), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))  # y grows downwards, as in SVG
    axes.axis("off")
    top = MARGIN
    for cell, cell_height in zip(placements, heights):
        _draw_cell(axes, cell, top)
        top += cell_height + MARGIN
    return figure


def _title(cell: Placement) -> str:
    return TITLES.get(cell.cell.group, cell.cell.group)


def _reach(cell: Placement, side: int) -> float:
    """Return the distance from the row of nodes to the end of the lanes on one side."""
    lanes = cell.count_lanes(side)
    return FIRST + LANE * (lanes - 1) + 0.25 if lanes else RADIUS + 0.1


def _x(node: float) -> float:
    return MARGIN + RADIUS + STEP * node


def _draw_cell(axes: Any, cell: Placement, top: float) -> None:
    axes.text(
        MARGIN,
        top,
        _title(cell),
        size=POINTS + 3.5,
        weight="bold",
        color=INK,
        va="top",
    )
    row = top + TITLE + _reach(cell, 1)
    _draw_band(axes, cell, row)
    for route in cell.routes:
        _draw_line(axes, route, row)
    for route in cell.routes:
        _draw_label(axes, route, row)
    for node in range(cell.nodes + cell.concatenates):
        _draw_node(axes, cell, node, row)


def _draw_band(axes: Any, cell: Placement, row: float) -> None:
    """Draw the concatenation as a band behind its nodes, up to the output."""
    if cell.concatenates and cell.cell.concat:
        ends = [_x(min(cell.cell.concat)), _x(cell.nodes)]
        axes.plot(ends, [row, row], color=BAND, linewidth=9, solid_capstyle="round", zorder=1)
        axes.text(
            _x(cell.nodes - 0.5),
            row - 0.2,
            "concat",
            size=POINTS - 1,
            color=MUTED,
            ha="center",
            va="bottom",
        )


def _draw_line(axes: Any, route: Route, row: float) -> None:
    with extras.named():
        from matplotlib.patches import PathPatch, Polygon
        from matplotlib.path import Path as Curve

    up, lane = -route.side, _lane_y(route, row)  # y grows downwards
    start, end = (
        _x(route.link.source) + RADIUS * route.leave,
        _x(route.link.target) + RADIUS * route.enter,
    )
    foot, tip = (row + up * RADIUS * (1 - port**2) ** 0.5 for port in (route.leave, route.enter))
    bend = (
        CORNER
        if route.link.target - route.link.source == 1
        else min(CORNER + 0.12 * (route.lane - 1), 0.6)
    )
    pull = 0.45 * bend  # handles of a cubic curve: almost a quarter circle
    points = [
        (start, foot),
        (start, lane - up * bend),
        (start, lane - up * pull),
        (start + pull, lane),
        (start + bend, lane),
    ]
    points += [
        (end - bend, lane),
        (end - pull, lane),
        (end, lane - up * pull),
        (end, lane - up * bend),
        (end, tip + up * HEAD),
    ]
    corner = [Curve.CURVE4] * 3
    curve = Curve(
        points, [Curve.MOVETO, Curve.LINETO, *corner, Curve.LINETO, *corner, Curve.LINETO]
    )
    shade, dashes = (
        colour(route.link.primitive),
        (0, (1.5, 1.5)) if route.link.primitive == "none" else "solid",
    )
    # A white rim shows which of two crossing lines is above.
    for width, edge, style in ((5, PAPER, "solid"), (2, shade, dashes)):
        axes.add_patch(
            PathPatch(
                curve,
                fill=False,
                edgecolor=edge,
                linewidth=width,
                linestyle=style,
                capstyle="butt",
                zorder=2,
            )
        )
    head = [
        (end, tip + up * 0.03),
        (end - HEAD / 2, tip + up * (HEAD + 0.05)),
        (end + HEAD / 2, tip + up * (HEAD + 0.05)),
    ]
    axes.add_patch(Polygon(head, closed=True, facecolor=shade, edgecolor="none", zorder=3))


def _lane_y(route: Route, row: float) -> float:
    return row - route.side * (FIRST + LANE * (route.lane - 1))


def _draw_label(axes: Any, route: Route, row: float) -> None:
    with extras.named():
        from matplotlib.font_manager import FontProperties
        from matplotlib.patches import FancyBboxPatch
        from matplotlib.textpath import TextPath

    primitive, y = route.link.primitive, _lane_y(route, row)
    x = _x(route.middle) + RADIUS * (route.leave + route.enter) / 2
    font = FontProperties(family=FONT, weight="bold", size=POINTS)
    width = TextPath((0, 0), label(primitive), prop=font).get_extents().width / 72 / INCH + 0.28
    shape = f"round,pad=0,rounding_size={PILL / 2}"
    corner = (x - width / 2, y - PILL / 2)
    axes.add_patch(
        FancyBboxPatch(
            corner,
            width,
            PILL,
            shape,
            facecolor=colour(primitive),
            edgecolor=PAPER,
            linewidth=2,
            zorder=4,
        )
    )
    ink = INK if primitive == "none" else PAPER
    axes.text(
        x,
        y,
        label(primitive),
        fontproperties=font,
        color=ink,
        ha="center",
        va="center_baseline",
        zorder=5,
    )


def _draw_node(axes: Any, cell: Placement, node: int, row: float) -> None:
    with extras.named():
        from matplotlib.patches import Circle

    output = cell.nodes - 1 + cell.concatenates
    outside = node < cell.inputs or node == output
    empty = not outside and all(link.target != node for link in cell.cell.links)
    face = INK if outside else BAND if node in cell.cell.concat else PAPER
    circle = Circle(
        (_x(node), row),
        RADIUS,
        facecolor=face,
        edgecolor=FAINT if empty else INK,
        linewidth=1.5,
        zorder=6,
    )
    if empty:
        circle.set_linestyle((0, (2, 1.5)))
    axes.add_patch(circle)
    shade = PAPER if outside else FAINT if empty else INK
    axes.text(
        _x(node),
        row,
        _name(cell, node, output),
        size=POINTS + 1.5,
        color=shade,
        ha="center",
        va="center",
        zorder=7,
    )


def _name(cell: Placement, node: int, output: int) -> str:
    """Return the text in a node: $c_{k-2}$, $c_{k-1}$ and $c_k$ as in DARTS, else its number."""
    if cell.inputs == 1:
        return {0: "in", output: "out"}.get(node, str(node))
    return {0: "$c_{k-2}$", 1: "$c_{k-1}$", output: "$c_k$"}.get(node, str(node))
