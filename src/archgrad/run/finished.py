"""A run after its search: its state read back, its judgement, and a stopped search whose result is what it has now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from archgrad import terminal
from archgrad.errors import command
from archgrad.run import budgets, preparing, results
from archgrad.run.folder import RunFolder
from archgrad.run.judgement import Judgement, judge
from archgrad.searching import checkpoint, loop, progress
from archgrad.searching.loop import Found
from archgrad.searching.types import Method, State
from archgrad.storage import records
from archgrad.terminal import say_on


def restored(folder: RunFolder) -> tuple[Method, State]:
    """The method of a run and the state in its checkpoint, on the CPU, without its images. ValueError where one cannot be had."""
    settings = folder.settings()
    space = preparing.space_of(settings)
    limits = budgets.costs_of(
        settings, space, folder.images()["preprocess"]["size"], folder.latencies
    ).limits()
    method = preparing.build(settings, space, preparing.limiting(settings, limits))
    state = checkpoint.load(folder.checkpoint, method)
    loop.check_plan(state, settings.search.epochs or method.base.defaults.epochs, state.plan.steps)
    return method, as_ended(state) if folder.finished_by_hand() else state


def as_ended(state: State) -> State:
    """A stopped search read as one that ended there: between two epochs it is at the end of the first, not before the second."""
    if not state.step and 0 < state.epoch < state.plan.epochs and state.ended is None:
        state.ended = state.epoch
    return state


def searched(folder: RunFolder) -> Judgement | None:
    """The judgement that a run ended with; of a run recorded before there was one it is made from the run's files. None where they do not
    suffice."""
    content = folder.result()
    if "searched" in content:
        return Judgement.from_json(content["searched"])
    threads = torch.get_num_threads()
    try:
        method, state = restored(folder)
        return judge(
            method,
            state,
            folder.found(),
            records.measured(folder.history()),
            folder.images()["per_class"]["val"],
        )
    except (
        ValueError,
        KeyError,
        RuntimeError,
        OSError,
    ):  # a checkpoint that is gone or of another version, a method of a plugin
        return None
    finally:
        torch.set_num_threads(threads)


def said(judgement: Judgement | None) -> list[str]:
    """Its lines, or that there is none."""
    return (
        judgement.lines()
        if judgement
        else ["not judged whether this was searched: the run has no checkpoint that can be read"]
    )


def finish(
    path: Path, *, previous: bool = False, console: Console | None = None
) -> Found | None:
    """Makes what the stopped search in ``path`` has now its result; None if it has a result already. Its checkpoint stays as it is.

    Where alphas moved, the result is what they say now, without the decisions that a method would take after its last epoch; where no alphas
    ever move, these decisions are all there is, and are taken now. ``previous``: it is taken from the checkpoint before the last, which
    becomes the last one. ValueError if there is no run, no checkpoint, or nothing to decide among.
    """
    console = console or terminal.console(soft_wrap=True)
    folder, say = RunFolder(path), say_on(console)
    folder.settings()
    if folder.genotype.exists():
        return None
    if not previous and not folder.checkpoint.exists():
        raise ValueError(
            f"the search in {path} has no checkpoint yet, so there is nothing to finish: go on with `{command('resume', path)}`"
        )
    with folder.locked(), progress.life(console) as alive:
        if folder.genotype.exists():  # another process was faster
            return None
        prepared, state = preparing.recorded(folder, say, previous=previous)
        if previous:
            checkpoint.go_back(folder.checkpoint)
        method, epochs = prepared.method, state.plan.epochs
        own = method.alpha_from(epochs) >= epochs
        if own and not state.decisions:
            say(f"{method.name} moves no alphas: it decides now, by what it has")
            alive.at("deciding")
            for decision in method.finalise(state, prepared.data):
                said = {
                    name: value
                    for name, value in decision.note.items()
                    if isinstance(value, str | int | float)
                }
                say(
                    f"decided {len(state.decisions)}: "
                    + ", ".join(f"{name} {value}" for name, value in said.items())
                )
            if not state.decisions:
                raise ValueError(
                    f"{method.name} has nothing to choose among yet in {path}: go on with `{command('resume', path)}`"
                )
        elif method.patch.finalise and not own:
            taken = (
                f"its first {len(state.decisions)} decisions"
                if state.decisions
                else "what its alphas say now"
            )
            say(f"{method.name} decides after its last epoch: the result is {taken}")
        as_ended(state)
        alive.at("cost and accuracy of what was seen")
        found = Found(method.genotype(state), state)
        results.write(prepared, folder, found, results.seen(prepared, folder, found), place(state))
    return found


def place(state: State) -> dict[str, Any]:
    """Where the search stood: whole epochs, ``of`` how many, steps of the next."""
    return {
        "epochs": min(state.epoch, state.plan.epochs),
        "of": state.plan.epochs,
        "steps": state.step,
    }
