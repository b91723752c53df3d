"""The command line. Each command is imported when it is called: ``archgrad --help`` must not wait for torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress

from cyclopts import App, CycloptsError, Group

from archgrad import __version__, terminal
from archgrad.cli import extending, faults, helping
from archgrad.cli.helping import SETTINGS
from archgrad.cli.process import compile_nothing, wait_asleep
from archgrad.errors import complaint, nearest
from archgrad.observers import interrupts

HELP = """Neural architecture search by gradient: search, derive, retrain, evaluate, show.

`archgrad search --method darts --space nasbench201 --data digits` is a whole search. `archgrad COMMAND --help` shows the usual
options of a command, `archgrad COMMAND --help-all` all of them. Every command takes `--quiet`: it prints errors alone, and JSON or CSV
that was asked for. Every command takes `--plugin MODULE`, a module with methods, spaces or primitives of your own.
"""

app = App(
    name="archgrad", help=HELP, help_flags=helping.FLAGS, version=__version__, help_format="markdown", result_action="return_value",
    suppress_keyboard_interrupt=False,
)  # fmt: skip

MAKE, LOOK = Group("Search and train", sort_key=1), Group("Look", sort_key=2)
for name, home, group, summary in (
    (
        "search",
        "searching",
        MAKE,
        "Search an architecture for a set of images, into a new run folder.",
    ),
    ("resume", "searching", MAKE, "Go on with a search or a retraining exactly where it stopped."),
    ("finish", "searching", MAKE, "Make what a stopped search has now its result."),
    (
        "estimate",
        "estimating",
        MAKE,
        "Time and memory of a search or a retraining, before it begins.",
    ),
    (
        "derive",
        "deriving",
        MAKE,
        "Another architecture from a finished search, under another budget.",
    ),
    ("compare", "comparing", MAKE, "Several methods, several seeds: what differs, and how surely."),
    ("retrain", "training", MAKE, "Train the network of a run or of a genotype from scratch."),
    (
        "evaluate",
        "training",
        MAKE,
        "Test accuracy of a retrained network, by class, with the confusions.",
    ),
    ("predict", "training", MAKE, "Class and probability of each image."),
    ("show", "showing", LOOK, "A genotype as table and picture; its parameters and multiply-adds."),
    ("count", "showing", LOOK, "Parameters and multiply-adds of a derived network."),
    (
        "latency",
        "latency",
        LOOK,
        "Measure how long a space's derived networks take on this device.",
    ),
    ("query", "showing", LOOK, "What a bundled benchmark measured of an architecture."),
    ("genotypes", "listing", LOOK, "The published architectures that are known by name."),
    ("methods", "listing", LOOK, "The search methods, each with its options and paper."),
    ("spaces", "listing", LOOK, "The search spaces, a line each."),
):
    app.command(
        f"archgrad.cli.{home}:{name}", name=name, help=summary, group=group, sort_key=len(list(app))
    )
app.register_install_completion_command(
    help="Install the completion of commands and flags by the tab key in this shell."
)

QUIET = "--quiet"
HINT, TYPED = (
    re.compile(r' Did you mean "?([^\s"?]+)"?\?'),
    re.compile(r'(?:option: |value "|command ")([^\s"]+)'),
)
"""Of cyclopts's complaints: the hint, and what was typed."""
UNUSED = re.compile(r"Unused Tokens: \[(.*)\]")
SHORT = {"--data": "--data.path", "--space": "--space.name", "--budget": "--budget.targets"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code, 130 where it was asked to stop. What a user can mend is one line on stderr and code 2; a fault of the
    machine is one line and code 1; all else keeps its traceback."""
    terminal.escape_unprintable()
    wait_asleep()
    compile_nothing()
    return interrupts.obeyed(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    kept = terminal.QUIET.set(QUIET in tokens)
    tokens = [token for token in tokens if token != QUIET]
    try:
        tokens = spelled(extending.extended(tokens, settings=SETTINGS))
        with helping.helped(app, tokens):
            code = app(tokens, exit_on_error=False, print_error=False) or 0
        faults.flush()
        return code
    except (CycloptsError, ValueError) as error:
        said = " ".join(str(error).split())
        return _complain(
            _reworded(said) if isinstance(error, CycloptsError) else said,
            1 if faults.behind(error) else 2,
        )
    except BrokenPipeError:  # ... | head
        faults.leave_stdout()
        return 1
    except Exception as error:
        if (fault := faults.sentence(error)) is not None:
            return _complain(fault, 1)
        if not isinstance(error, OSError) or error.filename is None:
            raise
        return _complain(f"{error.filename}: {error.strerror}", 2)
    finally:
        terminal.QUIET.reset(kept)


def spelled(tokens: Sequence[str]) -> list[str]:
    """Flags with dashes for underscores, and the short ones of search, compare and retrain written out."""
    tokens = list(tokens)
    names = SHORT if tokens and tokens[0] in SETTINGS else {}
    for i, token in enumerate(tokens):
        if token.startswith("--"):
            flag, equals, value = token.partition("=")
            flag = flag.replace("_", "-")
            tokens[i] = names.get(flag, flag) + equals + value
    return tokens


def _reworded(message: str) -> str:
    """The complaint of cyclopts in our words, without a hint whose parts between the dots are far from the ones that were typed."""
    if unused := UNUSED.search(message):
        return f"a word without a flag is not known here: {unused[1]}; images are named by --data, other settings by their flags"
    hint, typed = HINT.search(message), TYPED.search(message)
    if hint is None or typed is None:
        return message
    one, other = (
        text.lstrip("-").split(".") for text in (typed[1].partition("=")[0].rstrip("."), hint[1])
    )
    near = len(one) == len(other) and all(
        nearest(part, [wanted]) for part, wanted in zip(one, other)
    )
    return message if near or nearest(".".join(one), [other[-1]]) else HINT.sub("", message)


def _complain(message: str, code: int) -> int:
    with suppress(OSError):  # stderr may lie on the full disk, too
        terminal.say(f"archgrad: {complaint(terminal.visible(message))}", error=True)
    try:
        faults.flush()
    except OSError:
        faults.leave_stdout()
    return code
