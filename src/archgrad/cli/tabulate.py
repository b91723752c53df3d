"""``python -m archgrad.cli.tabulate``: writes the catalogue that the command line reads before torch is imported."""

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
    """All but the counts, which take two minutes."""
    whole = {
        "methods": {
            name: catalogue.method_listing(entry)._asdict() for name, entry in METHODS.items()
        },
        "spaces": {
            name: catalogue.space_listing(entry)._asdict() for name, entry in SPACES.items()
        },
        "space_options": field_types.described(
            catalogue.together(*map(catalogue.model_of, SPACES.values()))
        ),
    }
    plain: dict[str, Any] = json.loads(json.dumps(whole))
    return plain


def counts(entries: Iterable[Published]) -> dict[str, Any]:
    """REPOSITORY:NAME -> `catalogue.Count` of a published architecture at its published size, where a space has it."""
    found = {}
    for one in entries:
        try:
            found[one.qualified] = subject(one.qualified).count()._asdict()
        except ValueError:  # no space has it
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--recount",
        action="store_true",
        help="count published architectures anew that are counted already: two minutes",
    )
    path = Path(str(files("archgrad.data_files").joinpath(catalogue.FILE)))
    kept = (
        {}
        if parser.parse_args().recount or not path.exists()
        else json.loads(path.read_text("utf-8"))["counts"]
    )
    whole = content()
    write(path, {**whole, "counts": kept})  # what counts networks reads the rest
    write(
        path,
        {
            **whole,
            "counts": {**kept, **counts(one for one in published() if one.qualified not in kept)},
        },
    )
    print(f"written to {path}")


def write(path: Path, whole: dict[str, Any]) -> None:
    """One line per entry."""
    parts = (
        f"{json.dumps(part)}: {{\n"
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in entries.items())
        + "\n}"
        for part, entries in whole.items()
    )
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
