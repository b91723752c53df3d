"""The commands ``archgrad search``, ``archgrad resume`` and ``archgrad finish``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from archgrad import terminal
from archgrad.cli.flags import flags, given_flags
from archgrad.cli.training import continue_retraining
from archgrad.errors import command
from archgrad.observers.interrupts import Interrupted
from archgrad.retraining.card import CARD, WEIGHTS, network_folder
from archgrad.run import budgets, catalogue, config
from archgrad.run.checking import check_search
from archgrad.run.folder import RunFolder, default_out
from archgrad.run.schemas import FrontFile
from archgrad.storage import typed_json
from archgrad.terminal import say_on

if TYPE_CHECKING:
    from archgrad.searching.loop import Found
    from archgrad.terminal import Say

ABOUT = {
    "space": "Each space has its own options: `archgrad spaces --json` lists them.",
    "weights": "SGD trains the supernet's weights. The space sets the defaults.",
    "alphas": "Adam trains the alphas. The space sets the defaults, "
    "and the learning rate also depends on the length of the search.",
    "budget": "The found network keeps to every budget.",
    "stop": "These rules end a search early. A rule that is not set is off.",
    "diagnostics": "These measurements go into the metrics. None of them changes the search.",
    "retrain": "This is the recipe of a later `archgrad retrain`. "
    "Budgets count the parameters and multiply-adds of networks with this width and depth.",
    **{name: entry.about for name, entry in catalogue.methods().items()},
}
BY_SPACE = (name for name, entry in catalogue.methods().items() if entry.presets)
FLOATING = ("space", "weights", "alphas", "retrain", *BY_SPACE)  # defaults differ by space
Flags: Any = flags(config.sections(), config.scalars(), ABOUT, floating=FLOATING)
NOTHING = Flags()
Previous = Annotated[
    bool,
    Parameter(
        help="start from checkpoint.previous.pt, the checkpoint before the last one",
        negative="",
        show_default=False,
    ),
]


def search(
    *,
    config_file: Annotated[
        Path | None,
        Parameter(
            name="--config",
            help="YAML file with the sections of these options; flags override the file",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(
            help="printout of the settings; no image is read and no file is written",
            negative="",
            show_default=False,
        ),
    ] = False,
    given: Annotated[Flags, Parameter(name="*")] = NOTHING,
) -> int:
    """Search an architecture for a set of images and write a new run folder.

    Ctrl-C stops the search, and `archgrad resume` continues it.

    Example: `archgrad search --method darts --space nasbench201 --data digits`
    """
    sources = [config.read_yaml(config_file)] if config_file else []
    settings = config.read(*sources, ("", given_flags(given)))
    console = terminal.console(soft_wrap=True)
    check_search(settings, reads=not dry_run, writes=not dry_run)
    from archgrad.run import execute, preparing  # takes torch

    if dry_run:
        preparing.check_depths(settings)
        console.print(
            preparing.resolve(settings, preparing.build(settings)).to_yaml(), markup=False, end=""
        )
        return 0
    folder = settings.out or default_out(settings)
    try:
        print_result(RunFolder(folder), execute.search(settings, console=console), console)
    except Interrupted as stop:
        say_on(console)(str(stop))
        return 130
    return 0


def resume(
    folder: Path,
    *,
    reopen: Annotated[
        bool,
        Parameter(
            help="removal of the result that `finish` wrote, before the search continues",
            negative="",
            show_default=False,
        ),
    ] = False,
    previous: Previous = False,
    repair: Annotated[
        bool,
        Parameter(
            help="repair of damaged metrics files before the run continues",
            negative="",
            show_default=False,
        ),
    ] = False,
) -> int:
    """Continue a search or a retraining exactly where it stopped.

    The stop may lie within an epoch. With `--repair`, the intact rows of damaged metrics are kept,
    the lost rows are marked, and the damaged file stays beside the new one as `FILE.damaged`.

    Example: `archgrad resume runs/a`

    Args:
        folder: run folder, or folder of a retraining
    """
    console = terminal.console(soft_wrap=True)
    run_folder, say = RunFolder(folder), say_on(console)
    if not (network_folder(folder) / CARD).exists():
        run_folder.read_settings()  # raises an error if there is no run
    if reopen:
        run_folder.check_reopen()
    from archgrad.run import execute  # takes torch

    try:
        if run_folder.config.exists() and (
            found := execute.resume(
                folder, reopen=reopen, repair=repair, previous=previous, console=console
            )
        ):
            print_result(run_folder, found, console)
        elif (network := network_folder(folder)) and (network / CARD).exists():
            continue_retraining(network, say, repair=repair, previous=previous)
        elif not repair and (by_hand := run_folder.place_of_finish()):
            raise ValueError(
                f"the search in {folder} was ended by `archgrad finish` {by_hand}: "
                "add --reopen to remove that result and continue"
            )
        else:
            run_folder.read_settings()
            say_finished(folder, say)
    except Interrupted as stop:
        say(str(stop))
        return 130
    return 0


def finish(folder: Path, *, previous: Previous = False) -> int:
    """Write the result of a stopped search as it stands now.

    The result is the genotype of the present alphas, or the decision that a method without alphas
    can take now. `archgrad resume --reopen` removes it and continues the search.

    Example: `archgrad finish runs/a`

    Args:
        folder: run folder of the stopped search
    """
    RunFolder(folder).read_settings()  # raises an error if there is no run
    from archgrad.run import finished  # takes torch

    console = terminal.console(soft_wrap=True)
    if found := finished.finish(folder, previous=previous, console=console):
        print_result(RunFolder(folder), found, console)
    else:
        say_finished(folder, say_on(console))
    return 0


def say_finished(folder: Path, say: Say) -> None:
    """Print that a search has a result already, and the next command."""
    from archgrad.cli.after_search import next_step
    from archgrad.run import finished

    RunFolder(folder).read_history()  # raises an error that names a damaged file
    by_hand = RunFolder(folder).place_of_finish()
    judgement = finished.read_judgement(RunFolder(folder))
    already = f" already, {by_hand}" if by_hand else ""
    say(f"the search in {folder} is finished{already}: see `{command('show', folder)}`")
    for line in (*finished.judgement_lines(judgement), next_step(judgement, next_commands(folder))):
        say(line)


def next_commands(folder: Path) -> str:
    """Return the remaining commands that lead from this search to a tested network."""
    if not (network_folder(folder) / CARD).exists():
        return f"{command('retrain', folder)}  and then  {command('evaluate', folder)}"
    return command("evaluate" if (network_folder(folder) / WEIGHTS).exists() else "resume", folder)


def print_result(folder: RunFolder, found: Found, console: Console) -> None:
    """Print the result of a search: genotype, files, judgement, benchmark and the next command."""
    from archgrad.cli.after_search import next_step, show_verdict
    from archgrad.report import cell_table, front_table
    from archgrad.run import finished, watchers

    say = say_on(console)
    for why in folder.early_end_lines():
        say(why)
    console.print(cell_table(found.genotype))
    say(f"genotype: {found.genotype}")
    for line in budgets.result_lines(folder.read_budget_results()):
        say(line)
    if folder.front.exists():
        console.print(front_table(**typed_json.read(folder.front, FrontFile)))
    say(
        f"pictures: {folder.cells} and {folder.curves}"
        if folder.curves.exists()
        else f"picture: {folder.cells}"
    )
    judgement = finished.read_judgement(folder)
    for line in finished.judgement_lines(judgement):
        say(line)
    if table := watchers.benchmark(found.state.space):
        show_verdict(console, table, found.genotype, folder.read_budget_results(), folder)
    say(next_step(judgement, next_commands(folder.path)))
