"""``archgrad compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from archgrad import terminal
from archgrad.cli.flags import flags, said, some
from archgrad.cli.searching import ABOUT, FLOATING
from archgrad.compare import forecast, summary, tables
from archgrad.compare import study as studies
from archgrad.compare.comparing import tidy
from archgrad.compare.jobs import Ending, Home, Run, execute, prepared, runs_of
from archgrad.compare.schemas import ComparisonFile
from archgrad.compare.study import Study
from archgrad.data import places
from archgrad.errors import command
from archgrad.observers.interrupts import stop_requests
from archgrad.run import checking, config
from archgrad.searching.progress import bar
from archgrad.storage import files, typed_json
from archgrad.storage.folder import leftovers
from archgrad.terminal import say_on

Flags: Any = flags(
    config.sections(),
    some(config.scalars(), "device", "deterministic", "threads", "plugins"),
    ABOUT
    | {
        "retrain": "The recipe of --retrain-seeds. Defaults are those of the preset, which itself follows from the space."
    },
    floating=FLOATING,
)
NOTHING = Flags()
STOPPING = "stopping once every run has saved; once more to stop now"
BY_IMAGES = {
    "device",
    "data.size",
    "data.flip",
    "data.val",
    "space.classes",
    "space.in_channels",
    "space.stem",
}  # settled when a run begins


def compare(
    *,
    out: Annotated[Path | None, Parameter(help="the study's folder, new or begun")] = None,
    methods: Annotated[
        str | None,
        Parameter(help="arms, a,b+c: methods, or arms of the file; by default all of the file"),
    ] = None,
    seeds: Annotated[
        str | None,
        Parameter(help="number of seeds (4: 1 to 4), or the seeds (1,2,5); by default 4"),
    ] = None,
    retrain_seeds: Annotated[
        int | None, Parameter(help="number of trainings of each found network; by default 0")
    ] = None,
    config_file: Annotated[
        Path | None,
        Parameter(
            name="--config", help="YAML of a study: that of a search, with arms, seeds, control"
        ),
    ] = None,
    control: Annotated[
        str | None,
        Parameter(help="the arm that others are compared to; by default darts, else random"),
    ] = None,
    no_controls: Annotated[
        bool, Parameter(help="leave out the arm of random search", negative="", show_default=False)
    ] = False,
    blind: Annotated[
        bool,
        Parameter(
            help="leave true accuracies unread, for a choice of settings",
            negative="",
            show_default=False,
        ),
    ] = False,
    jobs: Annotated[int, Parameter(help="searches at a time")] = 1,
    dry_run: Annotated[
        bool,
        Parameter(
            help="print a line for each run; nothing is loaded or written",
            negative="",
            show_default=False,
        ),
    ] = False,
    print_commands: Annotated[
        bool,
        Parameter(
            help="print a command line for each run that is left, and run nothing",
            negative="",
            show_default=False,
        ),
    ] = False,
    given: Annotated[Flags, Parameter(name="*")] = NOTHING,
) -> int:
    """Search with several methods and several seeds, and say what differs and how surely.

    All settings of a search are shared by the arms. Each run is an ordinary run folder in OUT/runs and a process of its own with one thread; the
    same command again goes on with what is not done, and `--out OUT --methods NEW --data DATA` adds an arm. OUT/summaries holds a small file of
    each finished run, which counts as done anywhere.
    An arm of random search is among the arms.
    """
    if jobs < 1:
        raise ValueError(f"--jobs: at least one search at a time, not {jobs}")
    if out is None:
        raise ValueError("where to? name the study's folder by --out")
    if not dry_run and (place := said(given).get("data", {}).get("path")):
        places.check(place)
    home = Home(out)
    before = recorded(home)
    sources = (
        [config.read_yaml(config_file)]
        if config_file
        else [(str(home.study), begun(before, bool(methods)))]
        if before
        else []
    )
    own = said_of_study(
        seeds=seeds,
        retrain_seeds=retrain_seeds,
        control=control,
        blind=blind or None,
        controls=False if no_controls else None,
    )
    asked = studies.read(
        *sources,
        ("", said(given) | own),
        names=methods.split(",") if methods else (),
        before=before,
    )
    whole = studies.joined(before, asked) if before else asked
    runs = runs_of(asked, home)
    console = terminal.console(soft_wrap=True, stderr=print_commands)
    if dry_run:
        heads = {arm: headline(asked, arm) for arm in asked.arms}
        for one in runs:
            console.print(
                f"{one.name}: {heads[one.arm]}, seed {one.seed} ({one.state()})", markup=False
            )
        return 0
    left_out = [one for one in runs if one.left_out]
    if missing := [one for one in runs if not one.done and one not in left_out]:
        check_images(asked, home, console)
        check_settings(asked, home)
        check_folders(missing)
        check_depths(asked, missing)
    out.mkdir(parents=True, exist_ok=True)
    with files.shared(out):
        files.write(home.study, whole.to_yaml())
        prepared(asked, missing)
        for one in left_out:
            why = f"its search was ended by `archgrad finish` {one.left_out}"
            say_on(console)(
                f"{one.name}: left out, {why}: {command('resume', one.folder.path, '--reopen')} goes on with it"
            )
        if print_commands:
            left = [one for one in missing if not one.record()]
            for one in left:
                terminal.say_exactly(one.command())
            report(whole, home, [], terminal.console(quiet=True) if left else console)
            return 0
        failed, stopped = run_all(missing, jobs, console)
        report(whole, home, failed, console)
    say = say_on(console)
    for end in failed:
        say(f"{end.run.name}: FAILED, {end.failure} (log: {end.run.log})")
    if stopped:
        say("stopped; everything is saved. The same command again goes on with what is not done")
        return 130
    return 1 if failed else 0


def said_of_study(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def begun(before: Study, named: bool) -> dict[str, Any]:
    """What a recorded study says of a command that goes on with it; where arms are ``named``, these alone are meant."""
    return {
        name: value for name, value in before.to_mapping().items() if name != "arms" or not named
    }


def recorded(home: Home) -> Study | None:
    """The study that was begun in a folder. ValueError if the folder holds something else."""
    if home.study.exists():
        return studies.read(config.read_yaml(home.study), recorded=True)
    leftovers(home.path, home.study)
    return None


def headline(asked: Study, arm: str) -> str:
    """One arm in a few words."""
    settings = asked.resolved(arm)
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


def check_images(asked: Study, home: Home, console: Console) -> None:
    """Reads the images once, before any search does. ValueError if they are not there, not for this space, or not those of the summaries."""
    settings = asked.settings(next(iter(asked.arms)))
    place = settings.data
    checking.check_images(place)
    if place.val == studies.ELSEWHERE:
        raise ValueError(
            f"the validation images of {home.path} are another set, whose place is not recorded: name them by --data.val"
        )
    from archgrad import data
    from archgrad.run import preparing  # take torch
    from archgrad.searching import progress

    with progress.life(console):
        images = data.load(**preparing.loading(place), report=say_on(console))
    preparing.fitted(settings, images)
    for one in summary.read_all(home.summaries):
        was = one["data"]["fingerprint"]
        if not data.same_images(was, images):
            now = f"{images.name} ({data.fingerprint_like(was, images)})"
            raise ValueError(
                f"{home.path} was made with other images, {one['data']['name']} ({was}), not {now}: choose another --out"
            )


def check_settings(asked: Study, home: Home) -> None:
    """ValueError where a finished run had another setting: a default that has changed since."""
    for one in summary.read_all(home.summaries):
        arm = one["arm"]
        if arm in asked.arms:
            was, images = studies.flat(one["config"]), one["data"]["splits"]["train"]
            now = asked.resolved(arm, images // min(was["search.batch"], images))
            shared = (was.keys() & now.keys()) - BY_IMAGES
            for name, then, new in studies.differences(
                {name: was[name] for name in shared}, {name: now[name] for name in shared}
            ):
                raise ValueError(
                    f"arm {arm}: {name} was {then!r} in seed {one['seed']} and is {new!r} now: set it, or choose another --out"
                )


def check_depths(asked: Study, runs: list[Run]) -> None:
    """ValueError where a run that is to begin has too few cells for all edge groups."""
    from archgrad.run import preparing

    for arm in dict.fromkeys(one.arm for one in runs if one.state() == "new"):
        try:
            preparing.check_depths(asked.settings(arm))
        except ValueError as error:
            raise ValueError(f"arm {arm}: {error}") from None


def check_folders(runs: list[Run]) -> None:
    """ValueError where a finished search is to be retrained, and is not here."""
    for one in runs:
        if one.summary.exists() and not one.folder.genotype.exists():
            raise ValueError(
                f"{one.name} was searched elsewhere, and is to be retrained now: copy its folder to {one.folder.path}"
            )


def run_all(runs: list[Run], jobs: int, console: Console) -> tuple[list[Ending], bool]:
    """What failed for good, and whether the user asked to stop."""
    failed: list[Ending] = []
    say, herald = say_on(console), forecast.Herald(runs, jobs, signs=not console.is_terminal)
    with bar(console) as progress, stop_requests(STOPPING) as stopping:
        task = progress.add_task("searches", total=len(runs))

        def tick(alive: list[Run]) -> None:
            for line in [] if stopping() else herald.lines(alive):
                say(line)

        def ended(end: Ending) -> None:
            progress.advance(task)
            done = int(progress.tasks[0].completed)
            if end.failure:
                failed.append(end)
            says = (
                f"failed for good: {end.failure}"
                if end.failure
                else result(summary.read(end.run.summary))
            )
            left = herald.ended(end.run, failed=bool(end.failure))
            say(
                f"{done}/{len(runs)} {end.run.name}: {says}{left if done < len(runs) and not stopping() else ''}"
            )

        execute(runs, jobs=jobs, stopping=stopping, ended=ended, say=say, tick=tick)
        return failed, stopping()


def result(found: summary.Summary) -> str:
    """A finished run in a few words."""
    from archgrad.run.judgement import CAUSES

    final, fails = found["final"], found.get("searched", {}).get("fails", {})
    doubts = [f"{CAUSES[cause]}: the search says little" for cause in fails][:1]
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


def report(whole: Study, home: Home, failed: list[Ending], console: Console) -> None:
    """The table, and all numbers as JSON and as CSV."""
    say, found, lost = (
        say_on(console),
        summary.read_all(home.summaries),
        failures(whole, home, failed),
    )
    if not found and not lost:
        return
    compared = tables.comparison(found, whole.control, tuple(whole.arms), lost)
    files.write(home.table, tidy(found, whole.control, lost))
    files.write(
        home.numbers, json.dumps(compared.to_json(), indent=1) + "\n"
    )  # last: it says what failed
    if not console.quiet:
        terminal.console(width=max(console.width, tables.WIDTH)).print(tables.table(compared))
    if not whole.equal:
        say("the arms need not spend the same epochs, batches and images: equal is false")
    if (
        len(
            versions := sorted(
                {
                    str(one["environment"]["commit"] or one["environment"]["archgrad"])
                    for one in found
                }
            )
        )
        > 1
    ):
        say(f"the runs are of {len(versions)} versions of the code: {', '.join(versions)}")
    say(f"all numbers: {home.numbers} and {home.table}")


def failures(whole: Study, home: Home, failed: list[Ending]) -> dict[str, dict[int, str]]:
    """What failed now, and what failed before and was not done since: it stays in the table until it is."""
    before = (
        typed_json.read(home.numbers, ComparisonFile).get("failed", {})
        if home.numbers.exists()
        else {}
    )
    found: dict[str, dict[int, str]] = {}
    for one in runs_of(whole, home):
        now = next(
            (end.failure for end in failed if (end.run.arm, end.run.seed) == (one.arm, one.seed)),
            None,
        )
        why = now or before.get(one.arm, {}).get(str(one.seed))
        if why and not one.done and not one.left_out:
            found.setdefault(one.arm, {})[one.seed] = why
    return found
