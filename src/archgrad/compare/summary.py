"""What a finished search is to a study: one JSON file under 20 KB, which holds nothing of the machine but its kind."""

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
LIMIT = 20_000  # bytes
NO_MEASURE = ("epoch", "seconds", "cpu_seconds")


def summarise(
    folder: RunFolder, arm: str, seed: int, *, blind: bool = False, retrain_seeds: int = 0
) -> Summary:
    """Of a finished run.

    ``config``: resolved, without paths. ``data``: name, fingerprint, images in each split. ``genotype``: ``text`` and ``json``. ``epochs``:
    metric -> values, one an epoch, None where it was not measured. ``final``: the last value of each metric that is a number, ``skips`` of the
    genotype, its ``validation`` accuracy (`selection.validation`), and true accuracies in percent (``cifar10_test`` ...) where a benchmark
    knows them and is asked: ``blind`` ones ask none; ``found_NAME``, what the network costs beside a budget of NAME. ``benchmark``: its
    verdict. ``seconds`` and ``cpu_seconds``: all epochs and decisions.
    ``retrained``: `retraining.results` of so many, where any is finished. ``searched``: the `Judgement` of the search, where there is one.
    ``missing``: the epochs whose rows were lost, where any was; their time is in no sum. ``left_out``: metrics too large for `LIMIT`.
    ValueError if the run is not finished, or its metrics are damaged.
    """
    from archgrad.run import finished, preparing, watchers

    genotype, settings, history = folder.found(), folder.settings(), folder.history()
    metrics, lost = (
        records.measured(history),
        [row["epoch"] for row in history if row.get(records.MISSING)],
    )
    decisions = records.every(folder.decisions) if folder.decisions.exists() else []
    judged, spent = (
        selection.validation(str(genotype), history, decisions),
        [*metrics, *records.measured(decisions)],
    )
    whole, images = settings.to_mapping(), folder.images()
    whole["data"] = {
        name: value
        for name, value in whole["data"].items()
        if name not in ("path", "cache") and not local(name, value)
    }
    source = images["name"]
    table = None if blind else watchers.benchmark(preparing.space_from(settings))
    within = folder.found_within()
    verdict = (
        table.verdict(genotype, budgets.bounds(within, table.query(genotype))) if table else None
    )
    results = retrained.results(folder, retrain_seeds)
    judgement = finished.searched(folder)
    summary = {
        "arm": arm,
        "seed": seed,
        "config": whole,
        "data": {name: images[name] for name in ("fingerprint", "splits")}
        | {"name": Path(source).name if local("path", source) else source},
        "environment": typed_json.read(folder.environment, EnvironmentFile),
        "genotype": {"text": str(genotype), "json": genotype.to_json()},
        "final": final(metrics, genotype, verdict[0] if verdict else {})
        | ({} if judged is None else {"validation": short(judged)})
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
    """The numbers a comparison is about. A metric that is not measured every epoch counts by its last value."""
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
    names = dict.fromkeys(name for row in records.measured(metrics) for name in row)
    return {name: [short(row.get(name)) for row in metrics] for name in names}


def short(value: Any) -> Any:
    """Floats to six digits, inside lists and mappings too."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [short(one) for one in value]
    return {name: short(one) for name, one in value.items()} if isinstance(value, dict) else value


def small(summary: Summary, limit: int = LIMIT) -> Summary:
    """Without the columns that make it larger than ``limit`` bytes: those with lists first, then texts, the largest first."""
    kept: dict[str, list[Any]] = dict(summary["epochs"])
    left: list[str] = []

    def cost(name: str) -> tuple[bool, bool, int]:
        lists, texts = (
            any(isinstance(value, kind) for value in kept[name]) for kind in (list | dict, str)
        )
        return lists, texts, len(json.dumps(kept[name]))

    while (
        len(json.dumps(summary | {"epochs": kept, "left_out": left})) > limit - 500 and kept
    ):  # write_json's layout takes a little more
        left.append(max(kept, key=cost))
        del kept[left[-1]]
    return summary | {"epochs": kept} | ({"left_out": left} if left else {})


def write(path: Path, summary: Summary) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, summary)


def read(path: Path) -> Summary:
    """ValueError if it is damaged."""
    return cast("Summary", typed_json.read(path, SummaryFile))


def read_all(folder: Path) -> list[Summary]:
    """All of a study, by arm and seed."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda one: (one["arm"], one["seed"]))
