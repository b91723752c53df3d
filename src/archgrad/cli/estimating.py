"""The command ``archgrad estimate``."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.filesize import decimal

from archgrad import terminal
from archgrad.cli import training
from archgrad.cli.flags import AsJson, given_flags
from archgrad.cli.searching import Flags
from archgrad.errors import counted
from archgrad.run import config, preparing_training
from archgrad.run.checking import check_search
from archgrad.searching.duration import duration_text

NOTHING = Flags()
TRYING = "running a few steps"


def estimate(
    what: str | None = None,
    *,
    config_file: Annotated[
        Path | None,
        Parameter(
            name="--config",
            help="YAML file with the sections of these options; flags override the file",
        ),
    ] = None,
    as_json: AsJson = False,
    given: Annotated[Flags, Parameter(name="*")] = NOTHING,
) -> None:
    """Estimate the time and memory of a search or a retraining before it begins.

    A few steps run in a separate process, and only the cache of images is written. The flags are
    those of `archgrad search`, or with WHAT those of `archgrad retrain`. If the memory does not
    suffice, the command prints which settings would fit.

    Example: `archgrad estimate --method cdarts --data digits`

    Args:
        what: run folder, genotype or file to retrain, as for `archgrad retrain`; without it the
            command estimates a search
    """
    here = given_flags(given)
    sources = [*([config.read_yaml(config_file)] if config_file else []), ("", here)]
    if what is None:
        settings = config.read(*sources)
        check_search(settings, writes=False)
        from archgrad.run import preparing  # takes torch

        preparing.check_depths(settings)
        preparing.build(settings)
    else:
        known = {
            field.name: getattr(training.NOTHING, field.name) for field in fields(training.Flags)
        }
        for section, values in here.items():
            for name in values if isinstance(values, dict) else [None]:
                if section not in known or (name and not hasattr(known[section], name)):
                    flag = f"--{section}{f'.{name}' if name else ''}".replace("_", "-")
                    raise ValueError(
                        f"{flag} is a setting of a search, but {what} is to be retrained: "
                        "leave out one of them"
                    )
        preparing_training.read_subject_and_settings(what, sources)
    from archgrad.run import estimating
    from archgrad.searching import progress

    waiting = terminal.console(stderr=True)  # programs read the answer from stdout
    with progress.signs_of_life(waiting, TRYING), waiting.status(TRYING):
        found = estimating.estimate_in_process(what, sources)
    if as_json:
        terminal.print_output(json.dumps(found))
    else:
        for line in lines(found):
            terminal.console(soft_wrap=True).print(line, markup=False)


def lines(found: dict[str, Any]) -> list[str]:
    """Return the lines that tell a user the result of `estimate_in_process`."""
    parts = ", ".join(
        f"{name} {duration_text(seconds)}"
        for name, seconds in found["parts"].items()
        if seconds >= 0.005 * found["seconds"]
    )
    unknown = f"; unknown: {', '.join(found['not_known'])}" if found["not_known"] else ""
    kind = "search" if found["what"] == "search" else "retraining"
    told = [
        f"time: about {duration_text(found['seconds'])} for the {kind} "
        f"of {counted(found['epochs'], 'epoch')}, "
        "besides its start (imports and reading the images); "
        f"the steps of one epoch take {duration_text(found['seconds_an_epoch'])}",
        f"parts: {parts}{unknown}",
    ]
    room = f"; {decimal(found['room_bytes'])} are available" if found["room_bytes"] else ""
    where = "of the GPU" if found["device"].startswith("cuda") else "of the process"
    partly = (
        ""
        if found["ran_whole_batches"]
        else " (extrapolated from smaller batches, because a whole batch was not tried)"
    )
    told.append(f"peak memory {where}: {decimal(found['peak_bytes'])}{partly}{room}")
    if not found["fits"]:
        some = [
            f"{flag} {value}" + ("" if "batch" in flag else " (about)")
            for flag, value in found["would_fit"].items()
        ]
        told.append(
            f"that does not fit; any of these would: {', '.join(some)}"
            if some
            else f"that does not fit: {decimal(found['base_bytes'])} are used before the first step"
        )
    return told
