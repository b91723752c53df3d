"""The summary of a finished search: one JSON file under 20 KB without paths of the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from archgrad.arch.genotype import Genotype
from archgrad.compare import retrained, selection
from archgrad.compare.schemas import SummaryFile
from archgrad.compare.study import local
from archgrad.run import budgets
from archgrad.run.folder import RunFolder
from archgrad.run.schemas import EnvironmentFile
from archgrad.storage import records, typed_json
from archgrad.storage.files import write_json

Summary = dict[str, Any]
LIMIT = 20_000
"""Largest size of a summary in bytes."""
NO_MEASURE = ("epoch", "seconds", "cpu_seconds")


def summarise(
    folder: RunFolder, arm: str, seed: int, *, blind: bool = False, retrain_seeds: int = 0
) -> Summary:
    """Return the summary of a finished run.

    Args:
        folder: The run folder.
        arm: The arm of the run.
        seed: Its seed.
        blind: Whether the summary has no accuracies from a benchmark.
        retrain_seeds: Number of retrainings to look for.

    Returns:
        A mapping with these entries:

        - ``config``: the resolved settings, without paths.
        - ``data``: name, fingerprint, and number of images in each split.
        - ``genotype``: ``text`` and ``json``.
        - ``epochs``: metric -> one value for each epoch, None where it was not measured.
        - ``final``: the last value of each numeric metric, the number of ``skips`` in the genotype,
          its ``validation`` accuracy (`selection.validation`), true accuracies in percent
          (``cifar10_test`` ...) if a benchmark has them, and ``found_NAME``, the cost of the
          network for each budget NAME.
        - ``benchmark``: the verdict of the benchmark.
        - ``seconds`` and ``cpu_seconds``: the time of all epochs and decisions.
        - ``retrained``: `retrained.results`, if a retraining is finished.
        - ``searched``: the `Judgement` of the search, if there is one.
        - ``missing``: the epochs whose rows were lost; the sums do not contain their time.
        - ``left_out``: the metrics that are too large for `LIMIT`.

    Raises:
        ValueError: The run is not finished, or its metrics are damaged.
    """
    from archgrad.run import finished, preparing, watchers

    genotype, settings, history = (
        folder.read_genotype(),
        folder.read_settings(),
        folder.read_history(),
    )
    metrics = records.measured(history)
    lost = [row["epoch"] for row in history if row.get(records.MISSING)]
    decisions = records.read_all(folder.decisions) if folder.decisions.exists() else []
    validation = selection.validation(str(genotype), history, decisions)
    spent = [*metrics, *records.measured(decisions)]
    whole, images = settings.to_mapping(), folder.read_images()
    whole["data"] = {
        name: value
        for name, value in whole["data"].items()
        if name not in ("path", "cache") and not local(name, value)
    }
    source = images["name"]
    table = None if blind else watchers.benchmark(preparing.space_from(settings))
    within = folder.read_budget_results()
    verdict = (
        table.verdict(genotype, budgets.table_budgets(within, table.query(genotype)))
        if table
        else None
    )
    results = retrained.results(folder, retrain_seeds)
    judgement = finished.read_judgement(folder)
    summary = {
        "arm": arm,
        "seed": seed,
        "config": whole,
        "data": {name: images[name] for name in ("fingerprint", "splits")}
        | {"name": Path(source).name if local("path", source) else source},
        "environment": typed_json.read(folder.environment, EnvironmentFile),
        "genotype": {"text": str(genotype), "json": genotype.to_json()},
        "final": final(metrics, genotype, verdict[0] if verdict else {})
        | ({} if validation is None else {"validation": short(validation)})
        | {f"found_{one.cost}": one.found for one in within},
        **({"retrained": short(results)} if results else {}),
        **({"searched": judgement.to_json()} if judgement else {}),
        **{
            name: short(sum(row[name] for row in spent))
            for name in ("seconds", "cpu_seconds")
            if all(name in row for row in spent)
        },
        "benchmark": verdict,
        **({"missing": lost} if lost else {}),
        "epochs": columns(history),
    }
    return small(summary)


def final(
    metrics: list[dict[str, Any]], genotype: Genotype, known: Mapping[str, Any]
) -> dict[str, float]:
    """Return the last value of each numeric metric, and the numbers of the genotype."""
    last: dict[str, float] = {}
    for row in metrics:
        last |= {
            name: short(value)
            for name, value in row.items()
            if isinstance(value, int | float) and name not in NO_MEASURE
        }
    last["skips"] = sum(
        link.primitive == "skip_connect" for cell in genotype.cells for link in cell.links
    )
    return last | {
        name: value for name, value in known.items() if name.endswith("_test") or name == "rank"
    }


def columns(metrics: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return metric -> its value in each row."""
    names = dict.fromkeys(name for row in records.measured(metrics) for name in row)
    return {name: [short(row.get(name)) for row in metrics] for name in names}


def short(value: Any) -> Any:
    """Return a value with floats rounded to six digits, also inside lists and mappings."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [short(one) for one in value]
    return {name: short(one) for name, one in value.items()} if isinstance(value, dict) else value


def small(summary: Summary, limit: int = LIMIT) -> Summary:
    """Return a summary of at most ``limit`` bytes.

    Columns are removed until it fits: first those with lists, then those with texts, and of equals
    the largest first.
    """
    kept: dict[str, list[Any]] = dict(summary["epochs"])
    left: list[str] = []

    def cost(name: str) -> tuple[bool, bool, int]:
        lists, texts = (
            any(isinstance(value, kind) for value in kept[name]) for kind in (list | dict, str)
        )
        return lists, texts, len(json.dumps(kept[name]))

    # the layout of write_json takes a little more than that of json.dumps
    while len(json.dumps(summary | {"epochs": kept, "left_out": left})) > limit - 500 and kept:
        left.append(max(kept, key=cost))
        del kept[left[-1]]
    return summary | {"epochs": kept} | ({"left_out": left} if left else {})


def write(path: Path, summary: Summary) -> None:
    """Write a summary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, summary)


def read(path: Path) -> Summary:
    """Read a summary.

    Raises:
        ValueError: The file is damaged.
    """
    return cast("Summary", typed_json.read(path, SummaryFile))


def read_all(folder: Path) -> list[Summary]:
    """Read all summaries of a study, in the order of arms and seeds."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda one: (one["arm"], one["seed"]))
