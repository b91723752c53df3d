"""``archgrad search`` and ``archgrad resume``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from archgrad import catalogue, config, costing
from archgrad.cli.checking import check_search
from archgrad.cli.flags import flags, said
from archgrad.cli.training import go_on
from archgrad.folder import RunFolder, read_json
from archgrad.observers import Interrupted, say_on
from archgrad.retraining.files import CARD, home

if TYPE_CHECKING:
    from archgrad.loop import Found

ABOUT = {
    "space": "Of the spaces that have the option: `archgrad spaces`.",
    "weights": "SGD of the supernet weights. Defaults are the space's.",
    "alphas": "Adam of the alphas. Defaults are the space's.",
    "retrain": "For `archgrad retrain` of what is found; budgets count networks of this width and depth.",
    **{name: entry.about for name, entry in catalogue.methods().items()},
}
BY_SPACE = (name for name, entry in catalogue.methods().items() if entry.presets)
FLOATING = ("space", "weights", "alphas", "retrain", *BY_SPACE)  # defaults differ by space
Flags: Any = flags(config.sections(), config.scalars(), ABOUT, floating=FLOATING)
NOTHING = Flags()


def search(
    *,
    config_file: Annotated[Path | None, Parameter(name="--config", help="YAML with the same sections; flags win over it")] = None,
    dry_run: Annotated[bool, Parameter(help="print the settings; nothing is loaded or written", negative="", show_default=False)] = False,
    given: Annotated[Flags, Parameter(name="*")] = NOTHING,
) -> int:
    """Search an architecture for a set of images, into a new run folder.

    `--data X` is short for `--data.path X`, `--space X` for `--space.name X`, `--budget X` for `--budget.targets X`.
    """
    sources = [config.read_yaml(config_file)] if config_file else []
    settings = config.read(*sources, ("", said(given)))
    console = Console(highlight=False, soft_wrap=True)
    costing.targets(settings.budget)  # what is wrong with them should be said before images are read, and by a dry run too
    check_search(settings, dry=dry_run)
    from archgrad import run  # takes torch

    if dry_run:
        console.print(run.resolve(settings, run.build(settings)).to_yaml(), markup=False, end="")
        return 0
    folder = settings.out or run.default_out(settings)
    try:
        conclude(RunFolder(folder), run.search(settings, console=console), console)
    except Interrupted as stop:
        say_on(console)(str(stop))
        return 130
    return 0


def resume(folder: Path) -> int:
    """Go on with a search or a retraining exactly where it stopped, in mid-epoch too.

    Parameters
    ----------
    folder: Path
        The run folder.
    """
    console = Console(highlight=False, soft_wrap=True)
    run_folder = RunFolder(folder)
    if not (home(folder) / CARD).exists():
        run_folder.settings()  # or it says that there is no run
    from archgrad import run  # takes torch

    say = say_on(console)
    try:
        if run_folder.config.exists() and (found := run.resume(folder, console=console)):
            conclude(run_folder, found, console)
        elif (network := home(folder)) and (network / CARD).exists():
            go_on(network, say)
        else:
            run_folder.settings()
            say(f"the search in {folder} is finished: see `archgrad show {folder}`; next: archgrad retrain {folder}")
    except Interrupted as stop:
        say(str(stop))
        return 130
    return 0


def conclude(folder: RunFolder, found: Found, console: Console) -> None:
    """What came out, where it lies, what to type next, and what a benchmark knows of it."""
    from archgrad import run
    from archgrad.report import cell_table, front_table, verdict_table

    say = say_on(console)
    if why := folder.stopped():
        say(why)
    console.print(cell_table(found.genotype))
    space = found.state.space
    say(f"genotype: {found.genotype}")
    for line in costing.sentences(folder.found_within()):
        say(line)
    if folder.front.exists():
        console.print(front_table(**read_json(folder.front, "cost", "unit", "points")))
    say(f"pictures: {folder.cells} and {folder.curves}")
    if table := run.benchmark(space):
        bounds = costing.bounds(folder.found_within(), table.query(found.genotype))
        console.print(verdict_table(table.verdict(found.genotype, bounds), table.MEASURED))
    say(f"next: archgrad retrain {folder.path}  and then  archgrad evaluate {folder.path}")
