"""Tables for the terminal: a genotype, its row in a benchmark, and a Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from archgrad.arch import chain, decisions
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.picture_layout import inputs_of
from archgrad.arch.style import colour
from archgrad.cost.cost import cost_text


def cell_table(genotype: Genotype) -> Table:
    """Return a table of a genotype with one line a link.

    Args:
        genotype: The genotype.

    Returns:
        Columns for the cell (or stage of a chain), the node (or layer), the node's input and the
        primitive. A node without inputs has a line that says so. For a module of the user's own the
        columns are the choice and the selected primitives.
    """
    if decisions.are_decisions(genotype.cells) and not chain.stages(genotype.cells):
        return _choice_table(genotype)
    table = Table("cell", "node", "input", "primitive", header_style="bold")
    for cell in chain.rows(genotype.cells):
        name: str | None = cell.group
        for node, links in _by_node(cell).items():
            for place, link in enumerate(links):
                table.add_row(
                    name,
                    "" if place else str(node),
                    str(link.source),
                    Text(link.primitive, colour(link.primitive)),
                )
                name = None
            if not links:
                table.add_row(name, str(node), "-", Text("no input: zero", "dim"))
                name = None
        table.add_row(
            name,
            "out",
            ", ".join(map(str, cell.concat)),
            Text("concat" if len(cell.concat) > 1 else "", "dim"),
        )
        table.add_section()
    return table


def verdict_table(rows: Iterable[Mapping[str, Any]], title: str) -> Table:
    """Return a table that compares the rows of a benchmark's ``verdict``, one column a row.

    Args:
        rows: Rows of a ``verdict``; accuracies are percent of the test images.
        title: Title of the table.

    Returns:
        The table.
    """
    rows = list(rows)
    table = Table(
        "",
        *(str(row["cell"]) for row in rows),
        header_style="bold",
        title=title,
        title_justify="left",
        title_style="",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for images, name in (
        ("cifar10", "CIFAR-10"),
        ("cifar100", "CIFAR-100"),
        ("imagenet16", "ImageNet16-120"),
    ):
        if all(f"{images}_test" in row for row in rows):
            table.add_row(
                f"{name} test accuracy", *(f"{row[f'{images}_test']:.2f} %" for row in rows)
            )
    table.add_row("rank on CIFAR-10", *(f"{row['rank']:,} of {row['of']:,}" for row in rows))
    table.add_row("points below the best", *(f"{row['distance']:.2f}" for row in rows))
    table.add_row("parameters of its own network", *(f"{row['params']:,}" for row in rows))
    table.add_row(
        "multiply-adds of its own network", *(f"{row['macs'] / 1e6:.1f} M" for row in rows)
    )
    return table


def front_table(cost: str, unit: str, points: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of the Pareto front of the networks that a search evaluated.

    Args:
        cost: Name of the cost.
        unit: Unit of the cost; empty for counts.
        points: Points with ``cost``, ``accuracy`` (a share of 1), ``seen``, ``genotype`` and
            ``front``, which is true where no other point is better in both cost and accuracy.

    Returns:
        The table, one line for each point of the front, by rising cost.
    """
    best = sorted((point for point in points if point["front"]), key=lambda point: point["cost"])
    title = f"Pareto front of this search: {cost} against validation accuracy in the supernet"
    table = Table(
        cost,
        "accuracy",
        "seen at",
        "genotype",
        header_style="bold",
        title=title,
        title_justify="left",
        title_style="",
    )
    for point in best:
        accuracy = f"{100 * point['accuracy']:.2f} %"
        table.add_row(
            cost_text(point["cost"], unit),
            accuracy,
            point["seen"],
            Text(point["genotype"], overflow="ellipsis", no_wrap=True),
        )
    return table


def _choice_table(genotype: Genotype) -> Table:
    table = Table("choice", "selected", header_style="bold")
    for cell in genotype.cells:
        selected = [Text(link.primitive, colour(link.primitive)) for link in cell.links]
        table.add_row(cell.group, Text(" + ").join(selected))
    return table


def _by_node(cell: CellGenotype) -> dict[int, list[Link]]:
    first, last = (
        inputs_of(cell),
        max((*cell.concat, *(link.target for link in cell.links)), default=0),
    )
    return {
        node: [link for link in cell.links if link.target == node]
        for node in range(first, last + 1)
    }


def noise_note(genotype: Genotype) -> str | None:
    """Return a warning about the noise ops of a network; None if it has none."""
    ops = [link for cell in genotype.cells for link in cell.links if link.primitive == "noise"]
    return (
        f"this network is random: {len(ops)} of its genotype's ops are noise, "
        "which is N(0, 1) whatever the image"
        if ops
        else None
    )
