"""The program ``archgrad``, also as ``python -m archgrad``.

It obeys a request to stop even while its commands are still being imported.
"""

import sys

from archgrad.observers.interrupts import exit_code_of


def main() -> int:
    """Run one command, and return its exit code."""
    return exit_code_of(_command)


def _command() -> int:
    from archgrad.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
