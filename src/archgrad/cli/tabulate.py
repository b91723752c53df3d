"""The script that writes the catalogue: ``python -m archgrad.cli.tabulate``.

The command line reads the catalogue before torch is imported.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from archgrad.arch.published import Published, published
from archgrad.methods import METHODS
from archgrad.run import catalogue, field_types
from archgrad.run.subject import subject
from archgrad.spaces import SPACES


def content() -> dict[str, Any]:
    """Return the catalogue without the counts, which take two minutes."""
    whole = {
        "methods": {
            name: catalogue.method_listing(entry)._asdict() for name, entry in METHODS.items()
        },
        "spaces": {
            name: catalogue.space_listing(entry)._asdict() for name, entry in SPACES.items()
        },
        "space_options": field_types.field_data(
            catalogue.joined_model(*map(catalogue.model_of, SPACES.values()))
        ),
    }
    plain: dict[str, Any] = json.loads(json.dumps(whole))
    return plain


def counts(entries: Iterable[Published]) -> dict[str, Any]:
    """Return REPOSITORY:NAME -> `catalogue.Count` of each published architecture.

    Each is counted at its published size. Architectures of no known space are left out.
    """
    found = {}
    for one in entries:
        try:
            found[one.qualified_name] = subject(one.qualified_name).count()._asdict()
        except ValueError:  # no space contains it
            continue
    return found


def main() -> None:
    """Write the catalogue; count only architectures that it does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--recount",
        action="store_true",
        help="new count of all published architectures (two minutes)",
    )
    path = Path(str(files("archgrad.data_files").joinpath(catalogue.FILE)))
    kept = (
        {}
        if parser.parse_args().recount or not path.exists()
        else json.loads(path.read_text("utf-8"))["counts"]
    )
    whole = content()
    write(path, {**whole, "counts": kept})  # counting reads the other entries of the catalogue
    write(
        path,
        {
            **whole,
            "counts": {
                **kept,
                **counts(one for one in published() if one.qualified_name not in kept),
            },
        },
    )
    print(f"written to {path}")


def write(path: Path, whole: dict[str, Any]) -> None:
    """Write the catalogue as JSON with one line for each entry."""
    parts = (
        f"{json.dumps(part)}: {{\n"
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in entries.items())
        + "\n}"
        for part, entries in whole.items()
    )
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
