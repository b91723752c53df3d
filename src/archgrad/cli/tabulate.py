"""``python -m archgrad.cli.tabulate``: writes the catalogue that the command line reads before torch is imported."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import create_model

from archgrad import catalogue, field_types, options
from archgrad.cli.subject import subject
from archgrad.errors import unknown
from archgrad.methods import METHODS
from archgrad.published import Published, published
from archgrad.search_space import Space
from archgrad.spaces import SPACES
from archgrad.spaces.primitives import PRIMITIVES


def content() -> dict[str, Any]:
    """All but the counts, which take a minute."""
    of_spaces: dict[str, Any] = {}
    for entry in SPACES.values():
        kind = options.model(getattr(entry.build, "func", entry.build))
        of_spaces |= {name: (field.annotation, field) for name, field in kind.model_fields.items()}
    return _plain(
        {
            "methods": {
                name: {
                    "summary": entry.summary,
                    "paper": entry.paper,
                    "about": inspect.getdoc(entry.patch) or "",
                    "presets": list(entry.presets),
                    "options": field_types.described(entry.model()),
                }
                for name, entry in METHODS.items()
            },
            "spaces": {name: {"paper": entry.paper, "stems": list(entry.stems), **listing(entry.build())} for name, entry in SPACES.items()},
            "space_options": field_types.described(create_model("Space", **of_spaces)),
        }
    )


def listing(space: Space) -> dict[str, Any]:
    """What `archgrad spaces` shows of a space, and what its options may be: asked of the space itself."""
    spec, least = space.spec(), {}
    for option in spec:
        if found := re.match(rf"{option} must be a whole number of at least (\d+), not -1", refusal(space, **{option: -1})):
            least[option] = int(found[1])
    listed = refusal(space, primitives=("?",)) == str(unknown("primitive", "?", PRIMITIVES))
    return {
        "cells": [f"{group.name}: {len(group.edges)} edges of {group.width} primitives at most" for group in space.groups.values()],
        "options": list(spec),
        "least": least,
        "primitives": list(PRIMITIVES) if listed else [],
    }


def refusal(space: Space, **changes: Any) -> str:
    try:
        space.resized(**changes)
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


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
    parser.add_argument("--recount", action="store_true", help="count published architectures anew that are counted already: two minutes")
    path = Path(str(files("archgrad.data_files").joinpath(catalogue.FILE)))
    kept = {} if parser.parse_args().recount or not path.exists() else json.loads(path.read_text("utf-8"))["counts"]
    whole = content()
    write(path, {**whole, "counts": kept})  # what counts networks reads the rest
    write(path, {**whole, "counts": {**kept, **counts(one for one in published() if one.qualified not in kept)}})
    print(f"written to {path}")


def write(path: Path, whole: dict[str, Any]) -> None:
    """One line per entry."""
    parts = (
        f"{json.dumps(part)}: {{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in entries.items()) + "\n}"
        for part, entries in whole.items()
    )
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


if __name__ == "__main__":
    main()
