"""The pages hold: Python blocks run, commands parse, shown answers are the answers, links lead somewhere, every public name is there."""

from __future__ import annotations

import ast
import pkgutil
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

import archgrad
from archgrad import run
from archgrad.cli import app, main, spelled
from archgrad.compare import study
from archgrad.methods import METHODS
from archgrad.run import config
from archgrad.spaces import SPACES
from archgrad.spaces.primitives import PRIMITIVES

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import demo
import study_pages

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in (*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/**/*.md")))
}


STUDY_PAGES = sorted(page for page in PAGES if page.startswith("docs/studies/"))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


def written(language: str) -> list[str]:
    """Pages with such a block."""
    return [page for page in PAGES if blocks(page, language)]


def commands() -> list[str]:
    """Every line of a shell block that begins with ``archgrad``, and every inline one that is more than a name."""
    lines = [
        line
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if line.startswith("archgrad ")
    ]
    prose = "\n".join(
        re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL) for text in PAGES.values()
    )
    return list(dict.fromkeys(lines + re.findall(r"`(archgrad [^`]+)`", prose)))


def answers() -> list[tuple[str, str]]:
    """(command, what the page says it prints)"""
    shown = [
        part
        for page in PAGES
        for block in blocks(page, "console")
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)
        if part
    ]
    return [(line, output) for line, _, output in (part.partition("\n") for part in shown)]


@pytest.mark.parametrize("page", written("python"))
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page are one script."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(page, "python"))
    with patch.dict(METHODS), patch.dict(SPACES), patch.dict(PRIMITIVES):
        exec(compile(code, page, "exec", dont_inherit=True), {"__name__": page})


@pytest.mark.parametrize("page", written("python"))
def test_python_imports_names_of_faces(page):
    """A page imports from `archgrad`, a package or a file beside the packages, and no deeper."""
    parts = {one.name for one in pkgutil.iter_modules(archgrad.__path__)}
    for node in ast.walk(ast.parse("\n".join(blocks(page, "python")))):
        if isinstance(node, ast.Import):
            assert not [one.name for one in node.names if one.name.startswith("archgrad.")]
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "archgrad":
            assert node.module.count(".") <= 1, f"line {node.lineno}: import from the package"
            face = import_module(node.module)
            known = {*getattr(face, "__all__", dir(face))} | (parts if face is archgrad else set())
            assert {one.name for one in node.names} <= known, node.module


@pytest.mark.parametrize("page", written("yaml"))
def test_settings_are_settings(page):
    for block in blocks(page, "yaml"):
        given = yaml.safe_load(block)
        if "arms" in given:
            study.read((page, given))
        else:
            run.build(config.read((page, given)))


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line, monkeypatch, capsys):
    """A search is checked as `--dry-run` checks it, names and ranges included; of the others the flags."""
    monkeypatch.chdir(ROOT)
    program, *tokens = shlex.split(re.sub(r" [>|] .*", "", line), comments=True)
    assert program == "archgrad"
    _, _, unused, *_ = app.parse_known_args(spelled(tokens))
    assert not unused
    if tokens[0] == "search" and "runs/a/config.yaml" not in tokens:
        dry = [] if "--dry-run" in tokens else ["--dry-run"]
        assert main([*tokens, *dry]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("line", "output"), answers())
def test_answers_are_the_answers(line, output, capsys):
    assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out.strip() == output.strip()


def test_every_command_is_shown():
    assert all(
        any(line.split()[1] == name for line in commands())
        for name in app
        if not name.startswith("-")
    )


@pytest.mark.parametrize("name", sorted(set(archgrad.__all__) - {"__version__"}))
def test_every_public_name_is_in_the_docs(name):
    assert re.search(rf"`(archgrad\.)?{name}`", PAGES["docs/python.md"])


@pytest.mark.parametrize(
    ("page", "name"),
    [*(("methods", name) for name in METHODS), *(("spaces", name) for name in SPACES)],
)
def test_every_method_and_space_has_its_place(page, name):
    assert re.search(rf"^\| .*`{name}`", PAGES[f"docs/{page}.md"], re.MULTILINE)


def page_of(name: str) -> str:
    """What a method's own page says of it, or its section of the baselines."""
    section = re.search(
        rf"^## {name}\n(.*?)(?=^## |\Z)",
        PAGES.get("docs/baselines.md", ""),
        re.MULTILINE | re.DOTALL,
    )
    return PAGES.get(f"docs/{name}.md") or (section.group(1) if section else "")


def test_every_option_of_a_method_is_in_the_docs():
    from archgrad import options

    for name, entry in METHODS.items():
        own = PAGES["docs/methods.md"] + page_of(name)
        flags = [
            f"| `--{name}.{option}`".replace("_", "-")
            for option in options.model(entry.patch).model_fields
        ]
        assert [flag for flag in flags if flag not in own] == []


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if entry.presets])
def test_defaults_by_space_are_as_shown(name):
    """The table `by the space` of a method's page: a row an option, a column a space, or a further preset with what it sets alone."""
    from archgrad import options

    table = re.search(r"^\| by the space \|(?:.+\n)+", page_of(name), re.MULTILINE).group()
    (_, *spaces), _, *rows = (
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines()
    )
    usual = {
        option: field.default
        for option, field in options.model(METHODS[name].patch).model_fields.items()
    }
    assert set(METHODS[name].presets) <= set(spaces)
    assert {row[0] for row in rows} == {
        option for preset in METHODS[name].presets.values() for option in preset
    }
    for option, *shown in rows:
        of_spaces = {
            space: METHODS[name].resolved_options(space, {}).get(option, usual[option])
            for space in spaces
            if space in SPACES
        }
        values = [
            of_spaces[one] if one in SPACES else METHODS[name].presets[one].get(option, "")
            for one in spaces
        ]
        assert shown == [
            f"{value:.3g}" if isinstance(value, float) else str(value) for value in values
        ]


BENCHMARKS = [
    line
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.splitlines()
    if line.startswith("python benchmarks/")
]


@pytest.mark.parametrize("line", BENCHMARKS)
def test_benchmarks_have_the_flags_that_are_shown(line):
    script, *tokens = shlex.split(line, comments=True)[1:]
    known = (ROOT / script).read_text("utf-8")
    assert all(f'"{token}"' in known for token in tokens if token.startswith("--"))


@pytest.mark.parametrize("page", STUDY_PAGES)
def test_a_study_page_begins_with_three_answers(page):
    """Below its title stand the question, the answer and how sure the answer is."""
    first = [line for line in PAGES[page].splitlines() if line][1:4]
    assert [line.split(":**")[0] for line in first] == ["- **Asked", "- **Found", "- **How sure"]


@pytest.mark.parametrize(
    "page", [page for page in STUDY_PAGES if study_pages.HEADING in PAGES[page]]
)
def test_the_tables_of_a_study_follow_from_its_summaries(page):
    assert study_pages.renewed(ROOT / page) == PAGES[page], (
        "python benchmarks/study_pages.py writes the tables anew"
    )


def test_the_table_of_the_demo_follows_from_its_record():
    assert demo.recorded() in PAGES["docs/studies/demo.md"], (
        "python benchmarks/demo.py --recorded prints the table"
    )


def test_every_recorded_study_has_its_page():
    recorded = {path.parent.name for path in (ROOT / "benchmarks" / "studies").glob("*/study.yaml")}
    assert recorded == {
        Path(page).stem for page in STUDY_PAGES if study_pages.HEADING in PAGES[page]
    }


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_left_to_be_filled_in(page):
    assert not re.search(r"\b(TODO|TBD|XXX|[A-Z]{2}(ROWS|MEANS|SAYS))\b|<!--", PAGES[page])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_anchors_are_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([\w-]+)\)", PAGES[page]):
        there = (ROOT / page).parent.joinpath(target) if target else ROOT / page
        titles = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE)
        assert anchor in [
            re.sub(r"[^\w\s-]", "", title.casefold()).replace(" ", "-") for title in titles
        ], f"{there}#{anchor}"


def test_errors_are_quoted_as_they_are():
    """Of each message in the tables, the fixed parts stand in the source."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    source = re.sub(r'"\n\s*f?"', "", source)  # a message may be written in several parts
    rows = re.findall(r"^\| `([^`]+)` \|", PAGES["docs/messages.md"], re.MULTILINE)
    assert len(rows) > 40
    for row in rows:
        for part in row.split("…"):
            assert part.strip(" .:()") in source, f"{row}: {part}"
