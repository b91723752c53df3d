"""The help of a command: ``--help`` prints its usual options, and ``--help-all`` all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cyclopts import App

from archgrad import terminal
from archgrad.errors import command, counted

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

ALL = "--help-all"
FLAGS = ("--help", "-h", ALL)
USUAL = {
    "search": "epochs batch limit",
    "data": "path size test image-column label-column share",
    "space": "name channels cells primitives",
    "weights": "lr decay",
    "alphas": "lr decay",
    "darts": "order hypergradient",
    "budget": "targets",
    "stop": "eigenvalue stable",
    "diagnostics": "sharpness curvature ranking",
    "retrain": "preset epochs channels cells",
}
"""Section -> its usual options. Every option without a section, such as ``--seed``, is usual."""
SETTINGS = ("search", "compare", "retrain", "estimate")
"""The commands whose flags are settings."""
NAMED_BY = {"search": "--method", "estimate": "--method", "compare": "--methods"}
"""Command -> the flag that names its methods."""


@contextmanager
def with_help(app: App, tokens: Sequence[str]) -> Iterator[None]:
    """Prepare the help of a command line; the help is printed inside this context on request.

    The help of a command begins with its docstring, whose example is its last paragraph. It shows
    the usual options, and whole sections for the methods that the command line names. Its last line
    counts the other options.

    Args:
        app: The commands. Their ``help_formatter`` is replaced.
        tokens: The words behind ``archgrad``.
    """
    name = next((token for token in tokens if not token.startswith("-")), "")
    app.console = terminal.console()  # cyclopts would keep the width of its first help
    app.help_formatter = formatter = Usual(ALL in tokens, frozenset({name, *methods(tokens)}))
    wanted = not {*FLAGS}.isdisjoint(tokens)
    if wanted and name in [*app]:  # its registered help is the first line of the docstring
        app[name].help = app[name].default_command.__doc__
    yield
    if wanted and name in SETTINGS:
        terminal.say(
            "--data, --space and --budget are short for "
            "--data.path, --space.name and --budget.targets."
        )
    if wanted:
        terminal.say(
            "Every command takes --quiet (print only errors) "
            "and --plugin MODULE (import your own methods and spaces)."
        )
    if formatter.left_out:
        terminal.say(
            f"{command(name, ALL)} shows {counted(len(formatter.left_out), 'more option')}."
        )
        if name in NAMED_BY:
            terminal.say(
                f"{command(name, NAMED_BY[name], 'NAME', FLAGS[0])} shows the options of a method."
            )


@dataclass(frozen=True)
class Usual:
    """A help formatter that implements cyclopts's protocol ``HelpFormatter``.

    Attributes:
        everything: Whether all options are shown.
        sections: Sections whose options are all shown.
        left_out: Entries that were not shown so far.
    """

    everything: bool
    sections: frozenset[str]
    left_out: list[HelpEntry] = field(default_factory=list)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print the shown part of a panel; nothing if no entry is shown."""
        from cyclopts.help import DefaultFormatter  # slow to import, and only help needs it

        unusual = (
            []
            if self.everything
            else [entry for entry in panel.entries if not self.is_shown(entry)]
        )
        self.left_out.extend(unusual)
        shown = [entry for entry in panel.entries if entry not in unusual]
        DefaultFormatter()(console, options, panel.copy(entries=shown))

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Print the line of usage."""
        from cyclopts.help import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

    def is_shown(self, entry: HelpEntry) -> bool:
        """Return whether an entry is usual, or belongs to a section that is shown whole."""
        flag = next(iter(entry.names), "").removeprefix("--")
        section, dot, option = flag.partition(".")
        return not dot or section in self.sections or option in USUAL.get(section, "").split()


def methods(tokens: Sequence[str]) -> set[str]:
    """Return the methods that a command line names by ``--method a+b`` or ``--methods a,b+c``."""
    pairs = [*pairwise(tokens), *(token.split("=", 1) for token in tokens if "=" in token)]
    given = [value for flag, value in pairs if flag in NAMED_BY.values()]
    return {name for value in given for name in re.split("[+,]", value)}
