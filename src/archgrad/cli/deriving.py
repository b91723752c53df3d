"""The command ``archgrad derive``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from archgrad import options, terminal
from archgrad.cli.flags import AsJson, overwriting
from archgrad.data import places
from archgrad.errors import command
from archgrad.run import budgets
from archgrad.run.folder import RunFolder
from archgrad.run.sections import BudgetSettings
from archgrad.storage.files import write_json
from archgrad.terminal import say_on


def derive(
    folder: Path,
    *,
    budget: Annotated[
        list[str],
        Parameter(
            help="upper limits of the costs, such as macs=300M, params=60% (of the largest "
            "network), latency=15ms, DEVICE=15ms or ram=256k (peak memory in bytes); the network "
            "keeps all of them",
            consume_multiple=True,
            negative="",
        ),
    ],
    latency: Annotated[
        Path | None,
        Parameter(help="file of `archgrad latency`; by default the file for this device and space"),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(help="path of the new genotype file, which retrain, show and count read"),
    ] = None,
    overwrite: Annotated[bool, overwriting("--out")] = False,
    as_json: AsJson = False,
) -> None:
    """Derive another architecture from a finished search, under another budget.

    The last alphas of the search select the architecture, and nothing is searched again.

    Example: `archgrad derive runs/a --budget macs=60% --out small.json`

    Args:
        folder: run folder of the search
    """
    if out:
        places.check_new(out, "--out", overwrite=overwrite)
    given = {"targets": budget} | ({"latency": latency} if latency else {})
    limited = options.values("budget", BudgetSettings, given)
    if latency and not any(target.name == "latency" for target in limited["targets"]):
        raise ValueError(
            f"--latency {latency} needs a budget of latency: add one, such as --budget latency=15ms"
        )
    ended = RunFolder(folder)
    ended.read_genotype()  # raises an error that says how to finish the search
    reasons = ended.early_end_lines()
    settings = ended.read_settings()
    from archgrad.cli.after_search import next_step
    from archgrad.cost.limits import check_feasible
    from archgrad.run import finished, preparing  # take torch

    method, state = finished.read_method_and_state(ended)
    if method.alpha_from(settings.search.epochs or 1) >= (settings.search.epochs or 1):
        raise ValueError(
            f"{settings.method} moves no alphas, so no other architecture can be derived: "
            f"search again, with --budget {' '.join(budget)}"
        )
    if state.decisions:
        raise ValueError(
            f"{settings.method} decided after its search, not by its alphas alone: "
            f"search again, with --budget {' '.join(budget)}"
        )
    asked = settings.budget.model_copy(update=limited)
    own, size = None if latency else ended.latencies, ended.read_images()["preprocess"]["size"]
    limits = budgets.retrainable_costs(
        settings.model_copy(update={"budget": asked}), preparing.space_from(settings), size, own
    ).limits()
    check_feasible(state.space.groups, limits)  # the stages may have removed ops from the space
    genotype = method.selected_genotype(state, limits)
    within = budgets.budget_results(limits, genotype, method.selected_genotype(state, ()))
    judgement = finished.read_judgement(ended)
    judged = {"searched": judgement.to_json()} if judgement else {}
    found = {
        "genotype": genotype.to_json(),
        "text": str(genotype),
        "budget": [one.to_json() for one in within],
        **judged,
        "run": str(folder.resolve()),
    }
    if out:
        write_json(out, found)
    if as_json:
        terminal.print_output(json.dumps(found))
        return
    say = say_on(terminal.console(soft_wrap=True))
    shown = (
        *reasons,
        *budgets.range_lines(limits, state.space.groups),
        f"genotype: {genotype}",
        *budgets.result_lines(within),
    )
    for line in (*shown, *finished.judgement_lines(judgement)):
        say(line)
    follow = (
        command("retrain", out)
        if out
        else "give this command again with --out FILE, then archgrad retrain FILE"
    )
    say(next_step(judgement, follow))
