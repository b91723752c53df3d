"""The command line: what it prints, what it refuses, with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from archgrad.arch.genotype import Genotype
from archgrad.cli import main, spelled
from archgrad.retraining.training import Training
from archgrad.run import execute
from running import SMALL

COMMANDS = "search resume compare retrain evaluate predict show count query methods spaces"
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A search and a retraining, by the commands a user types."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["search", *SMALL, "--out", str(folder)]) == 0
    recipe = [
        "--retrain.preset",
        "quick",
        "--retrain.epochs",
        "2",
        "--retrain.channels",
        "2",
        "--retrain.limit",
        "200",
    ]
    assert main(["retrain", str(folder), *recipe]) == 0
    return folder


def refused(capsys, *arguments: str) -> str:
    """The one line on stderr of a command that ends with code 2."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("archgrad: ") and error.count("\n") == 1
    return error


def test_help_does_not_import_torch():
    code = "import sys\nfrom archgrad.cli import main\nmain(['--help'])\nassert not {'torch', 'datasets', 'matplotlib'} & sys.modules.keys()"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert all(command in shown.stdout for command in COMMANDS.split())


@pytest.mark.parametrize("command", COMMANDS.split())
def test_each_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"Usage: archgrad {command}" in capsys.readouterr().out


def test_search_help_lists_the_options_of_every_section(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    main(["search", "--help-all"])
    shown = capsys.readouterr().out
    flags = "--method --seed --device --search.epochs --data.image-column --space.channels --weights.lr-end --alphas.beta1 --darts.order"
    assert all(flag in shown for flag in [*flags.split(), "--random.draws"])
    assert "alpha_first, weight_first" in shown and "default: 4" in shown


def test_flags_are_spelled_alike():
    assert spelled(["search", "--data", "a_b", "--data.label_column=x_y", "--space=darts"]) == [
        "search", "--data.path", "a_b", "--data.label-column=x_y", "--space.name=darts",
    ]  # fmt: skip
    assert spelled(["evaluate", "run", "--data", "x"]) == ["evaluate", "run", "--data", "x"]


def test_a_file_and_flags_over_it(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "search: {epochs: 7, batch: 8}\ndata: digits\ndarts: {hypergradient: second_order}\n"
    )
    assert (
        main(
            [
                "search",
                "--config",
                str(recipe),
                "--search.epochs",
                "3",
                "--darts.order",
                "alpha_first",
                "--dry-run",
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert (
        "epochs: 3" in shown
        and "batch: 8" in shown
        and "hypergradient: second_order" in shown
        and "order: alpha_first" in shown
    )


def test_a_search_says_what_it_does(tmp_path, capsys):
    assert main(["search", *SMALL, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert (
        "10 classes, 1,438 training images" in shown
        and "359 of 1,797 images (20% of every class) are held out" in shown
    )
    assert (
        "60 images train the weights, 60 train the alphas" in shown
        and "3 epochs of 3 steps" in shown
    )
    assert shown.count("entropy") == 3
    assert "93.76 %" in shown and "of 15,625" in shown  # the bar
    assert "cells.svg" in shown and f"archgrad retrain {tmp_path / 'run'}" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits", "--method", "dart"], "unknown method 'dart': did you mean 'darts'?"),
        (
            ["--data", "digits", "--space", "nasbench"],
            "unknown space 'nasbench': did you mean 'nasbench201'?",
        ),
        (["--data", "digits", "--drats.order", "weight_first"], "Did you mean --darts.order?"),
        (["--data", "digits", "--darts.order", "weights_first"], 'Did you mean "weight_first"?'),
        (["--data", "digits", "--search.epochs", "many"], "--search.epochs"),
        (["--data", "digits", "--search.epochs", "-1"], "search.epochs: "),
        (["--data", "digits", "--weights.lr", "-1"], "weights.lr: "),
        (["--data", "digits", "--space.channels", "0"], "channels"),
        (["--data", "digits", "--space.nodes", "3"], "space nasbench201: unknown option 'nodes'"),
        (["--data", "digits", "--space.primitives", "skip_conect"], "did you mean 'skip_connect'"),
        (
            ["--data", "digits", "--random.draws", "3"],
            "section 'random' belongs to a method that is not used",
        ),
        (
            ["--data", "digits", "--method", "random", "--search.epochs", "2"],
            "4 stages: more epochs, or fewer stages by --random.draws",
        ),
        (["--data", "digits", "--data.size", "4"], "at least 8"),
        (["--data", "digits", "--config", "nowhere.yaml"], "no such file: nowhere.yaml"),
        (["--data", "nowhere/at/all"], "nowhere/at/all"),
        ([], "no images are named"),
        (["digits"], "digits"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "search", *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serch"], 'Unknown command "serch". Did you mean "search"?'),
        (["search", "--nosuch", "3"], "Unknown option: --nosuch."),
        (["show", "nowhere"], "nowhere"),
        (["resume", "nowhere"], "there is no run in nowhere"),
        (["evaluate", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_word_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"]])
def test_help_is_no_mistake(capsys, arguments):
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "archgrad" in said.out and not said.err


def test_a_missing_value_is_named_with_its_meaning(capsys):
    assert (
        "derive needs a value for --budget (upper limits of the costs, such as macs=300M"
        in refused(capsys, "derive", "run")
    )
    assert "resume needs FOLDER: add it, or read archgrad resume --help" in refused(
        capsys, "resume"
    )


def test_a_bad_key_names_its_file(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("search: {epoch: 3}\n")
    assert f"{recipe}: unknown option of search 'epoch': did you mean 'epochs'?" in refused(
        capsys, "search", "--config", str(recipe)
    )


def test_an_existing_run_is_left_alone(trained, capsys):
    before = (trained / "checkpoint.pt").read_bytes()
    assert "archgrad resume" in refused(capsys, "search", *SMALL, "--out", str(trained))
    assert "holds a network already: see `archgrad evaluate " in refused(
        capsys, "retrain", str(trained)
    )
    assert (trained / "checkpoint.pt").read_bytes() == before


def test_resume_of_a_finished_run_changes_nothing(trained, capsys):
    assert main(["resume", str(trained)]) == 0
    assert "is finished" in capsys.readouterr().out


def test_resume_without_a_run_is_refused(tmp_path, capsys):
    assert "there is no run in" in refused(capsys, "resume", str(tmp_path))


def test_unexpected_errors_keep_their_traceback(monkeypatch):

    def broken(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(execute, "search", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["search", *SMALL])


def test_evaluate_says_what_retrain_said(trained, capsys):
    assert main(["evaluate", str(trained)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()[:3]
    rows = [
        json.loads(line)
        for line in (trained / "retrain" / "metrics.jsonl").read_text().splitlines()
    ]
    assert first == f"test accuracy {100 * rows[-1]['test_accuracy']:.2f} %" and third.startswith(
        "359 images"
    )
    assert second.startswith("balanced accuracy (macro recall) ") and second.endswith(
        " % of the images"
    )
    assert main(["evaluate", str(trained), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == rows[-1]["test_accuracy"]


def test_evaluate_before_retrain(tmp_path, capsys):
    assert "there is neither a run nor a trained network" in refused(
        capsys, "evaluate", str(tmp_path)
    )
    (tmp_path / "config.yaml").touch()
    assert "archgrad retrain" in refused(capsys, "evaluate", str(tmp_path))


def test_predict(trained, tmp_path, capsys):
    for name in ("one", "two"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{name}.png")
    assert main(["predict", str(trained), str(tmp_path), "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "file,class,probability"
        and len(lines) == 3
        and lines[1].startswith(str(tmp_path / "one.png"))
    )
    assert main(["predict", str(trained), str(tmp_path / "one.png"), "--top", "3"]) == 0
    assert "%" in capsys.readouterr().out
    assert "which images?" in refused(capsys, "predict", str(trained))


def test_retrain_of_a_name_stopped_and_resumed(tmp_path, capsys, monkeypatch):
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "net"
    recipe.write_text(
        "data: digits\nretrain: {preset: quick, epochs: 1, channels: 2, cells: 3, limit: 100, batch: 9}\n"
    )

    def stop(training, batch, real=Training.advance):
        real(training, batch)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Training, "advance", stop)
        assert (
            main(
                [
                    "retrain",
                    "DARTS_V2",
                    "--config",
                    str(recipe),
                    "--retrain.batch",
                    "20",
                    "--out",
                    str(folder),
                ]
            )
            == 130
        )
    assert f"archgrad resume {folder}" in capsys.readouterr().out
    assert main(["resume", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert (
        "step 1, 1 epoch of 5 steps, batch 20, quick recipe" in shown and "test accuracy" in shown
    )
    assert main(["resume", str(folder)]) == 0
    assert "is finished" in capsys.readouterr().out


def test_retrain_refuses(tmp_path, trained, capsys):
    unknown = ["--data", "digits", "--retrain.preset", "fast", "--out", str(tmp_path / "other")]
    assert "unknown preset" in refused(capsys, "retrain", "DARTS_V2", *unknown)
    assert "no images are named" in refused(capsys, "retrain", "DARTS_V2")
    assert "leave out --space" in refused(
        capsys, "retrain", str(trained), "--space", "darts", "--out", str(tmp_path / "other")
    )
    assert not list(tmp_path.iterdir())


def test_a_found_cell_is_trained_on_other_images(trained, tmp_path, capsys):
    for i in range(24):
        place = tmp_path / "images" / "abc"[i % 3] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 10 * i, np.uint8)).save(place)
    recipe = [
        "--retrain.preset",
        "quick",
        "--retrain.epochs",
        "1",
        "--retrain.channels",
        "2",
        "--data.cache",
        str(tmp_path / "cache"),
    ]
    assert (
        main(
            [
                "retrain",
                str(trained),
                "--data",
                str(tmp_path / "images"),
                *recipe,
                "--out",
                str(tmp_path / "net"),
            ]
        )
        == 0
    )
    assert "3 classes" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "net")]) == 0


def test_show_a_run(trained, capsys):
    assert main(["show", str(trained)]) == 0
    shown = capsys.readouterr().out
    assert (
        "2 channels, 1 cell, 8x8 images, 10 classes" in shown
        and str(trained / "cells.svg") in shown
        and "rank on CIFAR-10" in shown
    )


def test_show_a_genotype(tmp_path, capsys):
    assert main(["show", "DARTS_V1", "--svg", str(tmp_path / "cells.svg")]) == 0
    assert (
        "3,169,414 parameters" in capsys.readouterr().out
        and "<svg" in (tmp_path / "cells.svg").read_text()
    )


def test_count(tmp_path, capsys):
    assert (
        main(
            [
                "count",
                "DARTS_V2",
                "--space",
                "darts",
                "--channels",
                "36",
                "--cells",
                "20",
                "--classes",
                "10",
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out) == {"params": 3349342, "macs": 528359040}
    (tmp_path / "found.txt").write_text(BEST)
    assert main(["count", str(tmp_path / "found.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 1288506
    assert (
        main(["count", "DARTS_V2", "--size", "224", "--classes", "1000", "--json"]) == 0
    )  # the ImageNet net: C=48, 14 cells
    assert json.loads(capsys.readouterr().out)["params"] == 4718752


def test_count_refuses(capsys):
    assert "the space has" in refused(capsys, "count", "DARTS_V2", "--space", "nasbench201")
    assert "did you mean 'DARTS_V2'" in refused(capsys, "count", "DARTS_V3")
    assert "channels must be" in refused(capsys, "count", "DARTS_V2", "--channels", "0")
    assert "unknown space" in refused(capsys, "count", "DARTS_V2", "--space", "dart")


def test_query(capsys):
    assert main(["query", "nasbench201", BEST, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cifar10_test"] == 94.363 and found["rank"] == 3 and found["params"] == 1288506
    assert main(["query", "nasbench201", BEST, "--device", "pixel3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pixel3_ms"] > 1
    assert (
        "unknown device of the NAS-Bench-201 latencies 'pixel33': did you mean 'pixel3'?"
        in refused(capsys, "query", "nasbench201", BEST, "--device", "pixel33")
    )
    assert "no latencies of nasbenchmacro are bundled" in refused(
        capsys, "query", "nasbenchmacro", "02012100", "--device", "pixel3"
    )
    assert "unknown benchmark 'nasbench101': did you mean 'nasbench201'?" in refused(
        capsys, "query", "nasbench101", BEST
    )
    assert "NAS-Bench-201" in refused(capsys, "query", "nasbench201", "DARTS_V2")


def test_methods_and_spaces_name_their_papers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["methods"]) == 0 and main(["spaces"]) == 0
    shown = capsys.readouterr().out
    assert all(paper in shown for paper in ("1806.09055", "1902.07638", "1909.09656", "2001.00326"))


def test_a_genotype_longer_than_a_files_name(capsys):
    """As a search prints it: 400 characters are no path."""
    text = str(Genotype.parse("DARTS_V2"))
    assert len(text) > 255
    for command in (["count", text], ["show", text]):
        assert main(command) == 0
    assert "no images are named" in refused(capsys, "retrain", text)


@pytest.mark.parametrize("value", ["1.5", "two"])
def test_a_number_of_things_is_whole(value, capsys):
    assert main(["search", "--data", "digits", "--search.epochs", value, "--dry-run"]) == 2
    assert f"--search.epochs: '{value}' is no whole number" in capsys.readouterr().err
