"""The command ``archgrad latency``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Column, Table

from archgrad import terminal
from archgrad.arch.space import Space
from archgrad.cli.flags import AsJson, overwriting
from archgrad.data import places
from archgrad.errors import unknown_name
from archgrad.run import budgets, catalogue, config
from archgrad.run.subject import check_size
from archgrad.searching.progress import progress_bar

if TYPE_CHECKING:
    from archgrad.latency import Profile

SHOWN = 8


def latency(
    *,
    space: Annotated[
        str | None,
        Parameter(
            help="name of the space, as `archgrad spaces` lists it, or package.module:Name of a "
            "module of your own"
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        Parameter(
            name="--config", help="YAML file of a search, whose space and retrain sections are used"
        ),
    ] = None,
    size: Annotated[int, Parameter(help="side of the images in pixels")] = 32,
    channels: Annotated[
        int | None,
        Parameter(
            help="number of channels of the first cell of the derived networks; by default the "
            "published number"
        ),
    ] = None,
    cells: Annotated[
        int | None,
        Parameter(help="number of cells of the derived networks; by default the published number"),
    ] = None,
    classes: Annotated[int | None, Parameter(help="number of classes; by default 10")] = None,
    in_channels: Annotated[
        int | None, Parameter(help="number of channels of an image; by default 3")
    ] = None,
    batch: Annotated[int, Parameter(help="batch size of the measurement")] = 1,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Parameter(help="device to measure on")
    ] = "cpu",
    threads: Annotated[int, Parameter(help="number of CPU threads during the measurement")] = 1,
    nets: Annotated[
        int,
        Parameter(
            help="number of complete derived networks that calibrate the sum of the op "
            "latencies, at least 10"
        ),
    ] = 12,
    out: Annotated[
        Path | None,
        Parameter(help="file for the result; by default the one that --budget latency reads"),
    ] = None,
    overwrite: Annotated[bool, overwriting("--out")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how long the derived networks of a space take on this device.

    Each op is measured alone, and the sum of the ops is calibrated on whole networks. The result
    is valid only for this device, number of threads, version of torch, and size of networks, images
    and batch. No other program should run during the measurement.

    Example: `archgrad latency --space mbconv --size 32`
    """
    check_size(size)
    if space is None and config_file is None:
        raise ValueError(
            "which networks? add --space NAME, or --config FILE with the settings of a search"
        )
    if space and config_file:
        raise ValueError(f"{config_file} already names a space: leave out --space or --config")
    if out:
        places.check_new(out, "--out", overwrite=overwrite)
    settings = (
        config.read(config.read_yaml(config_file))
        if config_file
        else config.read(("", {"space": {"name": space}}))
    )
    named = settings.space["name"]
    catalogue.check_space(
        named, {name: value for name, value in settings.space.items() if name != "name"}
    )
    options: dict[str, Any] = {
        "channels": channels,
        "cells": cells,
        "classes": classes,
        "in_channels": in_channels,
    }
    spec = catalogue.spaces()[named].options
    for name, value in options.items():
        if value is not None and name not in spec:
            raise unknown_name(f"option of space {named!r}", name, spec)
    from archgrad import latency as latencies
    from archgrad.data import stem_for
    from archgrad.devices import device_named
    from archgrad.run import preparing  # takes torch

    made = preparing.space_from(settings)
    options |= {"stem": stem_for(size, catalogue.spaces()[named].stems)} if "stem" in spec else {}
    usual = budgets.retrainable_costs(settings, made, size).network_options() if config_file else {}
    options = usual | {name: value for name, value in options.items() if value is not None}
    wanted = latencies.setting(
        made, size, batch=batch, device=device_named(device), threads=threads, **options
    )
    path = out or latencies.default_file(wanted)
    console = terminal.console(soft_wrap=True, stderr=as_json)
    with progress_bar(console) as progress:
        tasks = {kind: progress.add_task(kind, total=None) for kind in ("ops", "networks")}
        found = latencies.measure(
            made,
            wanted,
            nets=nets,
            tick=lambda kind, done, of: progress.update(tasks[kind], completed=done, total=of),
        )
    latencies.write(found, path)
    if as_json:
        terminal.print_output(json.dumps({"path": str(path), **found.to_json()}))
    else:
        show(found, made, console)
        console.print(f"written to {path}", markup=False)


def show(found: Profile, space: Space, console: Console) -> None:
    """Print the slowest ops, the measured networks, and how well the ops predict the networks."""
    where = asdict(found.setting)
    console.print(
        "{space}, {size}x{size} images, batch {batch}, threads {threads}, "
        "{device}: {hardware}".format(**where),
        markup=False,
    )
    cost = found.cost()
    slowest = sorted(
        ((ms, group, *place) for group, ops in cost.ops.items() for place, ms in ops.items()),
        reverse=True,
    )[:SHOWN]
    ops = Table("slowest ops", "edge", Column("ms", justify="right"))
    for ms, group, source, target, primitive in slowest:
        ops.add_row(primitive, f"{group} {source} -> {target}", f"{ms:.3f}")
    console.print(ops)
    nets = Table(
        Column("networks: predicted, ms", justify="right"), Column("measured, ms", justify="right")
    )
    for net in sorted(found.nets, key=lambda net: net.measured):
        nets.add_row(f"{found.base + found.scale * net.added:.2f}", f"{net.measured:.2f}")
    console.print(nets)
    console.print(
        f"predicted time of a network: {found.base:.3f} ms + {found.scale:.3f} x sum of its ops "
        f"(R2 {found.r2:.3f}, largest error {100 * found.worst:.1f} % "
        f"over {len(found.nets)} networks)",
        markup=False,
    )
