"""Files of archgrad are input too: each has one schema, and files of earlier versions are still read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archgrad.arch.genotype import Genotype
from archgrad.cli import main
from archgrad.compare import study, summary
from archgrad.compare.schemas import ComparisonFile
from archgrad.data.schemas import ImagesFile
from archgrad.latency import profile
from archgrad.latency.schemas import LatencyFile
from archgrad.retraining.schemas import CardFile
from archgrad.run import config
from archgrad.run.schemas import EnvironmentFile, FrontFile, GenotypeFile
from archgrad.storage import typed_json
from archgrad.storage.folder import EstimateFile

STUDIES = Path(__file__).parent.parent / "benchmarks" / "studies"
RECORDED = sorted(STUDIES.rglob("summaries/*.json"))
CELL = {"cell": {"links": [[0, 1, "none"]], "concat": [1]}}
KEPT = {"cost": "macs", "unit": "", "budget": 3e6, "found": 2_000_000}
JUDGED = {"ok": True, "by": "alphas", "parts": {"cell": {"edges": 6, "lead": 1, "learned": 0.5, "decided": 0.1, "held": None}}, "what": "x",
          "accuracy": 0.5, "chance": None, "least": None, "over": 0, "fails": {}}  # fmt: skip
READ = {"size": 8, "in_channels": 1, "mean": [0.5], "std": [0.5], "classes": ["a", "b"]}
CARD = {"version": 1, "genotype": CELL, "space": "nasbench201", "spec": {}, "preprocess": READ, "settings": {}, "seed": 0, "device": "cpu",
        "threads": 1, "deterministic": False, "batch": 256, "data": {"path": "digits"}, "reading": {},
        "fingerprint": "x"}  # fmt: skip
TABLE = {"setting": {"space": "x", "spec": {}, "size": 8, "batch": 1, "device": "cpu", "hardware": "x", "threads": 1, "torch": "2"},
         "ops": {"cell": [[0, 1, "none", 0.5]]}, "base": -0.1, "scale": 1.0, "r2": 1, "worst": 0.1, "date": "x",
         "nets": [{"genotype": CELL, "added": 1.0, "measured": 1.0}]}  # fmt: skip
FRONT = {
    "cost": "macs",
    "unit": "",
    "points": [{"genotype": "x", "cost": 1, "accuracy": 0.5, "seen": "end", "front": True}],
}
IMAGES = {"name": "digits", "fingerprint": "x", "preprocess": READ, "splits": {"train": 1}}


def with_(whole: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy with another value at ``a.b.0``; without it where the value is `...`."""
    made = json.loads(json.dumps(whole))
    inside, (*above, last) = made, place.split(".")
    for part in above:
        inside = inside[int(part) if isinstance(inside, list) else part]
    if value is ...:
        del inside[last]
    else:
        inside[int(last) if isinstance(inside, list) else last] = value
    return made


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parents[1].name}/{path.stem}")
def test_every_recorded_summary_is_read(path):
    assert summary.read(path) == json.loads(path.read_text())


def test_every_recorded_study_comparison_and_table_is_read():
    assert len(RECORDED) > 200
    for path in STUDIES.rglob("study.yaml"):
        assert study.read(config.read_yaml(path), recorded=True).arms
    for path in STUDIES.rglob("compare.json"):
        typed_json.read(path, ComparisonFile)
    for path in STUDIES.rglob("latency.json"):
        assert profile.read_unchecked(path).cost().ops


@pytest.mark.parametrize(
    ("kind", "whole"),
    [
        (GenotypeFile, {"genotype": CELL, "text": "x"}),  # of the first version
        (GenotypeFile, {"genotype": CELL, "text": "x", "budget": [KEPT]}),
        (GenotypeFile, {"genotype": CELL, "text": "x", "budget": [KEPT | {"wanted": 1}], "searched": JUDGED,
                                "finished": {"epochs": 1, "of": 2, "steps": 0}}),
        (CardFile, CARD),
        (LatencyFile, TABLE | {"share": 1.0}),  # one that is written no more
        (FrontFile, FRONT),
        (ImagesFile, IMAGES),
        (EstimateFile, {"left": 1, "total": 2.5, "when": 3}),
        (EnvironmentFile, {"archgrad": "0.1", "commit": None, "python": "3"}),
        (ComparisonFile, {"control": "darts"}),
    ],
)  # fmt: skip
def test_what_was_written_is_read_as_it_stands(kind, whole):
    assert typed_json.check(whole, kind) is whole


@pytest.mark.parametrize(
    ("kind", "whole", "place", "value", "message"),
    [
        (GenotypeFile, {"genotype": CELL}, "genotype", ..., "it lacks genotype"),
        (GenotypeFile, {"genotype": CELL}, "genotype.cell.links.0", True, r"genotype: cell, entry 0: expected \[source, "),
        (GenotypeFile, {"genotype": CELL}, "genotype.cell", None, "genotype: a genotype is an object"),
        (GenotypeFile, {"genotype": CELL, "budget": [KEPT]}, "budget.0.unit", ..., "budget.0 lacks unit"),
        (GenotypeFile, {"genotype": CELL, "budget": [KEPT]}, "budget.0.found", True, "budget.0.found: .*number, not True"),
        (GenotypeFile, {"genotype": CELL, "searched": JUDGED}, "searched.parts.cell.lead", "1", "searched.parts.cell.lead: .*not '1'"),
        (GenotypeFile, {"genotype": CELL, "searched": JUDGED}, "searched.new", 1, "searched.new: "),
        (CardFile, CARD, "device", "tpu", "device: .*not 'tpu'"),
        (CardFile, CARD, "threads", 1_000_000, "threads: .*less than or equal to 1024, not 1000000"),
        (CardFile, CARD, "preprocess.classes", [], "preprocess.classes: "),
        (CardFile, CARD, "preprocess.size", 0, "preprocess.size: .*not 0"),
        (CardFile, CARD, "preprocess.std", [0.0], "preprocess.std.0: .*greater than 0"),
        (CardFile, CARD, "preprocess.mean", [0.5, 0.5], "preprocess: mean has 2 numbers, and the images have 1 channels"),
        (CardFile, CARD, "data.streaming", True, "data.streaming: "),
        (LatencyFile, TABLE, "scale", -1.0, "scale: .*greater than 0, not -1.0"),
        (LatencyFile, TABLE, "base", float("nan"), "base: .*finite"),
        (LatencyFile, TABLE, "ops.cell.0", [0, 1, "none"], "ops.cell.0.*lacks 3|ops.cell.0"),
        (FrontFile, FRONT, "points.0.front", 1, "points.0.front: .*not 1"),
        (ImagesFile, IMAGES, "splits.train", -1, "splits.train: "),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_named(kind, whole, place, value, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(with_(whole, place, value)))
    with pytest.raises(ValueError, match=message) as caught:
        typed_json.read(path, kind)
    assert str(caught.value).startswith(f"{path} is damaged (") and "\n" not in str(caught.value)
    assert str(caught.value).endswith("): restore it from a copy, or begin again")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        "[]",
        "",
        "{",
        "null",
        '{"genotype": ' + "9" * 5000 + "}",
    ],
)
def test_what_is_no_object_is_refused(text, tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"genotype\.json is damaged \(.*\): restore it from"
    ) as caught:
        typed_json.read(path, GenotypeFile)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_a_complaint_is_one_line_of_300_characters(tmp_path, capsys):
    path = tmp_path / "derived.json"
    path.write_text(json.dumps({"genotype": CELL, "run": ["x" * 10**6]}))
    assert main(["show", str(path)]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith(f"archgrad: {path}: run: ")
        and error.count("\n") == 1
        and len(error) <= 300 + len("archgrad: \n")
    )


def test_a_genotype_reads_back_strictly():
    genotype = Genotype.parse("DARTS_V2")
    assert Genotype.from_json(json.loads(json.dumps(genotype.to_json()))) == genotype
    for data in (
        None,
        3,
        [],
        {},
        {"a": 3},
        {"a": {"links": [[0, 1.5, "x"]], "concat": []}},
        {"a": {"links": [], "concat": [True]}},
    ):
        with pytest.raises(ValueError):
            Genotype.from_json(data)


@pytest.mark.parametrize(
    ("place", "value"), [("cifar10_test", "x"), ("cifar10_test", True), ("cell", ...), ("cell", 3)]
)
def test_rows_of_a_benchmark_are_numbers_under_a_name(tmp_path, place, value):
    known = next(found for found in map(summary.read, RECORDED) if found["benchmark"])
    (tmp_path / "a.json").write_text(json.dumps(with_(known, f"benchmark.0.{place}", value)))
    with pytest.raises(ValueError, match=r"a\.json.*benchmark"):
        summary.read(tmp_path / "a.json")
