"""Tables and pictures say what the genotype says, without overlaps, in the same bytes each time."""

import math
import re
import subprocess
import sys
from itertools import combinations
from xml.etree import ElementTree

import pytest
from rich.console import Console

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.picture_layout import inputs_of, placement
from archgrad.arch.published import published
from archgrad.arch.style import colour, label
from archgrad.report import cell_table, cells_svg, curves_svg, save_svg, verdict_table
from archgrad.tabular import nasbench201

NB201 = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
pytestmark = pytest.mark.usefixtures("drawn")
CELLS = [
    *Genotype.parse(NB201).cells,
    *{cell: None for entry in published() for cell in entry.cells},
]


def text(table, width=80):
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def crossings(cell):
    return sum(
        a.link.source < b.link.source < a.link.target < b.link.target
        for one, other in combinations(placement(cell).routes, 2)
        for a, b in ((one, other), (other, one))
        if a.side == b.side
    )


def test_every_published_cell_is_laid_out_without_overlaps():
    for cell in CELLS:
        routes = placement(cell).routes
        assert sorted(route.link for route in routes) == sorted(cell.links)
        for a, b in combinations(routes, 2):
            if a.side == b.side and a.lane == b.lane:
                assert a.link.target <= b.link.source or b.link.target <= a.link.source
        for route in routes:
            assert -1 < route.leave < 1 and -1 < route.enter < 1
            assert route.link.source < route.middle < route.link.target
            for other in routes:  # no line of an outer lane comes down through a label
                if other.side == route.side and other.lane > route.lane:
                    assert route.middle not in (other.link.source, other.link.target)


def test_lines_that_meet_at_a_node_have_ports_of_their_own():
    for cell in CELLS:
        ports = [
            port
            for route in placement(cell).routes
            for port in (
                ("source", route.link.source, route.side, route.leave),
                ("target", route.link.target, route.side, route.enter),
            )
        ]
        places = [(node, side, round(offset, 6)) for _, node, side, offset in ports]
        assert len(set(places)) == len(places)


def test_the_inputs_of_a_node_come_from_both_sides():
    for cell in CELLS:
        routes = placement(cell).routes
        for node in {link.target for link in cell.links}:
            sides = [route.side for route in routes if route.link.target == node]
            assert abs(sum(sides)) <= 1


def test_links_are_drawn_on_the_sides_with_the_fewest_crossings():
    normal, reduce = Genotype.parse("PCDARTS").cells
    assert crossings(normal) == 0
    assert crossings(reduce) == 1
    assert crossings(Genotype.parse(NB201).cells[0]) == 0


def test_inputs_and_output_of_a_cell():
    normal, nb201 = Genotype.parse("DARTS_V2").cells[0], Genotype.parse(NB201).cells[0]
    assert (inputs_of(normal), inputs_of(nb201)) == (2, 1)
    assert placement(normal).nodes == 6 and placement(normal).concatenates
    assert placement(nb201).nodes == 4 and not placement(nb201).concatenates
    assert inputs_of(CellGenotype("layer 3", (Link(0, 1, "mb_k3_e6"),), (1,))) == 1
    assert (
        placement(CellGenotype("normal", (), (2, 3))).nodes == 4
    )  # FairDARTS may leave nodes without inputs


def test_a_wide_cell_is_laid_out_too():
    links = tuple(Link(s, t, "skip_connect") for t in range(1, 16) for s in (t // 2, t - 1))
    assert len(placement(CellGenotype("cell", links, (15,))).routes) == 30


@pytest.mark.parametrize("name", ["DARTS_V2", "FairDARTS_a", "DCO_EDGE_BS_64", "AmoebaNet", NB201])
def test_pictures_are_svg_in_the_same_bytes(name, tmp_path):
    genotype = Genotype.parse(name)
    svg = cells_svg(genotype)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "<dc:date>" not in svg
    assert {colour(link.primitive) for cell in genotype.cells for link in cell.links} <= set(
        re.findall(r"#[0-9a-f]{6}", svg)
    )
    cells_svg(Genotype.parse("PDARTS"))
    save_svg(genotype, tmp_path / "cells.svg")
    assert (tmp_path / "cells.svg").read_text(encoding="utf-8") == svg


def test_another_process_draws_the_same_bytes_and_nothing_is_imported_before():
    code = (
        "import sys; from archgrad.report import cells_svg; from archgrad.arch import Genotype; assert 'matplotlib' not in sys.modules\n"
        "sys.stdout.write(cells_svg(Genotype.parse('DARTS_V1'))); assert 'matplotlib.pyplot' not in sys.modules"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert other.stdout == cells_svg(Genotype.parse("DARTS_V1"))


def test_labels_and_colours():
    assert label("sep_conv_3x3") == "sep conv 3×3"
    assert label("conv_7x1_1x7") == "conv 7×1 1×7"
    assert label("max_pool_3x3") == "max pool 3×3"
    assert colour("sep_conv_3x3") == colour("sep_conv_5x5") != colour("dil_conv_3x3")
    assert re.fullmatch(r"#[0-9a-f]{6}", colour("something of yours"))


def test_cell_table_has_a_line_per_link():
    lines = text(cell_table(Genotype.parse("FairDARTS_a"))).splitlines()
    rows = [
        [part.strip() for part in line.split("│")[1:-1]] for line in lines if line.startswith("│")
    ]
    assert rows[:6] == [
        ["normal", "2", "0", "sep_conv_3x3"],
        ["", "", "1", "sep_conv_5x5"],
        ["", "3", "-", "no input: zero"],
        ["", "4", "0", "max_pool_3x3"],
        ["", "5", "0", "sep_conv_3x3"],
        ["", "out", "2, 3, 4, 5", "concat"],
    ]
    assert rows[6] == ["reduce", "2", "0", "max_pool_3x3"]
    assert len(rows) == 15


def test_verdict_table_fits_a_terminal():
    shown = text(verdict_table(nasbench201.verdict(nasbench201.conv3x3()), nasbench201.MEASURED))
    assert "…" not in shown
    for part in (
        "found",
        "all nor_conv_3x3",
        "93.76 %",
        "71.11 %",
        "41.44 %",
        "166 of 15,625",
        "0.61",
        "1,531,546",
        "220.1 M",
    ):
        assert part in shown


def test_curves_draw_what_the_rows_have(tmp_path):
    full = [
        {
            "epoch": e,
            "train_loss": 2 - e / 9,
            "val_loss": 2.0,
            "train_accuracy": 0.5,
            "val_accuracy": 0.4,
            "entropy": 1.9,
        }
        for e in range(9)
    ]
    sizes = {}
    for name, rows in {
        "full": full,
        "losses": [{"epoch": row["epoch"], "train_loss": row["train_loss"]} for row in full],
        "gaps": [
            *full[:3],
            {"epoch": 3, "train_loss": math.nan, "val_loss": None},
            {"seconds": 1.0},
            *full[4:],
        ],
        "one": full[:1],
    }.items():
        curves_svg(iter(rows), tmp_path / name)
        svg = (tmp_path / name).read_text(encoding="utf-8")
        sizes[name] = float(ElementTree.fromstring(svg).get("width").removesuffix("pt"))
        curves_svg(rows, tmp_path / "again")
        assert (tmp_path / "again").read_text(encoding="utf-8") == svg
    assert sizes["full"] == sizes["gaps"] == sizes["one"] == 3 * sizes["losses"]


@pytest.mark.parametrize("rows", [[], [{"epoch": 0, "seconds": 3.0}], [{"train_loss": 1.0}]])
def test_curves_of_nothing_are_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        curves_svg(rows, tmp_path / "c.svg")
    assert not (tmp_path / "c.svg").exists()
