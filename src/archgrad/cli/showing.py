"""The commands that read and print: ``archgrad show``, ``count`` and ``query``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from archgrad import tabular, terminal
from archgrad.cli.flags import AsJson, overwriting
from archgrad.data import places
from archgrad.errors import counted, unknown_name
from archgrad.run import budgets, catalogue
from archgrad.run.catalogue import Count
from archgrad.run.subject import Subject, check_size, other_shape_remark, subject
from archgrad.terminal import say_on

Space = Annotated[
    str | None,
    Parameter(help="space of a genotype, or package.module:Name; by default that of its cells"),
]
Channels = Annotated[
    int | None, Parameter(help="number of channels of the first cell of the derived network")
]
Cells = Annotated[
    int | None,
    Parameter(help="number of cells of the derived network, in NAS-Bench-201 of each stage"),
]
Classes = Annotated[
    int | None, Parameter(help="number of classes; by default that of the run, or 10")
]
Size = Annotated[
    int | None, Parameter(help="side of the images in pixels; by default that of the run, or 32")
]


def show(
    what: str,
    *,
    space: Space = None,
    channels: Channels = None,
    cells: Cells = None,
    classes: Classes = None,
    size: Size = None,
    svg: Annotated[
        Path | None,
        Parameter(help="path of the SVG picture; by default the picture file of the run folder"),
    ] = None,
    overwrite: Annotated[bool, overwriting("--svg")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a genotype as a table and a picture, with its parameters and multiply-adds.

    If a benchmark contains the architecture, its measured accuracies are shown too.

    Example: `archgrad show DARTS_V2 --svg cells.svg`

    Args:
        what: run folder, name of a published architecture, genotype in any notation, or its file
    """
    from archgrad.cli.after_search import show_verdict
    from archgrad.report import cell_table, noise_note, save_svg

    if svg:
        places.check_new(svg, "--svg", overwrite=overwrite)
    found = subject(what, space)
    built = _counted(
        found, usual=space is None, size=size, channels=channels, cells=cells, classes=classes
    )
    picture = svg if svg or found.folder is None else found.folder.cells
    if picture and (svg or not picture.exists()):
        save_svg(found.genotype, picture)
    if as_json:
        terminal.print_output(json.dumps(_facts(found, built, picture)))
        return
    console = terminal.console(soft_wrap=True)
    say = say_on(console)
    for why in found.run.early_end_lines() if found.run else ():
        say(why)
    console.print(cell_table(found.genotype))
    say(f"genotype: {found.genotype}")
    depth = "" if built.cells is None else f"{counted(built.cells, 'cell')}, "
    images = f"{built.size}x{built.size} images, {built.classes} classes"
    width = "" if built.channels is None else f"{built.channels} channels, "
    shape = f"{width}{depth}{images}"
    say(f"derived network ({shape}): {built.params:,} parameters, {built.macs:,} multiply-adds")
    if random := noise_note(found.genotype):
        say(random)
    if note := other_shape_remark(found, built.channels, built.cells, built.size):
        say(note)
    for line in budgets.result_lines(found.budget_results):
        say(line)
    say(f"picture: {picture}" if picture else "picture: add --svg FILE")
    for line in found.judgement_lines():
        say(line)
    if table := found.benchmark():
        show_verdict(console, table, found.genotype, found.budget_results, found.run)


def _facts(found: Subject, built: Count, picture: Path | None) -> dict[str, Any]:
    """Return the content of ``show --json``.

    The entry ``benchmark`` has the measurements of the genotype in the network of the benchmark.
    """
    table = found.benchmark()
    return {
        "genotype": found.genotype.to_json(),
        "text": str(found.genotype),
        "space": found.space_name,
        "derived": built._asdict(),
        "budget": [one.to_json() for one in found.budget_results],
        "ended": found.run.early_end_lines() if found.run else [],
        "searched": found.judgement_lines(),
        "benchmark": table.query(found.genotype) if table else None,
        "picture": str(picture) if picture else None,
    }


def count(
    what: str,
    *,
    space: Space = None,
    channels: Channels = None,
    cells: Cells = None,
    classes: Classes = None,
    size: Size = None,
    as_json: AsJson = False,
) -> None:
    """Count the parameters and multiply-adds of a derived network.

    The network has no auxiliary head, and the multiply-adds are those of one image.

    Example: `archgrad count DARTS_V2 --channels 36 --cells 20`

    Args:
        what: run folder, name of a published architecture, genotype in any notation, or its file
    """
    found = subject(what, space)
    built = _counted(
        found, usual=space is None, size=size, channels=channels, cells=cells, classes=classes
    )
    costs = {"params": built.params, "macs": built.macs}
    if as_json:
        terminal.print_output(json.dumps(costs))
    else:
        terminal.say(f"{built.params:,} parameters, {built.macs:,} multiply-adds")


def query(
    benchmark: str,
    what: str,
    *,
    device: Annotated[
        str | None,
        Parameter(help="name of the device whose latency is printed, one of 27 for nasbench201"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look up an architecture in a bundled benchmark.

    The result has accuracies in percent, the rank, the parameters and the multiply-adds.

    Example: `archgrad query nasbench201 runs/a`

    Args:
        benchmark: name of the benchmark: nasbench201 or nasbenchmacro
        what: genotype, file with one, or run folder; a genotype is written as 02012100 or
            |nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|
    """
    table = tabular.benchmark_of(benchmark)
    if table is None:
        raise unknown_name("benchmark", benchmark, tabular.BY_SPACE)
    asked = subject(what, benchmark)
    found, within = table.query(asked.genotype), asked.budget_results
    if device is not None:
        latencies = tabular.latency_table(benchmark)
        if latencies is None:
            raise ValueError(
                f"--device: no latencies of {benchmark} are bundled, only those of "
                f"{', '.join(tabular.LATENCIES)}"
            )
        # None for the few measurements that the benchmark discarded
        found[f"{device}_ms"] = latencies.latency(device, asked.genotype)
    if as_json:
        terminal.print_output(
            json.dumps(found | ({"budget": [one.to_json() for one in within]} if within else {}))
        )
        return
    for name, value in found.items():
        terminal.say(f"{name:24} {value}")
    for line in budgets.result_lines(within):
        terminal.say(line)


def _counted(found: Subject, *, usual: bool, size: int | None, **given: int | None) -> Count:
    """Return the costs of the network that the flags name.

    The costs of a published architecture at its published size are looked up, not counted.

    Raises:
        ValueError: A flag has an invalid value, or the space has no such option.
    """
    check_size(size or found.size)
    asked = {name: value for name, value in given.items() if value is not None}
    catalogue.spaces()[found.space_name].check(asked)
    known = catalogue.counted(found.genotype) if usual and found.run is None else None
    if known and all(
        getattr(known, name) == value
        for name, value in (asked | {"size": size or known.size}).items()
    ):
        return known
    return found.count(size=size, **asked)
