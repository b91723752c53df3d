"""The program ``archgrad``, also as ``python -m archgrad``. Whoever asks it to stop is heard while its commands are still being imported."""

import sys

from archgrad.observers.interrupts import obeyed


def main() -> int:
    """Runs one command; its exit code."""
    return obeyed(_command)


def _command() -> int:
    from archgrad.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
