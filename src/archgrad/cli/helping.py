"""The help of a command: its usual options by ``--help``, all of them by ``--help-all``."""

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
"""Section -> its usual options. An option without a section, such as ``--seed``, is usual."""
SETTINGS = ("search", "compare", "retrain", "estimate")
"""The commands whose flags are settings."""
NAMED_BY = {"search": "--method", "estimate": "--method", "compare": "--methods"}
"""Command -> the flag that names its methods."""


@contextmanager
def helped(app: App, tokens: Sequence[str]) -> Iterator[None]:
    """Gives a command line its help, which is printed inside if the command line asks for it.

    The help shows the usual options, and whole sections for the methods that the command line
    names. Its last line says how many others there are.

    Args:
        app: The commands. Their ``help_formatter`` is replaced.
        tokens: The command line.
    """
    name = next((token for token in tokens if not token.startswith("-")), "")
    app.console = terminal.console()  # of today's width: cyclopts keeps the one of its first help
    app.help_formatter = formatter = Usual(ALL in tokens, frozenset({name, *methods(tokens)}))
    yield
    if {*FLAGS} & {*tokens} and name in SETTINGS:
        terminal.say(
            "--data, --space and --budget are short for --data.path, --space.name and --budget.targets."
        )
    if {*FLAGS} & {*tokens}:
        terminal.say(
            "Every command takes --quiet (errors alone) and --plugin MODULE (methods and spaces of your own)."
        )
    if formatter.left_out:
        terminal.say(
            f"{command(name, ALL)} shows {counted(len(formatter.left_out), 'more option')}."
        )
        if name in NAMED_BY:
            terminal.say(
                f"{command(name, NAMED_BY[name], 'NAME', FLAGS[0])} shows those of a method."
            )


@dataclass(frozen=True)
class Usual:
    """A help formatter of cyclopts, as its protocol ``HelpFormatter`` has it.

    Attributes:
        everything: show all options.
        sections: sections whose options are all shown.
        left_out: entries that were not shown so far.
    """

    everything: bool
    sections: frozenset[str]
    left_out: list[HelpEntry] = field(default_factory=list)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Prints the part of a panel that is shown; nothing where none is."""
        from cyclopts.help import DefaultFormatter  # imports what only help needs

        unusual = (
            [] if self.everything else [entry for entry in panel.entries if not self.shows(entry)]
        )
        self.left_out.extend(unusual)
        shown = [entry for entry in panel.entries if entry not in unusual]
        DefaultFormatter()(console, options, panel.copy(entries=shown))

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Prints the line of usage."""
        from cyclopts.help import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

    def shows(self, entry: HelpEntry) -> bool:
        """Says whether an entry is usual, or of a section that is shown whole."""
        flag = next(iter(entry.names), "").removeprefix("--")
        section, dot, option = flag.partition(".")
        return not dot or section in self.sections or option in USUAL.get(section, "").split()


def methods(tokens: Sequence[str]) -> set[str]:
    """The names that a command line gives by ``--method a+b`` or ``--methods a,b+c``."""
    pairs = [*pairwise(tokens), *(token.split("=", 1) for token in tokens if "=" in token)]
    given = [value for flag, value in pairs if flag in NAMED_BY.values()]
    return {name for value in given for name in re.split("[+,]", value)}
