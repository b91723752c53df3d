"""The commands that list: ``archgrad genotypes``, ``methods`` and ``spaces``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Column, Table

from archgrad import terminal
from archgrad.arch.genotype import Genotype
from archgrad.arch.published import published
from archgrad.cli.flags import AsJson
from archgrad.run import catalogue


def genotypes(containing: str = "", *, as_json: AsJson = False) -> None:
    """List the published architectures that have a name.

    The table has the numbers that their repositories state.

    Example: `archgrad genotypes cdarts`

    Args:
        containing: part of a name of the form repository:name; by default all are listed
    """
    found = [one for one in published() if containing.lower() in one.qualified_name.lower()]
    if not found:
        raise ValueError(
            f"no published architecture has {containing!r} in its name: "
            "`archgrad genotypes` lists all"
        )
    if as_json:
        listed = {
            one.qualified_name: {
                "text": str(Genotype(one.cells)),
                "params_M": one.params_M,
                "cifar10_test_error": one.cifar10_test_error,
            }
            for one in found
        }
        terminal.print_output(json.dumps(listed))
        return
    table = Table(
        Column("repository:name", no_wrap=True), "parameters, M", "CIFAR-10 test error, %"
    )
    for one in found:
        numbers = (
            "" if value is None else f"{value:g}"
            for value in (one.params_M, one.cifar10_test_error)
        )
        table.add_row(one.qualified_name, *numbers)
    terminal.console().print(table)


def methods(
    *,
    pairs: Annotated[
        bool,
        Parameter(
            help="table of all pairs of methods, which says whether they compose",
            negative="",
            show_default=False,
        ),
    ] = False,
    space: Annotated[
        str, Parameter(help="name of the space whose defaults --pairs compares")
    ] = "darts",
    as_json: AsJson = False,
) -> None:
    """List the search methods, each with its options and paper.

    Several methods compose by `--method a+b`, and `--pairs` says which pairs do.

    Example: `archgrad methods --pairs --space nasbench201`
    """
    if pairs:
        return _pairs(space, as_json)
    listed = catalogue.methods()
    if as_json:
        about = {
            name: {
                "summary": one.summary,
                "paper": one.paper,
                "presets": one.presets,
                "options": one.options,
            }
            for name, one in listed.items()
        }
        terminal.print_output(json.dumps(about))
        return
    table = Table("method", "summary", "paper", "options", show_lines=True)
    for name, one in listed.items():
        table.add_row(name, one.summary, one.paper, ", ".join(one.options))
    terminal.console().print(table)


def spaces(*, as_json: AsJson = False) -> None:
    """List the search spaces, each on one line.

    The line has the edges and primitives of the cells. With `--json` the list also has the options
    and papers.

    Example: `archgrad spaces --json`
    """
    listed = catalogue.spaces()
    if as_json:
        about = {
            name: {
                "cells": one.cells,
                "paper": one.paper,
                "stems": one.stems,
                "options": one.options,
            }
            for name, one in listed.items()
        }
        terminal.print_output(json.dumps(about))
        return
    name_width = max(map(len, listed))
    for name, one in listed.items():
        terminal.say(f"{name:{name_width}}  {_shape(one.cells)} ({one.paper.rpartition(', ')[2]})")


def _shape(cells: Sequence[str]) -> str:
    """Return the cells of a space on one line.

    Equal cells are grouped. More than two equal cells are layers of a chain, with one edge each.
    """
    alike: dict[str, list[str]] = {}
    for cell in cells:
        name, _, edges = cell.partition(": ")
        alike.setdefault(edges, []).append(name)

    def together(names: Sequence[str], edges: str) -> str:
        if len(names) > 2:
            primitives = edges.removeprefix("1 edges of ").removesuffix(" at most")
            return f"{len(names)} layers of {primitives}"
        return f"{', '.join(names)}: {edges}"

    return "; ".join(together(names, edges) for edges, names in alike.items())


def _pairs(name: str, as_json: bool) -> None:
    catalogue.check_space(name, {})
    from archgrad.methods.pairs import compare_all
    from archgrad.spaces import entry

    rows: list[tuple[str, str, str]] = []
    for (one, other), found in compare_all(entry(name).build()).items():
        if found.composes:
            result = "composes"
        elif found.user_can_settle:
            result = f"composes once you set {', '.join(found.conflicting)}"
        else:
            result = f"refused: {found.mark}"
        rows.append((one, other, result))
    if as_json:
        keys: Any = ("one", "other", "how")
        terminal.print_output(
            json.dumps({"pairs": [dict(zip(keys, row, strict=True)) for row in rows]})
        )
        return
    table = Table("method", "method", "result")
    for row in rows:
        table.add_row(*row)
    terminal.console().print(table)
