"""``archgrad show``, ``count``, ``query``, ``genotypes``, ``methods``, ``spaces``: they read and print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel
from rich.console import Console
from rich.table import Column, Table

from archgrad import benchmarks, costing, run
from archgrad.cli.subject import Subject, otherwise, subject
from archgrad.errors import unknown
from archgrad.methods import METHODS
from archgrad.published import published
from archgrad.spaces import SPACES
from archgrad.spaces.cost import count as cost
from archgrad.spaces.derived import Derived
from archgrad.spaces.noise import said

Space = Annotated[str | None, Parameter(help="of a genotype; by default the one its cells belong to")]
Channels = Annotated[int | None, Parameter(help="of the derived network's first cell")]
Cells = Annotated[int | None, Parameter(help="depth of the derived network (NAS-Bench-201: cells per stage)")]
Classes = Annotated[int | None, Parameter(help="of the images; 10, or those of the run")]
Size = Annotated[int | None, Parameter(help="side of the images in pixels; 32, or that of the run")]
AsJson = Annotated[bool, Parameter(name="--json", help="one JSON object on one line", negative="", show_default=False)]


def show(
    what: str, *, space: Space = None, channels: Channels = None, cells: Cells = None, classes: Classes = None, size: Size = None,
    svg: Annotated[Path | None, Parameter(help="where to write the picture; a run has its own")] = None,
) -> None:  # fmt: skip
    """A genotype as table and picture; its parameters and multiply-adds; what a benchmark knows of it.

    Parameters
    ----------
    what: str
        A run folder, a published architecture's name, a genotype in any notation, or a file that holds one.
    """
    from archgrad.cli.verdict import show_verdict
    from archgrad.report import cell_table, save_svg

    found = subject(what, space)
    network, side = _derived(found, size, channels=channels, cells=cells, classes=classes), size or found.size
    costs, spec = cost(network, side, network.space.in_channels), network.space.spec()
    console = Console(highlight=False, soft_wrap=True)
    say = run.say_on(console)
    for why in found.run.ended() if found.run else ():
        say(why)
    console.print(cell_table(found.genotype))
    say(f"genotype: {found.genotype}")
    depth = f"{spec['cells']} cells, " if "cells" in spec else ""
    shape = f"{spec['channels']} channels, {depth}{side}x{side} images, {spec['classes']} classes"
    say(f"derived network ({shape}): {costs['params']:,} parameters, {costs['macs']:,} multiply-adds")
    if random := said(found.genotype):
        say(random)
    if note := otherwise(found, spec["channels"], spec.get("cells"), side):
        say(note)
    for line in costing.sentences(found.within):
        say(line)
    picture = svg if svg or found.folder is None else found.folder.cells
    if picture and (svg or not picture.exists()):
        save_svg(found.genotype, picture)
    say(f"picture: {picture}" if picture else "picture: add --svg FILE")
    for line in found.judged():
        say(line)
    show_verdict(console, found.space, found.genotype, found.within, found.run)


def count(
    what: str, *, space: Space = None, channels: Channels = None, cells: Cells = None, classes: Classes = None, size: Size = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Parameters, and multiply-adds for one image, of a derived network without auxiliary head.

    Parameters
    ----------
    what: str
        A run folder, a published architecture's name, a genotype in any notation, or a file that holds one.
    """
    found = subject(what, space)
    network = _derived(found, size, channels=channels, cells=cells, classes=classes)
    costs = cost(network, size or found.size, network.space.in_channels)
    print(json.dumps(costs) if as_json else f"{costs['params']:,} parameters, {costs['macs']:,} multiply-adds")


def query(
    benchmark: str, what: str, *, device: Annotated[str | None, Parameter(help="its latency there, too: one of nasbench201's 27")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """What a bundled benchmark measured of an architecture: accuracies in percent, rank, parameters, multiply-adds.

    Parameters
    ----------
    benchmark: str
        nasbench201 or nasbenchmacro
    what: str
        A genotype such as 02012100, or
        |nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|, a file that holds one, or a run folder.
    """
    table = benchmarks.lookup(benchmark)
    if table is None:
        raise unknown("benchmark", benchmark, benchmarks.BY_SPACE)
    asked = subject(what, benchmark)
    found, within = table.query(asked.genotype), asked.within
    if device is not None:
        latencies = benchmarks.latencies(benchmark)
        if latencies is None:
            raise ValueError(f"--device: no latencies of {benchmark} are bundled; there are those of {', '.join(benchmarks.LATENCIES)}")
        found[f"{device}_ms"] = latencies.latency(device, asked.genotype)  # None where the device's number was dropped
    if as_json:
        print(json.dumps(found | ({"budget": list(within)} if within else {})))
        return
    for name, value in found.items():
        print(f"{name:24} {value}")
    for line in costing.sentences(within):
        print(line)


def genotypes(containing: str = "") -> None:
    """The published architectures that are known by name, with what their repository states of them.

    Parameters
    ----------
    containing: str
        Only those whose repository:name contains this.
    """
    table = Table(Column("repository:name", no_wrap=True), "parameters, M", "CIFAR-10 test error, %")
    for one in published():
        if containing.lower() in one.qualified.lower():
            numbers = ("" if value is None else f"{value:g}" for value in (one.params_M, one.cifar10_test_error))
            table.add_row(one.qualified, *numbers)
    if not table.row_count:
        raise ValueError(f"no published architecture's name contains {containing!r}; archgrad genotypes lists all")
    Console(highlight=False).print(table)


def methods(
    *,
    pairs: Annotated[bool, Parameter(help="which of them compose, and what keeps others apart", negative="", show_default=False)] = False,
    space: Annotated[str, Parameter(help="whose defaults count, for --pairs")] = "darts",
) -> None:
    """The search methods, each with its options and paper. Several compose: --method a+b."""
    if pairs:
        return _pairs(space)
    _table("method", {name: (entry.summary, entry.paper, _options(entry.model())) for name, entry in METHODS.items()})


def spaces() -> None:
    """The search spaces, each with its options and paper."""
    rows = {}
    for name, entry in SPACES.items():
        space = entry.build()
        cells = [f"{group.name}: {len(group.edges)} edges of {group.width} primitives at most" for group in space.groups.values()]
        rows[name] = ("\n".join(cells), entry.paper, ", ".join(space.spec()))
    _table("space", rows)


def _pairs(name: str) -> None:
    from archgrad.methods.pairs import pairs

    if name not in SPACES:
        raise unknown("space", name, SPACES)
    table = Table("", "", "how it is")
    for (one, other), found in pairs(SPACES[name].build()).items():
        says = "composes" if not found.both and not found.unread else ""
        says = says or (f"say which: {', '.join(found.both)}" if found.settled else f"refused: {found.mark}")
        table.add_row(one, other, says)
    Console().print(table)


def _derived(found: Subject, size: int | None, **given: int | None) -> Derived:
    return found.derive(size=size, **{name: value for name, value in given.items() if value is not None})


def _options(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _table(title: str, rows: Mapping[str, tuple[str, str, str]]) -> None:
    table = Table(title, "what it is", "paper", "options", show_lines=True)
    for name, (summary, paper, given) in rows.items():
        table.add_row(name, summary, paper, given)
    Console(highlight=False).print(table)
