"""``archgrad search``, ``archgrad resume`` and ``archgrad finish``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from archgrad import terminal
from archgrad.cli.flags import flags, said
from archgrad.cli.training import go_on
from archgrad.errors import command
from archgrad.observers.interrupts import Interrupted
from archgrad.retraining.card import CARD, WEIGHTS, home
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
    "space": "`archgrad spaces` says which space has which options.",
    "weights": "SGD of the supernet weights. Defaults are the space's.",
    "alphas": "Adam of the alphas. Defaults are the space's, the rate fitted to the length of the search.",
    "retrain": "For `archgrad retrain` of what is found; budgets count networks of this width and depth.",
    **{name: entry.about for name, entry in catalogue.methods().items()},
}
BY_SPACE = (name for name, entry in catalogue.methods().items() if entry.presets)
FLOATING = ("space", "weights", "alphas", "retrain", *BY_SPACE)  # defaults differ by space
Flags: Any = flags(config.sections(), config.scalars(), ABOUT, floating=FLOATING)
NOTHING = Flags()


def search(
    *,
    config_file: Annotated[
        Path | None,
        Parameter(name="--config", help="YAML with the same sections; flags win over it"),
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(
            help="print the settings; nothing is loaded or written", negative="", show_default=False
        ),
    ] = False,
    given: Annotated[Flags, Parameter(name="*")] = NOTHING,
) -> int:
    """Search an architecture for a set of images, into a new run folder.

    `--data X` is short for `--data.path X`, `--space X` for `--space.name X`, `--budget X` for `--budget.targets X`.
    """
    sources = [config.read_yaml(config_file)] if config_file else []
    settings = config.read(*sources, ("", said(given)))
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
        conclude(RunFolder(folder), execute.search(settings, console=console), console)
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
            help="remove the result that `finish` wrote, and go on", negative="", show_default=False
        ),
    ] = False,
    previous: Annotated[
        bool,
        Parameter(
            help="go on from the checkpoint before the last one", negative="", show_default=False
        ),
    ] = False,
    repair: Annotated[
        bool, Parameter(help="mend damaged metrics, and go on", negative="", show_default=False)
    ] = False,
) -> int:
    """Go on with a search or a retraining exactly where it stopped, in mid-epoch too.

    With `--repair` every good row of a damaged `metrics.jsonl` or `decisions.jsonl` is kept, each lost one is marked
    (`{"epoch": 3, "missing": true}`), and the damaged file stays beside it as `metrics.jsonl.damaged`.

    Parameters
    ----------
    folder: Path
        The run folder.
    """
    console = terminal.console(soft_wrap=True)
    run_folder, say = RunFolder(folder), say_on(console)
    if not (home(folder) / CARD).exists():
        run_folder.settings()  # or it says that there is no run
    if reopen:
        run_folder.check_reopen()
    from archgrad.run import execute  # takes torch

    try:
        if run_folder.config.exists() and (
            found := execute.resume(
                folder, reopen=reopen, repair=repair, previous=previous, console=console
            )
        ):
            conclude(run_folder, found, console)
        elif (network := home(folder)) and (network / CARD).exists():
            go_on(network, say, repair=repair, previous=previous)
        elif not repair and (by_hand := run_folder.finished_by_hand()):
            raise ValueError(
                f"the search in {folder} was ended by `archgrad finish` {by_hand}: add --reopen to remove that result and go on"
            )
        else:
            run_folder.settings()
            over(folder, say)
    except Interrupted as stop:
        say(str(stop))
        return 130
    return 0


def finish(folder: Path) -> int:
    """Make what a stopped search has now its result, so that `derive` and `retrain` work. `resume --reopen` goes on with the search.

    Of a method that decides after its last epoch the result is what its alphas say now; of one without alphas, what it can decide now.

    Parameters
    ----------
    folder: Path
        The run folder.
    """
    RunFolder(folder).settings()  # or it says that there is no run
    from archgrad.run import finished  # takes torch

    console = terminal.console(soft_wrap=True)
    if found := finished.finish(folder, console=console):
        conclude(RunFolder(folder), found, console)
    else:
        over(folder, say_on(console))
    return 0


def over(folder: Path, say: Say) -> None:
    """That a search has a result already, and what to type next."""
    from archgrad.cli.verdict import onward
    from archgrad.run import finished

    RunFolder(folder).history()  # or it names what is damaged
    by_hand = RunFolder(folder).finished_by_hand()
    judgement = finished.searched(RunFolder(folder))
    say(
        f"the search in {folder} is finished{f' already, {by_hand}' if by_hand else ''}: see `{command('show', folder)}`"
    )
    for line in (*finished.said(judgement), onward(judgement, then(folder))):
        say(line)


def then(folder: Path) -> str:
    """The commands that lead from this search to a tested network: those that are left."""
    if not (home(folder) / CARD).exists():
        return f"{command('retrain', folder)}  and then  {command('evaluate', folder)}"
    return command("evaluate" if (home(folder) / WEIGHTS).exists() else "resume", folder)


def conclude(folder: RunFolder, found: Found, console: Console) -> None:
    """What came out, where it lies, whether it was searched, what a benchmark knows of it, and what to type next."""
    from archgrad.cli.verdict import onward, show_verdict
    from archgrad.report import cell_table, front_table
    from archgrad.run import finished, watchers

    say = say_on(console)
    for why in folder.ended():
        say(why)
    console.print(cell_table(found.genotype))
    say(f"genotype: {found.genotype}")
    for line in budgets.sentences(folder.found_within()):
        say(line)
    if folder.front.exists():
        console.print(front_table(**typed_json.read(folder.front, FrontFile)))
    say(
        f"pictures: {folder.cells} and {folder.curves}"
        if folder.curves.exists()
        else f"picture: {folder.cells}"
    )
    judgement = finished.searched(folder)
    for line in finished.said(judgement):
        say(line)
    if table := watchers.benchmark(found.state.space):
        show_verdict(console, table, found.genotype, folder.found_within(), folder)
    say(onward(judgement, then(folder.path)))
