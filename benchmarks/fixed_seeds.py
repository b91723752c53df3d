"""Check that the mathematics has not changed: compare a hash of the metrics of many short searches.

    python benchmarks/fixed_seeds.py                          # all; exit code 1 if a hash differs
    python benchmarks/fixed_seeds.py --only stdarts darts/s4  # methods, or METHOD/SPACE
    python benchmarks/fixed_seeds.py --renew oles             # record these anew

There is one search for every method in every kind of space, at a fixed seed. `fixed_seeds.json` has
one line for each search, with all its settings and its hash. So a changed default changes no hash,
and a changed hash means that the mathematics has changed. Where that is intended, the same commit
renews the line by name: ``--renew`` runs it with the present defaults, and records settings and
hash.

A search has four epochs of three steps on scikit-learn's digits, on one thread. The arms of
`recipes/claims/full_length.yaml` stand under its name, with gap, sharpness and curvature. The last
bits depend on the processor, torch and the number of threads, which the file names. On another
machine, compare with the output of the parent commit (``--print`` prints the lines and compares
nothing).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from archgrad import data, run
from archgrad.methods import METHODS
from archgrad.run import config
from archgrad.searching import loop

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_suffix(".json")
STUDY = ROOT / "recipes" / "claims" / "full_length.yaml"
SPACES: dict[str, dict[str, Any]] = {
    "nasbench201": {"channels": 4, "cells": 1},
    "darts": {"channels": 4, "cells": 3, "nodes": 2},
    "s1": {"channels": 4, "cells": 3},
    "s4": {"channels": 4, "cells": 3},
    "nasbenchmacro": {"channels": 4},
    "mbconv": {
        "channels": 4,
        "stages": [[8, 2, 1], [8, 2, 2], [16, 1, 2]],
        "kernels": [3, 5],
        "expansions": [1],
    },
}
SEARCH = {"epochs": 4, "batch": 20, "limit": 60}
SECTIONS = ("method", "search", "space", "weights", "alphas", "diagnostics")

Settings = dict[str, Any]


def names() -> list[str]:
    """Return the names of all searches: METHOD/SPACE, and full_length/ARM for the study's arms."""
    arms = yaml.safe_load(STUDY.read_text())["arms"]
    return [f"{method}/{space}" for method in (*METHODS, "stdarts+sddarts") for space in SPACES] + [
        f"full_length/{arm}" for arm in arms
    ]


def today(name: str) -> Settings:
    """Return all settings of a search, with the present defaults.

    Raises:
        ValueError: The method does not fit the space.
    """
    first, second = name.split("/")
    if first == "full_length":
        study = yaml.safe_load(STUDY.read_text())
        shared = {key: study[key] for key in ("space", "diagnostics")}
        given = config.merged(shared, study["arms"][second]) | {
            "search": {**study["search"], **SEARCH}
        }
        given["diagnostics"] |= {
            "sharpness_every": 2,
            "curvature_every": 2,
            "sharpness_batches": 2,
            "curvature_batches": 2,
        }
    else:
        given = {
            "method": first,
            "space": {"name": second, **SPACES[second]},
            "search": SEARCH,
            "diagnostics": {"gap": True},
        }
        if first == "pcdarts":  # it takes a quarter of the channels of every cell
            given["space"]["channels"] = 8
    settings = config.read((name, given))
    method = run.build(settings)
    # The alphas have the published rate, so no constant of ours has an effect.
    found = run.resolve(settings, method).to_mapping() | {"alphas": asdict(method.alphas)}
    methods = {key: found[key] for key in found if key in METHODS}
    return {key: found[key] for key in SECTIONS} | methods


def searched(settings: Settings) -> str:
    """Return the hash of the metrics, decisions and genotype of a search with these settings."""
    given = config.read(("", settings))
    images = data.load("digits", report=lambda line: None)
    given = given.model_copy(update={"space": run.fit_space_settings(given, images)})
    method = run.build(given)
    halves = data.search_data(
        images, batch=given.search.batch, seed=0, limit=given.search.limit, augment=True, flip=False
    )
    kept = Rows()
    observers = (*run.curvature(given), *run.diagnostics(given), kept)
    found = loop.search(method, halves, given.search.epochs or 1, seed=3, observers=observers)
    whole = {"rows": kept.rows, "notes": kept.notes, "genotype": found.genotype.to_json()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


class Rows:
    """An observer that keeps the metrics and decisions of a search, without times."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.notes: list[dict[str, Any]] = []

    def on_step(self, method: Any, state: Any, values: Any) -> None: ...

    def on_epoch(self, method: Any, state: Any, data: Any, row: dict[str, Any]) -> None:
        self.rows.append(
            {name: value for name, value in row.items() if name not in ("seconds", "cpu_seconds")}
        )

    def on_decision(self, method: Any, state: Any, decision: Any) -> None:
        self.notes.append(decision.note)


def machine() -> dict[str, Any]:
    """Return the facts of the machine on which the last bits depend."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "cpu": f"{model}, {capability}",
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="methods, or METHOD/SPACE, to run")
    parser.add_argument(
        "--renew",
        nargs="+",
        default=[],
        help="methods, or METHOD/SPACE, to record anew; `all` means every line",
    )
    parser.add_argument("--print", action="store_true", help="print the lines and compare nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recorded = (
        json.loads(LIST.read_text()) if LIST.exists() else {"machine": machine(), "searches": {}}
    )
    here, lines = machine(), recorded["searches"]
    wanted = given.only + given.renew or ["all"]
    differing = 0
    for name in (name for name in names() if _is_among(name, wanted)):
        if _is_among(name, given.renew):
            try:
                settings = today(name)
                lines[name] = {"hash": searched(settings), "settings": settings}
            except ValueError as error:
                lines[name] = {"refused": str(error)}
            print(
                name,
                lines[name].get("hash") or f"refused: {lines[name]['refused']}",
                "renewed",
                flush=True,
            )
            continue
        if name not in lines:
            print(f"{name} is not recorded: --renew {name}")
            differing += 1
            continue
        if "refused" in lines[name]:
            continue
        found = searched(lines[name]["settings"])
        same = found == lines[name]["hash"]
        verdict = " same" if same else f" DIFFERS from {lines[name]['hash']}"
        differing += not (same or given.print)
        print(f"{name} {found}{'' if given.print else verdict}", flush=True)
    if given.renew:
        rows = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(lines[name])}" for name in names() if name in lines
        )
        LIST.write_text(f'{{\n "machine": {json.dumps(here)},\n "searches": {{\n{rows}\n }}\n}}\n')
    if differing and here != recorded["machine"]:
        print(
            f"this machine is {here}, but the list was recorded on {recorded['machine']}: "
            "compare with the output of the parent commit",
            file=sys.stderr,
        )
    return 1 if differing and not given.print else 0


def _is_among(name: str, given: list[str]) -> bool:
    """Return whether a search is named, by its full name, by its method, or by `all`."""
    return "all" in given or name in given or name.split("/")[0] in given


if __name__ == "__main__":
    sys.exit(main())
