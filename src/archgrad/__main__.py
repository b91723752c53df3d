"""The program ``archgrad``, also as ``python -m archgrad``.

It obeys a request to stop even while its commands are still being imported.
"""

import sys

from archgrad import extras
from archgrad.observers.interrupts import exit_code_of


def main() -> int:
    """Run one command, and return its exit code."""
    return exit_code_of(_command)


def _command() -> int:
    try:
        with extras.named():
            from archgrad.cli import main as command
    except extras.MissingExtra as error:
        print(f"archgrad: {error}", file=sys.stderr)
        return 2

    return command()


if __name__ == "__main__":
    sys.exit(main())
