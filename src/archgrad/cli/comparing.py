"""The command ``archgrad compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from archgrad import terminal
from archgrad.cli import study_checks
from archgrad.cli.flags import flags, given_flags, part_of
from archgrad.cli.searching import ABOUT, FLOATING
from archgrad.compare import forecast, summary, tables
from archgrad.compare import study as studies
from archgrad.compare.comparing import comparison
from archgrad.compare.jobs import Ending, Run, StudyFolder, execute, runs_of, write_settings
from archgrad.compare.schemas import ComparisonFile
from archgrad.compare.study import Study
from archgrad.compare.tidy import tidy_csv
from archgrad.data import places
from archgrad.errors import command
from archgrad.observers.interrupts import stop_requests
from archgrad.run import config
from archgrad.searching.progress import progress_bar
from archgrad.storage import files, typed_json
from archgrad.storage.folder import leftovers
from archgrad.terminal import say_on

RECIPE = (
    "This is the recipe of --retrain-seeds. "
    "The preset sets the defaults, and the space chooses the preset."
)
Flags: Any = flags(
    config.sections(),
    part_of(config.scalars(), "device", "deterministic", "threads", "plugins"),
    ABOUT | {"retrain": RECIPE},
    floating=FLOATING,
)
NOTHING = Flags()
STOPPING = "stopping once every run has saved; press Ctrl-C again to stop now"


def compare(
    *,
    out: Annotated[
        Path | None, Parameter(help="folder of the study, a new one or one to continue")
    ] = None,
    methods: Annotated[
        str | None,
        Parameter(
            help="names of methods (a,b+c) or of arms in the file; by default all arms of the file"
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        Parameter(help="number of seeds (4 for the seeds 1 to 4), or a list (1,2,5); by default 4"),
    ] = None,
    retrain_seeds: Annotated[
        int | None, Parameter(help="number of retrainings of each found network; by default 0")
    ] = None,
    config_file: Annotated[
        Path | None,
        Parameter(
            name="--config",
            help="YAML file of a study: settings of a search, with arms, seeds and control",
        ),
    ] = None,
    control: Annotated[
        str | None,
        Parameter(
            help="control arm of the comparison; by default darts if there is one, else random"
        ),
    ] = None,
    no_controls: Annotated[
        bool,
        Parameter(help="exclusion of the random search arm", negative="", show_default=False),
    ] = False,
    blind: Annotated[
        bool,
        Parameter(
            help="study without the benchmark's accuracies, so that they cannot guide a choice",
            negative="",
            show_default=False,
        ),
    ] = False,
    jobs: Annotated[int, Parameter(help="number of runs that run at the same time")] = 1,
    dry_run: Annotated[
        bool,
        Parameter(
            help="list of the runs, one a line; no image is read and no file is written",
            negative="",
            show_default=False,
        ),
    ] = False,
    print_commands: Annotated[
        bool,
        Parameter(
            help="list of the commands of the unfinished runs, none of which is run",
            negative="",
            show_default=False,
        ),
    ] = False,
    given: Annotated[Flags, Parameter(name="*")] = NOTHING,
) -> int:
    """Search with several methods and seeds, and test which differences are significant.

    Each run is an ordinary run folder in OUT/runs and a separate process. The same command again
    continues with the unfinished runs, and `--out OUT --methods NEW --data DATA` adds an arm. The
    study contains an arm of random search unless `--no-controls` is given.

    Example: `archgrad compare --methods darts,gdas --data digits --out study`
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, not {jobs}")
    if out is None:
        raise ValueError("which folder? name the folder of the study by --out")
    if not dry_run and (place := given_flags(given).get("data", {}).get("path")):
        places.check_images(place)
    home = StudyFolder(out)
    before = recorded(home)
    own = {
        "seeds": seeds,
        "retrain_seeds": retrain_seeds,
        "control": control,
        "blind": blind or None,
        "controls": False if no_controls else None,
    }
    flags_given = given_flags(given) | {
        name: value for name, value in own.items() if value is not None
    }
    names = methods.split(",") if methods else ()
    asked = studies.read(
        *sources(home, config_file, before, named=bool(names)),
        ("", flags_given),
        names=names,
        before=before,
    )
    whole = studies.joined(before, asked) if before else asked
    runs = runs_of(asked, home)
    console = terminal.console(soft_wrap=True, stderr=print_commands)
    if dry_run:
        print_runs(asked, runs, console)
        return 0
    if missing := [one for one in runs if not one.is_done and not one.place_of_finish]:
        study_checks.check(asked, home, missing, console)
    out.mkdir(parents=True, exist_ok=True)
    with files.sharing(out):
        files.write(home.study, whole.to_yaml())
        write_settings(asked, missing)
        print_left_out(runs, console)
        if print_commands:
            unfinished = print_commands_of(missing)
            report(whole, home, [], terminal.console(quiet=True) if unfinished else console)
            return 0
        failed, stopped = run_all(missing, jobs, console)
        report(whole, home, failed, console)
    return exit_code(failed, stopped, console)


def sources(
    home: StudyFolder, config_file: Path | None, before: Study | None, *, named: bool
) -> list[tuple[str, dict[str, Any]]]:
    """Return the settings below the flags: those of a file, or of the study that was begun here.

    Args:
        home: The folder of the study.
        config_file: The file that the user named.
        before: The study in the folder.
        named: Whether the user named the arms by ``--methods``.
    """
    if config_file:
        return [config.read_yaml(config_file)]
    return [(str(home.study), begun(before, named))] if before else []


def print_runs(asked: Study, runs: list[Run], console: Console) -> None:
    """Print one line for each run of a study: its settings and its state."""
    heads = {arm: headline(asked, arm) for arm in asked.arms}
    for one in runs:
        console.print(
            f"{one.name}: {heads[one.arm]}, seed {one.seed} ({one.state()})", markup=False
        )


def print_left_out(runs: list[Run], console: Console) -> None:
    """Print one line for each run that is left out because `archgrad finish` ended its search."""
    for one in runs:
        if one.place_of_finish:
            reopen = command("resume", one.folder.path, "--reopen")
            say_on(console)(
                f"{one.name}: left out, its search was ended by `archgrad finish` "
                f"{one.place_of_finish}: to continue it, run {reopen}"
            )


def print_commands_of(missing: list[Run]) -> list[Run]:
    """Print the commands of the unfinished runs, and return these runs."""
    unfinished = [one for one in missing if not one.write_summary()]
    for one in unfinished:
        terminal.print_output(one.command())
    return unfinished


def exit_code(failed: list[Ending], stopped: bool, console: Console) -> int:
    """Print how a study ended, and return the exit code of the command."""
    say = say_on(console)
    for end in failed:
        say(f"{end.run.name}: FAILED, {end.failure} (log: {end.run.log})")
    if stopped:
        say("stopped; everything is saved. The same command again continues the study.")
        return 130
    return 1 if failed else 0


def begun(before: Study, named: bool) -> dict[str, Any]:
    """Return the settings of a recorded study for a command that continues it.

    If the command itself has ``named`` arms, the arms of the study are left out.
    """
    return {
        name: value for name, value in before.to_mapping().items() if name != "arms" or not named
    }


def recorded(home: StudyFolder) -> Study | None:
    """Return the study that was begun in a folder, or None if there is none.

    Raises:
        ValueError: The folder holds something else.
    """
    if home.study.exists():
        return studies.read(config.read_yaml(home.study), recorded=True)
    leftovers(home.path, home.study)
    return None


def headline(asked: Study, arm: str) -> str:
    """Return a short description of an arm."""
    settings = asked.resolved_settings(arm)
    own = [
        f"{name} {value}"
        for name, value in studies.flat(asked.arms[arm]).items()
        if name != "method"
    ]
    return ", ".join(
        [
            f"{settings['method']} in {settings['space.name']}",
            *own,
            f"{settings['search.epochs']} epochs",
        ]
    )


def run_all(runs: list[Run], jobs: int, console: Console) -> tuple[list[Ending], bool]:
    """Run the searches and retrainings of a study.

    Returns:
        The runs that failed in every attempt, and whether the user stopped the study.
    """
    failed: list[Ending] = []
    say, herald = say_on(console), forecast.StudyProgress(runs, jobs, signs=not console.is_terminal)
    with progress_bar(console) as progress, stop_requests(STOPPING) as stopping:
        task = progress.add_task("searches", total=len(runs))

        def tick(alive: list[Run]) -> None:
            if not stopping():
                for line in herald.lines_due(alive):
                    say(line)

        def ended(end: Ending) -> None:
            progress.advance(task)
            done = int(progress.tasks[0].completed)
            if end.failure:
                failed.append(end)
                outcome = f"failed, no attempt is left: {end.failure}"
            else:
                outcome = short_result(summary.read(end.run.summary))
            left = herald.note_end(end.run, failed=bool(end.failure))
            if done == len(runs) or stopping():
                left = ""
            say(f"{done}/{len(runs)} {end.run.name}: {outcome}{left}")

        execute(runs, jobs=jobs, stopping=stopping, ended=ended, say=say, tick=tick)
        return failed, stopping()


def short_result(found: summary.Summary) -> str:
    """Return a short description of a finished run: time, first doubt, and main measures."""
    from archgrad.run.judgement import CAUSES

    final, fails = found["final"], found.get("searched", {}).get("fails", {})
    doubts = [f"doubtful ({CAUSES[cause]})" for cause in fails][:1]
    known = {
        "entropy": "entropy {:.3f}",
        "skips": "skips {:.0f}",
        "cifar10_test": "CIFAR-10 true test accuracy {:.2f} %",
    }
    return ", ".join(
        [
            f"{found['seconds']:.0f} s",
            *doubts,
            *(text.format(final[name]) for name, text in known.items() if name in final),
        ]
    )


def report(whole: Study, home: StudyFolder, failed: list[Ending], console: Console) -> None:
    """Print the tables of a study, and write all its numbers as JSON and as CSV."""
    say = say_on(console)
    found, lost = summary.read_all(home.summaries), failures(whole, home, failed)
    if not found and not lost:
        return
    compared = comparison(found, whole.control, tuple(whole.arms), lost)
    files.write(home.comparison_csv, tidy_csv(found, whole.control, lost))
    # the JSON comes last, because the next call reads the failed runs from it
    files.write(home.comparison_json, json.dumps(compared.to_json(), indent=1) + "\n")
    if not console.quiet:
        terminal.console(width=max(console.width, tables.WIDTH)).print(tables.table(compared))
    if not whole.equal:
        say("equal is false, so the arms may differ in epochs, batches and images")
    versions = {
        str(one["environment"]["commit"] or one["environment"]["archgrad"]) for one in found
    }
    if len(versions) > 1:
        say(f"the runs used {len(versions)} versions of the code: {', '.join(sorted(versions))}")
    say(f"all numbers: {home.comparison_json} and {home.comparison_csv}")


def failures(whole: Study, home: StudyFolder, failed: list[Ending]) -> dict[str, dict[int, str]]:
    """Return arm -> seed -> reason of each failed run.

    A run that failed in an earlier call stays in the table until it is done.
    """
    before = (
        typed_json.read(home.comparison_json, ComparisonFile).get("failed", {})
        if home.comparison_json.exists()
        else {}
    )
    found: dict[str, dict[int, str]] = {}
    for one in runs_of(whole, home):
        now = next(
            (end.failure for end in failed if (end.run.arm, end.run.seed) == (one.arm, one.seed)),
            None,
        )
        why = now or before.get(one.arm, {}).get(str(one.seed))
        if why and not one.is_done and not one.place_of_finish:
            found.setdefault(one.arm, {})[one.seed] = why
    return found
