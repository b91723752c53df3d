"""What a benchmark's table says of a found network, of which images it speaks, and what to do next."""

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
    console: Console, table: ModuleType, genotype: Genotype, within: Sequence[budgets.BudgetResult], folder: RunFolder | None
) -> None:  # fmt: skip
    """What ``table`` knows of it. ``folder``: of the search that found the network, which may have seen other images."""
    from archgrad.report import verdict_table

    bounds = budgets.bounds(within, table.query(genotype))
    console.print(verdict_table(table.verdict(genotype, bounds), table.MEASURED))
    if folder and (note := elsewhere(folder)):
        say_on(console)(note)


def elsewhere(folder: RunFolder) -> str | None:
    """The sentence for a search on other images than the tables'; None where they are the same."""
    images = folder.images()
    return tabular.elsewhere(Path(images["name"]).name, images["preprocess"]["size"])


def onward(judgement: Judgement | None, follow: str) -> str:
    """What to type next, by default ``follow``: to train what was not searched is a waste."""
    first = (
        ""
        if judgement and judgement.ok
        else "search again first, as said above; for this network all the same: "
    )
    return f"next: {first}{follow}"
