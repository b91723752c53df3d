"""The lines below a result: the numbers of a benchmark, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rich.console import Console

from archgrad import tabular
from archgrad.arch.genotype import Genotype
from archgrad.run import budgets
from archgrad.run.folder import RunFolder
from archgrad.terminal import say_on

if TYPE_CHECKING:
    from archgrad.run.judgement import Judgement


def show_verdict(
    console: Console,
    table: ModuleType,
    genotype: Genotype,
    within: Sequence[budgets.BudgetResult],
    folder: RunFolder | None,
) -> None:
    """Print the numbers of a genotype in a benchmark's table.

    Args:
        console: Where they are printed.
        table: The benchmark, a module of `archgrad.tabular`.
        genotype: The found architecture.
        within: The budgets of the search, as `RunFolder.read_budget_results` returns them.
        folder: The run folder of the search. If it searched on other images than those of the
            table, a note says so.
    """
    from archgrad.report import verdict_table

    bounds = budgets.table_budgets(within, table.query(genotype))
    console.print(verdict_table(table.verdict(genotype, bounds), table.MEASURED))
    if folder and (note := note_on_images(folder)):
        say_on(console)(note)


def note_on_images(folder: RunFolder) -> str | None:
    """Return a sentence if a search saw other images than those of the tables, otherwise None."""
    images = folder.read_images()
    return tabular.other_images_note(Path(images["name"]).name, images["preprocess"]["size"])


def next_step(judgement: Judgement | None, follow: str) -> str:
    """Return the line with the next command, ``follow``.

    If the judgement found a fault in the search, the line first advises a better search.
    """
    if judgement and judgement.ok:
        return f"next: {follow}"
    return f"next: search again as advised above, or use this network anyway: {follow}"
