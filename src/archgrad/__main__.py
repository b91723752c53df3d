"""``python -m archgrad``: the command line of the very interpreter that is asked."""

import sys

from archgrad.cli import main

if __name__ == "__main__":
    sys.exit(main())
