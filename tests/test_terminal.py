"""Names from users are text everywhere: on a terminal, in a spreadsheet, in a picture."""

from __future__ import annotations

import ast
import csv
import io
import os
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.table import Table
from rich.text import Text

from archgrad import data, terminal
from archgrad.arch.genotype import Genotype
from archgrad.cli import main
from archgrad.compare.tidy import tidy_csv
from archgrad.errors import LONGEST, command, error_line
from archgrad.report import cells_svg
from archgrad.retraining.predicting import Prediction, Predictions, show, to_csv
from archgrad.terminal import say_on
from image_sets import folder

SOURCE = Path(terminal.__file__).parent
CLEAR = "a\x1b[2Jb"
FORMULA = '=HYPERLINK("http://example.org")'


def test_control_characters_are_written_as_escapes():
    assert (
        terminal.escape_controls("a\x1b[2J \x9b \u202e \r \x00") == r"a\x1b[2J \x9b \u202e \r \x00"
    )
    assert terminal.escape_controls("caf\udce9") == r"caf\udce9"  # a byte that is no UTF-8
    assert terminal.escape_controls("café 猫\tb\nc\r\n") == "café 猫\tb\nc\r\n"


def test_a_console_shows_them_in_lines_and_tables():
    text = io.StringIO()
    console = terminal.console(file=text, force_terminal=True, width=60)
    say_on(console)(CLEAR)
    table = Table("name")
    table.add_row(Text(CLEAR))
    console.print(table)
    console.print("[bold]ours[/]")
    shown = text.getvalue()
    assert shown.count(r"a\x1b[2Jb") == 2 and "\x1b[2J" not in shown
    assert "\x1b[1mours" in shown  # styles of our own stay


def test_everything_is_printed_by_the_terminal():
    """No other file makes a console or prints, except where nothing of a user's is in the text."""
    harmless = {
        "__main__.py",
        "interrupts.py",
        "estimating.py",
        "tabulate.py",
    }  # an error of ours, a constant, JSON of a child process, a tool that writes our own table
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if path.name not in {"terminal.py", *harmless}
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Console")
    ]
    assert not found


def test_class_names_of_a_folder_do_not_reach_the_terminal_raw(tmp_path):
    (folder(tmp_path / "set") / "a").rename(tmp_path / "set" / CLEAR)
    text = io.StringIO()
    data.load(
        tmp_path / "set",
        cache=tmp_path / "cache",
        report=say_on(terminal.console(file=text, force_terminal=True, width=200)),
    )
    assert "\x1b[2J" not in text.getvalue()
    row = Prediction(CLEAR, CLEAR, 0.5, ((CLEAR, 0.5),))
    show(Predictions([row], [CLEAR]), terminal.console(file=text, force_terminal=True, width=200))
    assert "\x1b[2J" not in text.getvalue() and r"\x1b[2J" in text.getvalue()


def test_a_command_in_a_complaint_can_be_typed(tmp_path, capsys):
    folder = tmp_path / "my runs" / ("a" * 200) / ("b $c" * 25)
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    assert main(["search", "--data", "digits", "--space", "nasbench201", "--out", str(folder)]) == 2
    quoted = re.search("`(.+)`", capsys.readouterr().err)[1]
    assert shlex.split(quoted) == ["archgrad", "resume", str(folder)] and quoted == command(
        "resume", folder
    )
    assert len(error_line("x" * 400)) == LONGEST


def test_errors_do_not_reach_the_terminal_raw(capsys):
    for typed in (
        ["show", CLEAR],
        ["search", "--data", CLEAR],
        ["search", CLEAR],
        [CLEAR],
        ["count", "DARTS_V2", "--space", CLEAR],
    ):
        assert main(typed) == 2
        assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [FORMULA, "+1", "-1", "@x", "\tx"])
def test_a_spreadsheet_computes_no_name(name):
    found = Predictions([Prediction(name, name, 0.25, ((name, 0.25),))], [])
    assert list(csv.reader(io.StringIO(to_csv(found))))[1] == [f"'{name}", f"'{name}", "0.250000"]
    assert list(csv.reader(io.StringIO(to_csv(found, raw=True))))[1] == [name, name, "0.250000"]
    assert terminal.cell("cat") == "cat"


def test_numbers_are_no_formulas():
    text = tidy_csv([], "darts", {FORMULA: {1: "it broke"}})
    assert text.splitlines()[1] == "\"'" + FORMULA.replace('"', '""') + '",1,failed,1'


@pytest.mark.usefixtures("drawn")
def test_a_picture_escapes_what_is_no_text_of_xml():
    genotype = Genotype.parse('{"cell": {"links": [[0, 1, "<script>&--x"]], "concat": [1]}}')
    assert [
        one
        for one in ElementTree.fromstring(cells_svg(genotype)).iter()
        if "script" in str(one.tag)
    ] == []


def test_nothing_is_overwritten_unless_it_is_asked_for(tmp_path, capsys):
    theirs = tmp_path / "theirs.svg"
    theirs.write_text("a picture of mine")
    assert main(["show", "DARTS_V2", "--svg", str(theirs)]) == 2
    assert (
        f"{theirs} is there already: choose another --svg, or add --overwrite"
        in capsys.readouterr().err
    )
    assert theirs.read_text() == "a picture of mine"
    assert main(["show", "DARTS_V2", "--svg", str(theirs), "--overwrite"]) == 0
    assert theirs.read_text().startswith("<?xml")
    assert main(["latency", "--space", "nasbench201", "--out", str(theirs)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert main(["show", "DARTS_V2", "--svg", str(tmp_path)]) == 2
    assert "is a folder: name a file by --svg" in capsys.readouterr().err
    os.mkfifo(pipe := tmp_path / "pipe")
    assert main(["show", "DARTS_V2", "--svg", str(pipe), "--overwrite"]) == 2 and pipe.is_fifo()
    assert f"{pipe} is no plain file: name another one by --svg" in capsys.readouterr().err
    assert main(["show", "DARTS_V2", "--svg", str(tmp_path / "nowhere" / "x.svg")]) == 2
    assert "there is no folder" in capsys.readouterr().err
