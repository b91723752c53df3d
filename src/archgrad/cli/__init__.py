"""The command line.

Each command is imported when it is called, because ``archgrad --help`` must not wait for torch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress

from cyclopts import App, CycloptsError, Group, MissingArgumentError

from archgrad import __version__, extras, plugins, terminal
from archgrad.cli import extending, faults, helping
from archgrad.cli.helping import SETTINGS
from archgrad.cli.process import compile_nothing, wait_asleep
from archgrad.errors import command, error_line, nearest
from archgrad.observers import interrupts

HELP = """Neural architecture search by gradient: search, derive, retrain, evaluate, show.

`archgrad search --method darts --space nasbench201 --data digits` runs a whole search.
`archgrad COMMAND --help` shows the usual options of a command, and
`archgrad COMMAND --help-all` shows all of them. Every command takes `--quiet`, which prints only
errors and the JSON or CSV that you request. Every command takes `--plugin MODULE`, which imports
your own methods, spaces or primitives.
"""

app = App(
    name="archgrad",
    help=HELP,
    help_flags=helping.FLAGS,
    version=__version__,
    help_format="markdown",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

MAKE, LOOK = Group("Search and train", sort_key=1), Group("Read and print", sort_key=2)
COMMANDS = (
    (
        "search",
        "searching",
        MAKE,
        "Search an architecture for a set of images and write a new run folder.",
    ),
    ("resume", "searching", MAKE, "Continue a search or a retraining exactly where it stopped."),
    ("finish", "searching", MAKE, "Write the result of a stopped search as it stands now."),
    (
        "estimate",
        "estimating",
        MAKE,
        "Estimate the time and memory of a search or a retraining before it begins.",
    ),
    (
        "derive",
        "deriving",
        MAKE,
        "Derive another architecture from a finished search, under another budget.",
    ),
    (
        "compare",
        "comparing",
        MAKE,
        "Search with several methods and seeds, and test which differences are significant.",
    ),
    ("retrain", "training", MAKE, "Train the network of a run or of a genotype from scratch."),
    (
        "evaluate",
        "training",
        MAKE,
        "Measure the test accuracy of a retrained network: overall, by class, and the confusions.",
    ),
    ("predict", "training", MAKE, "Predict the class of each image, with its probability."),
    (
        "show",
        "showing",
        LOOK,
        "Show a genotype as a table and a picture, with its parameters and multiply-adds.",
    ),
    ("count", "showing", LOOK, "Count the parameters and multiply-adds of a derived network."),
    (
        "latency",
        "latency",
        LOOK,
        "Measure how long the derived networks of a space take on this device.",
    ),
    ("query", "showing", LOOK, "Look up an architecture in a bundled benchmark."),
    ("genotypes", "listing", LOOK, "List the published architectures that have a name."),
    ("methods", "listing", LOOK, "List the search methods, each with its options and paper."),
    ("spaces", "listing", LOOK, "List the search spaces, each on one line."),
)
"""Name, module, group and summary of each command. The summary is its docstring's first line."""
for name, home, group, summary in COMMANDS:
    app.command(
        f"archgrad.cli.{home}:{name}", name=name, help=summary, group=group, sort_key=len(list(app))
    )
app.register_install_completion_command(
    help="Install tab completion of commands and flags in this shell."
)

QUIET = "--quiet"
HINT = re.compile(r' Did you mean "?([^\s"?]+)"?\?')
"""The hint in an error of cyclopts."""
TYPED = re.compile(r'(?:option: |value "|command ")([^\s"]+)')
"""The typed word in an error of cyclopts."""
UNUSED = re.compile(r"Unused Tokens: \[(.*)\]")
"""The words in an error of cyclopts that belong to no flag."""
SHORT = {"--data": "--data.path", "--space": "--space.name", "--budget": "--budget.targets"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    A mistake of the user, a fault of the machine and an error in a plugin are each printed as one
    line on stderr. Any other error is a bug and keeps its traceback. So does an error in a plugin
    in Python's development mode (``PYTHONDEVMODE=1``).

    Args:
        arguments: The words behind ``archgrad``; by default those of this process.

    Returns:
        0 after success, 2 after a mistake of the user, 1 after a fault of the machine or an error
        in a plugin, and 130 after an interrupt.
    """
    terminal.escape_unprintable()
    wait_asleep()
    compile_nothing()
    return interrupts.exit_code_of(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    kept = terminal.QUIET.set(QUIET in tokens)
    tokens = [token for token in tokens if token != QUIET]
    try:
        tokens = spelled(extending.import_plugins(tokens, settings=SETTINGS))
        with helping.with_help(app, tokens):
            code = app(tokens, exit_on_error=False, print_error=False) or 0
        faults.flush()
        return code
    except (CycloptsError, ValueError, extras.MissingExtra) as error:
        if (broken := _plugin_line(error)) is not None:
            return _complain(broken, 2)
        return _complain(_message(error, tokens), 1 if faults.caused_by_fault(error) else 2)
    except BrokenPipeError:  # ... | head
        faults.leave_stdout()
        return 1
    except Exception as error:
        if (fault := faults.fault_line(error)) is not None:
            return _complain(fault, 1)
        if (broken := _plugin_line(error)) is not None:
            return _complain(broken, 1)
        if not isinstance(error, OSError) or error.filename is None:
            raise
        return _complain(f"{error.filename}: {error.strerror}", 2)
    finally:
        terminal.QUIET.reset(kept)


def spelled(tokens: Sequence[str]) -> list[str]:
    """Return the words of a command line with every flag in its full spelling.

    Underscores in flags become dashes. For the commands whose flags are settings, the short flags
    ``--data``, ``--space`` and ``--budget`` become the full ones.
    """
    tokens = list(tokens)
    names = SHORT if tokens and tokens[0] in SETTINGS else {}
    for i, token in enumerate(tokens):
        if token.startswith("--"):
            flag, equals, value = token.partition("=")
            flag = flag.replace("_", "-")
            tokens[i] = names.get(flag, flag) + equals + value
    return tokens


def _plugin_line(error: Exception) -> str | None:
    """Return one line about an error in a plugin; None if the error is not of a plugin.

    In Python's development mode the error is raised again, because its author needs the traceback.
    """
    broken = plugins.blame(error)
    if broken is None:
        return None
    if sys.flags.dev_mode:
        raise error
    return f"{broken}: mend the plugin; PYTHONDEVMODE=1 prints the traceback"


def _message(error: Exception, tokens: Sequence[str]) -> str:
    """Return an error as one line, and an error of cyclopts in our own words."""
    line = " ".join(str(error).split())
    if isinstance(error, MissingArgumentError) and error.argument and tokens:
        missing, name = error.argument, error.argument.name
        needed = f"a value for {name}"
        if missing.index is not None:  # a positional parameter
            needed = name.removeprefix("--").upper()
        if meaning := missing.parameter.help:
            needed = f"{needed} ({meaning.replace('`', '')})"
        return (
            f"archgrad {tokens[0]} needs {needed}: add it, or read {command(tokens[0], '--help')}"
        )
    return _reworded(line) if isinstance(error, CycloptsError) else line


def _reworded(message: str) -> str:
    """Return an error of cyclopts in our words, without a hint that is far from the typed flag.

    The parts of a flag between its dots are compared one by one.
    """
    if unused := UNUSED.search(message):
        return (
            f"unexpected word {unused[1]}: name images by --data, and other settings by their flags"
        )
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
    with suppress(OSError):  # stderr may be a file on the full disk
        terminal.say(f"archgrad: {error_line(terminal.escape_controls(message))}", error=True)
    try:
        faults.flush()
    except OSError:
        faults.leave_stdout()
    return code
