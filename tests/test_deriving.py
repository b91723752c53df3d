"""A budget from the command line to the result: kept, said, asked anew of a finished search; the front of what was seen."""

from __future__ import annotations

import json

import pytest

from archgrad.cli import main
from archgrad.cost.target import Target
from archgrad.run.front import Point, front, of_epochs
from archgrad.run.sections import BudgetSettings
from running import SMALL


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A search under two budgets."""
    folder = tmp_path_factory.mktemp("derive") / "run"
    assert (
        main(["search", *SMALL, "--budget", "macs=30%", "params=0.4M", "--out", str(folder)]) == 0
    )
    return folder


def test_a_search_keeps_its_budgets_and_says_so(finished, capsys):
    content = json.loads((finished / "genotype.json").read_text())
    by_name = {one["cost"]: one for one in content["budget"]}
    assert set(by_name) == {"macs", "params"} and all(
        one["found"] <= one["budget"] for one in by_name.values()
    )
    assert main(["count", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        name: one["found"] for name, one in by_name.items()
    }  # exactly
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert all(
        row["macs"] <= by_name["macs"]["budget"] and row["macs_multiplier"] >= 0 for row in rows
    )
    assert main(["show", str(finished)]) == 0 and main(["query", "nasbench201", str(finished)]) == 0
    assert capsys.readouterr().out.count("params: ") == 2


def test_another_budget_of_the_same_search(finished, tmp_path, capsys):
    found = []
    for share in (5, 40, 100):
        assert main(["derive", str(finished), "--budget", f"macs={share}%", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert (
        all(one["budget"][0]["found"] <= one["budget"][0]["budget"] for one in found)
        and found[0]["text"] != found[2]["text"]
    )
    file = tmp_path / "small.json"
    assert (
        main(["derive", str(finished), "--budget", "macs=5%,pixel3=12ms", "--out", str(file)]) == 0
    )
    said = capsys.readouterr().out
    assert "to spare" in said and "pixel3: " in said and f"archgrad retrain {file}" in said
    assert "budget macs=" in said and "networks of this space cost " in said
    assert main(["count", str(file), "--json"]) == 0  # as the run's recipe and images have it
    counted, kept = (
        json.loads(capsys.readouterr().out)["macs"],
        json.loads(file.read_text())["budget"],
    )
    assert counted == {one["cost"]: one["found"] for one in kept}["macs"]
    assert main(["show", str(file)]) == 0
    assert (
        "macs: " in (said := capsys.readouterr().out)
        and "it does not hold for" not in said
        and "as in the table" in said
    )
    assert main(["show", str(file), "--channels", "24"]) == 0
    assert (
        "was counted at 16 channels, 5 cells, 8x8 images, so it does not hold for 24 channels"
        in capsys.readouterr().out
    )
    assert (
        main(["derive", str(finished), "--budget", "macs=5%", "--out", str(file)]) == 2
        and "is there already" in capsys.readouterr().err
    )


def test_what_was_derived_is_retrained_as_its_run_would_have_been(finished, tmp_path, capsys):
    file = tmp_path / "small.json"
    assert main(["derive", str(finished), "--budget", "macs=5%", "--out", str(file)]) == 0
    less = [
        "--retrain.preset",
        "quick",
        "--retrain.epochs",
        "1",
        "--retrain.limit",
        "40",
        "--threads",
        "1",
    ]
    assert main(["retrain", str(file), *less]) == 0
    said = capsys.readouterr().out
    assert (
        "digits: " in said and "it does not hold for" in said
    )  # of the smaller network that `quick` builds
    assert (
        finished / "retrain-small" / "network.json"
    ).exists() and f"archgrad evaluate {finished / 'retrain-small'}" in said
    assert (
        main(["retrain", str(file), "--space", "nasbench201"]) == 2
        and "leave out --space" in capsys.readouterr().err
    )
    gone = tmp_path / "gone.json"
    gone.write_text(json.dumps(json.loads(file.read_text()) | {"run": str(tmp_path / "nowhere")}))
    assert main(["show", str(gone)]) == 2
    assert (
        'which is missing now: give the genotype that stands in it as "text"'
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("what", ["runs/nope", "nope.json"])
def test_a_path_that_is_not_there_is_no_genotype(what, capsys):
    for command in ("show", "count", "retrain"):
        assert main([command, what]) == 2
        assert f"there is no run folder and no file {what}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (["macs=1k"], "budget macs=1k is below the smallest network, which has 4"),
        (["macs=5X"], "unknown unit in budget macs=5X: 'X'"),
        (["macs=-5M"], "'macs=-5M': a budget must be a finite number above 0"),
        (["macs"], "'macs' is not of the form NAME=NUMBER with a unit"),
        (["flops=5M"], "unknown cost in a budget: 'flops'"),
        (["params=120%"], "budget params=120%: the largest network of the space is 100%"),
        (
            ["macs=5M", "macs=4M"],
            "one budget of each cost is expected, and macs has several, not ['macs=5M', 'macs=4M']",
        ),
        (["latency=5ms"], "no latency of these networks was measured on"),
        (["pixel3=12"], "budget pixel3=12 needs a unit (ms, us, s, %)"),
    ],
)
def test_an_impossible_budget_is_refused_in_one_line(finished, capsys, budget, message):
    assert main(["derive", str(finished), "--budget", *budget]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert main(["search", *SMALL, "--budget", *budget, "--out", str(finished / "never")]) == 2
    assert message in capsys.readouterr().err and not (finished / "never").exists()


def test_a_method_without_alphas_has_nothing_to_derive(tmp_path, capsys):
    assert (
        main(
            [
                "search",
                *SMALL,
                "--method",
                "rsws",
                "--rsws.samples",
                "3",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    assert main(["derive", str(tmp_path / "run"), "--budget", "macs=50%"]) == 2
    assert (
        "rsws moves no alphas, so no other architecture can be derived" in capsys.readouterr().err
    )


def test_a_budget_of_a_device_is_the_tables_own_number(tmp_path, capsys):
    """Whose fit by ops promises less than any cell has: the front must not fall over what only the fit allows."""
    out = tmp_path / "run"
    assert main(["search", *SMALL, "--budget", "1080ti_32=6ms,macs=80%", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "1080ti_32: " in said and "Pareto front" in said and (out / "front.json").exists()
    assert json.loads((out / "genotype.json").read_text())["budget"][0]["found"] <= 6


def test_a_recipe_that_cannot_be_is_refused_before_the_search(tmp_path, capsys):
    file = tmp_path / "bad.yaml"
    file.write_text("retrain: {preset: nope}\n")
    assert main(["search", "--config", str(file), *SMALL, "--out", str(tmp_path / "run")]) == 2
    assert "unknown preset 'nope'" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["darts", "random"])
def test_a_part_of_a_space_that_no_table_knows(tmp_path, capsys, method):
    part = [
        "--data",
        "digits",
        "--space",
        "nasbenchmacro",
        "--space.channels",
        "4",
        "--space.primitives",
        "skip_connect",
        "mb4_k3",
    ]
    part += [
        "--search.limit",
        "40",
        "--search.batch",
        "20",
        "--search.epochs",
        "4",
        "--threads",
        "1",
        "--method",
        method,
    ]
    assert main(["search", *part, "--budget", "macs=50%", "--out", str(tmp_path / "run")]) == 0
    assert main(["show", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "mb3_k3" not in said and "Measurements of this" not in said and said.count("macs: ") == 2


def test_a_budget_for_images_of_another_size(tmp_path, capsys):
    out = tmp_path / "run"
    small = ["macs=20M", "--budget.size", "32", "--out", str(out)]
    assert main(["search", *SMALL, "--budget", *small]) == 0
    found = json.loads((out / "genotype.json").read_text())["budget"][0]["found"]
    capsys.readouterr()
    assert main(["count", str(out), "--size", "32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["macs"] == found <= 20e6


def test_a_gpu_that_is_not_there(finished, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        main(
            [
                "search",
                *SMALL,
                "--budget",
                "latency=5ms",
                "--budget.latency-device",
                "cuda",
                "--out",
                str(finished / "no"),
            ]
        )
        == 2
    )
    assert (
        "this machine has no CUDA GPU, so no latency on cuda can be measured"
        in capsys.readouterr().err
    )


def test_budgets_as_files_and_flags_say_them():
    for given in (["macs=300M", "params=60%"], "macs=300M,params=60%"):
        read = BudgetSettings(targets=given)
        assert read.targets == (Target("macs", 300.0, "M"), Target("params", 60.0, "%"))
        assert BudgetSettings(targets=read.targets) == read
        assert json.loads(read.model_dump_json())["targets"] == ["macs=300M", "params=60%"]
    assert Target.parse(" latency = 1.5e1ms ") == Target("latency", 15.0, "ms")


@pytest.mark.parametrize(
    "text", ["macs=0.1G", "macs=123456789", "params=1e+22", "latency=1.0625us"]
)
def test_a_budget_is_written_as_the_text_that_reads_it(text):
    assert str(Target.parse(text)) == text and Target.parse(
        str(Target.parse(text))
    ) == Target.parse(text)


def test_the_front_has_the_networks_that_no_other_beats():
    points = [
        Point("a", 1, 0.2, ""),
        Point("b", 2, 0.1, ""),
        Point("c", 3, 0.5, ""),
        Point("d", 3, 0.4, ""),
        Point("e", 4, 0.5, ""),
    ]
    assert (
        [point.genotype for point in front(points)]
        == ["a", "c"]
        == [point.genotype for point in front(points[::-1])]
    )


def test_a_finished_search_stores_its_front(finished):
    stored = json.loads((finished / "front.json").read_text())
    assert stored["cost"] == "macs" and {"epoch 3", "end"} <= {
        point["seen"] for point in stored["points"]
    }
    best = sorted(
        (point for point in stored["points"] if point["front"]), key=lambda point: point["cost"]
    )
    assert best and [point["accuracy"] for point in best] == sorted(
        {point["accuracy"] for point in best}
    )
    for point in stored["points"]:
        assert any(
            other["cost"] <= point["cost"] and other["accuracy"] >= point["accuracy"]
            for other in best
        )


def test_random_search_has_a_front_of_its_draws():
    from archgrad.cost.cost import by_primitive
    from archgrad.spaces import space

    groups = space("nasbench201").groups
    cost = by_primitive(
        "macs",
        groups,
        {p: float(k) for k, p in enumerate(groups["cell"].edges[0].primitives) if p != "none"},
    )
    cell = "|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|"
    rows = [{"epoch": 0, "genotype": cell}, {"epoch": 1, "genotype": cell, "draw_accuracy": 0.25}]
    assert of_epochs(rows, cost) == [Point(cell, 5.0, 0.25, "epoch 2")]
