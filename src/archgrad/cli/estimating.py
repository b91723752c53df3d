"""``archgrad estimate``."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.filesize import decimal

from archgrad import terminal
from archgrad.cli import training
from archgrad.cli.flags import AsJson, said
from archgrad.cli.searching import Flags
from archgrad.errors import counted
from archgrad.run import config, preparing_training
from archgrad.run.checking import check_search
from archgrad.searching.duration import span

NOTHING = Flags()
TRYING = "trying a few steps"


def estimate(
    what: str | None = None,
    *,
    config_file: Annotated[
        Path | None,
        Parameter(name="--config", help="YAML with the same sections; flags win over it"),
    ] = None,
    as_json: AsJson = False,
    given: Annotated[Flags, Parameter(name="*")] = NOTHING,
) -> None:
    """Time and peak memory of a search, or of the retraining of WHAT, by a few steps in a process of its own.

    The flags are those of `archgrad search`; with WHAT they are those of `archgrad retrain`. Nothing is written but the cache of images. Where
    memory does not suffice, it says which settings would fit.

    Parameters
    ----------
    what: str
        A run folder, a genotype or a file, as `archgrad retrain` takes it. Leave it out for a search.
    """
    here = said(given)
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
                        f"{flag} is of a search, and {what} is to be retrained: leave out one of them"
                    )
        preparing_training.asked(what, sources)
    from archgrad.run import estimating
    from archgrad.searching import progress

    waiting = terminal.console(stderr=True)  # beside the answer, which programs read
    with progress.life(waiting, TRYING), waiting.status(TRYING):
        found = estimating.apart(what, sources)
    if as_json:
        terminal.say_exactly(json.dumps(found))
    else:
        for line in lines(found):
            terminal.console(soft_wrap=True).print(line, markup=False)


def lines(found: dict[str, Any]) -> list[str]:
    """What a dry run found, in words."""
    parts = ", ".join(
        f"{name} {span(seconds)}"
        for name, seconds in found["parts"].items()
        if seconds >= 0.005 * found["seconds"]
    )
    unknown = f"; not known: {', '.join(found['not_known'])}" if found["not_known"] else ""
    kind = "search" if found["what"] == "search" else "retraining"
    said = [
        f"time: about {span(found['seconds'])} for the {kind}, {span(found['seconds_an_epoch'])} for the steps of an epoch "
        f"({counted(found['epochs'], 'epoch')})",
        f"parts: {parts}{unknown}",
    ]
    room = (
        f" of {decimal(found['room_bytes'])} that this process may have"
        if found["room_bytes"]
        else ""
    )
    where = "of the GPU" if found["device"].startswith("cuda") else "of the process"
    partly = (
        ""
        if found["ran_whole_batches"]
        else " (expected from smaller batches: the whole one was not tried)"
    )
    said.append(f"peak memory {where}: {decimal(found['peak_bytes'])}{room}{partly}")
    if not found["fits"]:
        some = [
            f"{flag} {value}" + ("" if "batch" in flag else " (about)")
            for flag, value in found["would_fit"].items()
        ]
        base = f"not even the {decimal(found['base_bytes'])} before the first step leave room"
        said.append(
            f"that does not fit; any of these would: {', '.join(some)}"
            if some
            else f"that does not fit: {base}"
        )
    return said
