"""A run after its search: its state, its judgement, and the result of a search that was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from archgrad import terminal
from archgrad.errors import command
from archgrad.run import budgets, preparing, results
from archgrad.run.folder import RunFolder
from archgrad.run.judgement import Judgement
from archgrad.run.judging import judge
from archgrad.searching import checkpoint, loop, progress
from archgrad.searching.loop import Found
from archgrad.searching.types import Method, State
from archgrad.storage import records
from archgrad.terminal import Say, say_on


def read_method_and_state(folder: RunFolder) -> tuple[Method, State]:
    """Read the method of a run and the state of its checkpoint, on the CPU and without images.

    Raises:
        ValueError: The run, its checkpoint or its method is missing or damaged.
    """
    settings = folder.read_settings()
    space = preparing.space_from(settings)
    size = folder.read_images()["preprocess"]["size"]
    costs = budgets.retrainable_costs(settings, space, size, folder.latencies)
    method = preparing.build(settings, space, costs)
    state = checkpoint.load(folder.checkpoint, method)
    loop.check_plan(state, settings.search.epochs or method.base.defaults.epochs, state.plan.steps)
    return method, mark_as_ended(state) if folder.place_of_finish() else state


def mark_as_ended(state: State) -> State:
    """Mark a stopped search as ended, and return its state.

    Between two epochs the search then stands at the end of the first one, not before the second.
    """
    if not state.step and 0 < state.epoch < state.plan.epochs and state.ended is None:
        state.ended = state.epoch
    return state


def read_judgement(folder: RunFolder) -> Judgement | None:
    """Return the judgement of a finished run.

    A run that was recorded before judgements existed is judged from its files now. The answer is
    None if these files are not sufficient.
    """
    content = folder.read_result()
    if "searched" in content:
        return Judgement.from_json(content["searched"])
    threads = torch.get_num_threads()
    try:
        method, state = read_method_and_state(folder)
        past = records.measured(folder.read_history())
        return judge(
            method, state, folder.read_genotype(), past, folder.read_images()["per_class"]["val"]
        )
    except (ValueError, KeyError, RuntimeError, OSError):
        # The checkpoint is missing or of another version, or the method belongs to a plugin.
        return None
    finally:
        torch.set_num_threads(threads)


def judgement_lines(judgement: Judgement | None) -> list[str]:
    """Return the lines of a judgement, or one line that there is none."""
    if judgement is None:
        return ["The search cannot be judged, because the run has no readable checkpoint."]
    return judgement.lines()


def finish(path: Path, *, previous: bool = False, console: Console | None = None) -> Found | None:
    """Make the present state of a stopped search its result. The checkpoint stays as it is.

    If the method trains alphas, the result is what they select now. Decisions that the method
    would take after its last epoch are left out. If the method trains no alphas, these decisions
    are the only result, so they are taken now.

    Args:
        path: The run folder.
        previous: The result is taken from the checkpoint before the last, which becomes the last.
        console: The console for progress and messages.

    Returns:
        The genotype and the state, or None if the run has a result already.

    Raises:
        ValueError: There is no run, no checkpoint, or nothing to decide among.
    """
    console = console or terminal.console(soft_wrap=True)
    folder, say = RunFolder(path), say_on(console)
    folder.read_settings()
    if folder.genotype.exists():
        return None
    if not previous and not folder.checkpoint.exists():
        raise ValueError(
            f"the search in {path} has no checkpoint yet, so there is nothing to finish: "
            f"go on with `{command('resume', path)}`"
        )
    with folder.lock(), progress.signs_of_life(console) as alive:
        if folder.genotype.exists():  # another process finished it in the meantime
            return None
        prepared, state = preparing.prepare_recorded(folder, say, previous=previous)
        if previous:
            checkpoint.restore_previous(folder.checkpoint)
        method, epochs = prepared.method, state.plan.epochs
        trains_alphas = method.alpha_from(epochs) < epochs
        if not trains_alphas and not state.decisions:
            alive.set_place("deciding")
            _decide(prepared, state, say)
            if not state.decisions:
                raise ValueError(
                    f"{method.name} has nothing to choose among yet in {path}: "
                    f"go on with `{command('resume', path)}`"
                )
        elif method.patch.finalise and trains_alphas:
            taken = (
                f"its first {len(state.decisions)} decisions"
                if state.decisions
                else "the present selection of its alphas"
            )
            say(f"{method.name} decides after its last epoch, so the result here is {taken}")
        mark_as_ended(state)
        alive.set_place("cost and accuracy of what was seen")
        found = Found(method.genotype(state), state)
        results.write(
            prepared,
            folder,
            found,
            results.front_json(prepared, folder, found),
            progress_json(state),
        )
    return found


def _decide(prepared: preparing.Prepared, state: State, say: Say) -> None:
    """Take the decisions of a method that trains no alphas, and print each one."""
    say(f"{prepared.method.name} trains no alphas, so it decides now")
    for decision in prepared.method.finalise(state, prepared.data):
        notes = [
            f"{name} {value}"
            for name, value in decision.note.items()
            if isinstance(value, str | int | float)
        ]
        say(f"decided {len(state.decisions)}: {', '.join(notes)}")


def progress_json(state: State) -> dict[str, Any]:
    """Return the place of a search: its whole epochs, ``of`` how many, and steps of the next."""
    return {
        "epochs": min(state.epoch, state.plan.epochs),
        "of": state.plan.epochs,
        "steps": state.step,
    }
