"""The help of the commands: the usual options, all options, and a meaning for each."""

from __future__ import annotations

import inspect
import re
import shlex

import pytest

from archgrad.cli import COMMANDS, app, main, spelled
from archgrad.cli.helping import ALL, USUAL, methods
from archgrad.run import catalogue, config, field_types
from archgrad.spaces import SPACES

SUMMARIES = {name: summary for name, _, _, summary in COMMANDS}
DANGLING = {
    "of",
    "as",
    "by",
    "for",
    "from",
    "with",
    "in",
    "on",
    "at",
    "to",
    "where",
    "whose",
    "which",
    "what",
    "how",
    "so",
    "it",
    "its",
    "and",
}
VERBS = {
    "divide",
    "give",
    "keep",
    "leave",
    "let",
    "never",
    "print",
    "put",
    "remove",
    "replace",
}
"""A help begins with a noun, also that of a switch."""


def options(command: str) -> dict[str, str]:
    """Flag -> its description, for all that a command takes."""
    arguments = app[command].assemble_argument_collection(parse_docstring=True)
    return {each.name: each.parameter.help or "" for each in arguments if each.parse and each.show}


def shown(text: str) -> list[str]:
    """The flags that a help lists, each once."""
    return re.findall(r"^│ (?:\*? *[A-Z_]* )?(--[\w.-]+)", text, re.MULTILINE)


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_flag_is_described(command):
    for flag, meaning in options(command).items():
        assert meaning, flag
        first = meaning.split()[0].strip(",:;").lower()
        assert first not in DANGLING | VERBS, f"{flag}: {meaning}"


@pytest.mark.parametrize("command", SUMMARIES)
def test_the_help_of_a_command_has_its_docstring_and_an_example(command, wide, capsys):
    doc = inspect.getdoc(app[command].default_command)
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert doc.splitlines()[0] == SUMMARIES[command]
    example = re.search(r"^Example: (archgrad .+)$", text, re.MULTILINE).group(1).strip()
    assert f"Example: `{example}`" in doc.splitlines()
    program, *tokens = shlex.split(example)
    assert (program, tokens[0]) == ("archgrad", command)
    _, _, unused, *_ = app.parse_known_args(spelled(tokens))
    assert not unused


def test_a_retraining_names_its_own_folder():
    assert "RUN/retrain" in options("retrain")["--out"]
    assert "runs/METHOD-SPACE-DATA-seedN" in options("search")["--out"]


@pytest.mark.parametrize("command", ["search", "estimate", "compare", "retrain"])
def test_help_shows_the_usual_options_and_help_all_the_others(command, wide, capsys):
    every = set(options(command))
    assert main([command, ALL]) == 0
    text = capsys.readouterr().out
    assert set(shown(text)) == every and "more option" not in text
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert 30 <= len(shown(text)) <= 45 and set(shown(text)) < every
    assert {flag for flag in every if "." not in flag} <= set(shown(text))
    assert (
        f"archgrad {command} {ALL} shows {len(every) - len(shown(text))} more options."
        in text.splitlines()
    )


@pytest.mark.parametrize(
    "line",
    [
        "search --method stdarts+oles --help",
        "search --help --method=stdarts+oles",
        "compare --methods darts,stdarts+oles --help",
        "estimate -h --method oles+stdarts",
    ],
)
def test_the_methods_of_the_command_line_are_shown_whole(line, wide, capsys):
    assert main(line.split()) == 0
    flags = set(shown(capsys.readouterr().out))
    assert {
        flag for flag in options("search") if flag.startswith(("--stdarts.", "--oles."))
    } <= flags
    assert not [flag for flag in flags if flag.startswith(("--cdarts.", "--gdas."))]
    assert main(["search", "--help"]) == 0  # what one command line names does not stay
    assert "--stdarts.kappa" not in shown(capsys.readouterr().out)


def test_methods_are_read_from_a_command_line():
    assert methods(["search", "--method", "a+b", "--out", "c"]) == {"a", "b"}
    assert methods(["compare", "--methods=a,b+c"]) == {"a", "b", "c"}
    assert methods(["search", "--method"]) == set()


def test_usual_options_exist():
    known = config.sections()
    for section, names in USUAL.items():
        assert {name.replace("-", "_") for name in names.split()} <= known[
            section
        ].model_fields.keys(), section


def test_spaces_describe_an_option_alike():
    """``--space.X`` has one help for all spaces, so it must be true of each."""
    found: dict[str, set[str]] = {}
    for entry in SPACES.values():
        for name, one in field_types.field_data(catalogue.model_of(entry)).items():
            found.setdefault(name, set()).add(one.get("help", ""))
    assert {name: texts for name, texts in found.items() if len(texts) > 1 or "" in texts} == {}
