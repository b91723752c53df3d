"""What commands print for people and for programs: JSON, CSV, quiet commands, consoles without Unicode; devices and moved images."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from archgrad import data, terminal
from archgrad.arch.genotype import Genotype
from archgrad.bounds import check_device
from archgrad.cli import main
from archgrad.devices import device_named
from archgrad.retraining import evaluating
from archgrad.retraining.card import Card
from archgrad.retraining.evaluating import Evaluation, evaluate
from archgrad.retraining.execute import retrain
from archgrad.retraining.training import balanced_weights
from archgrad.run import catalogue
from retraining import darts, tiny, trained


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net") / "net"
    trained(folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of four images, a file that is none beside them."""
    for place in range(8):
        folder = tmp_path / "photos" / f"{'ab'[place % 2]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * place).save(folder / f"{place}é.png")
    (tmp_path / "photos" / "a" / "broken.png").write_text("no image")
    return tmp_path / "photos"


def of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main(list(command)) == 0
    return capsys.readouterr().out


def test_a_missing_path_and_an_unreadable_file_are_named_and_the_others_go_on(
    network, photos, capsys
):
    assert main(["predict", str(network), str(photos), str(photos / "none.png"), "--csv"]) == 1
    shown = capsys.readouterr()
    assert len(list(csv.reader(io.StringIO(shown.out)))) == 9
    assert (
        f"no such file or folder: {photos / 'none.png'}" in shown.err and "broken.png" in shown.err
    )
    assert main(["predict", str(network), str(photos / "none.png")]) == 2
    assert main(["predict", str(network), str(photos / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["refused"] == [] and [Path(row["file"]).name for row in found["images"]] == [
        "1é.png",
        "3é.png",
        "5é.png",
        "7é.png",
    ]
    assert (
        0 < found["images"][0]["probability"] <= 1
        and found["images"][0]["top"][0][0] == found["images"][0]["class"]
    )


@pytest.mark.parametrize("form", ["--csv", "--top"])
def test_a_console_without_unicode_loses_nothing(network, photos, form):
    more = ["--top", "2"] if form == "--top" else ["--csv"]
    (photos / "b" / "1é.png").rename(photos / "b" / "日本.png")
    code = "import sys; from archgrad.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "predict", str(network), str(photos / "b"), *more]
    done = subprocess.run(
        command,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    if form == "--csv":
        assert "日本.png" in done.stdout.decode("utf-8") and len(done.stdout.splitlines()) == 5
    else:
        assert rb"\u65e5\u672c.png" in done.stdout and "3é.png".encode("cp1252") in done.stdout


def test_json_of_what_is_listed(capsys):
    assert json.loads(of(capsys, "methods", "--json")).keys() == catalogue.methods().keys()
    assert (
        json.loads(of(capsys, "spaces", "--json"))["s4"]["cells"][1]
        == "reduce: 14 edges of 2 primitives at most"
    )
    assert (
        json.loads(of(capsys, "genotypes", "DARTS_V2", "--json"))["darts:DARTS_V2"]["params_M"] > 3
    )
    assert {"one": "stdarts", "other": "sddarts", "how": "composes"} in json.loads(
        of(capsys, "methods", "--pairs", "--json")
    )["pairs"]
    shown = json.loads(of(capsys, "show", "DARTS_V2", "--json"))
    assert shown["derived"]["channels"] == 36 and shown["benchmark"] is None
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    table = json.loads(of(capsys, "show", cell, "--json"))["benchmark"]
    assert table["cifar10_test"] == pytest.approx(93.76, abs=0.005) and table == json.loads(
        of(capsys, "query", "nasbench201", cell, "--json")
    )


def test_spaces_have_a_line_each(capsys):
    lines = of(capsys, "spaces").splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue.spaces()) and max(
        map(len, lines)
    ) <= 100
    assert (
        lines[0]
        == "darts          normal, reduce: 14 edges of 8 primitives at most (arXiv 1806.09055)"
    )


def test_a_quiet_command_prints_errors_and_json_alone(capsys):
    assert (
        of(capsys, "show", "DARTS_V2", "--quiet")
        == of(capsys, "count", "DARTS_V2", "--quiet")
        == ""
    )
    assert (
        of(capsys, "--quiet", "count", "DARTS_V2", "--json")
        == of(capsys, "count", "DARTS_V2", "--json")
        != ""
    )
    assert main(["show", "DARTS_V22", "--quiet"]) == 2
    assert "unknown" in capsys.readouterr().err
    assert of(capsys, "count", "DARTS_V2") != ""  # the next command prints again
    assert not terminal.QUIET.get()


def test_a_word_without_a_flag_is_refused_with_a_hint_at_the_flags(capsys):
    assert main(["search", "digits"]) == 2
    assert "unexpected word 'digits': name images by --data" in capsys.readouterr().err


def test_completion_can_be_installed(capsys):
    assert "--install-completion" in of(capsys, "--help")


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cuda:", "mps", "cuda:1000000"])
def test_unknown_devices_are_refused(name, capsys):
    assert main(["search", "--data", "digits", "--device", name]) == 2
    shown = capsys.readouterr().err
    assert "float64" in shown if name == "mps" else f"unknown device '{name}'" in shown


def test_a_gpu_is_taken_by_its_number(monkeypatch):
    assert check_device("cuda:1") == "cuda:1"
    with pytest.raises(
        ValueError,
        match="device cuda:1: this machine has no CUDA GPU; use another one, such as cpu",
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        device_named("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_named(name) for name in ("auto", "cpu", "cuda", "cuda:1")] == [
        "cuda",
        "cpu",
        "cuda",
        "cuda:1",
    ]
    with pytest.raises(
        ValueError,
        match="device cuda:2: this machine has 2 GPUs, of which cuda:0 is the first; use another one, such as cpu",
    ):
        device_named("cuda:2")


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_averages_over_classes_are_those_of_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

    confusion = torch.tensor(
        [[50, 5, 1, 0], [3, 4, 0, 1], [0, 0, 7, 0], [0, 0, 0, 0]]
    )  # no image of the last class
    found = Evaluation(0.9, 0.1, int(confusion.sum()), tuple("abcd"), confusion, "x")
    true, guessed = zip(
        *(
            (row, column)
            for row in range(4)
            for column in range(4)
            for _ in range(confusion[row, column])
        ),
        strict=True,
    )
    averages = found.averages
    assert averages["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, guessed))
    assert averages["macro_recall"] == pytest.approx(
        recall_score(true, guessed, labels=[0, 1, 2], average="macro")
    )
    assert averages["macro_f1"] == pytest.approx(
        f1_score(true, guessed, labels=[0, 1, 2], average="macro")
    )
    assert found.largest == 56 / 71 and found.to_json().keys() >= averages.keys()


def test_balanced_weights_are_those_of_scikit_learn_and_change_the_training(tmp_path):
    import numpy
    from sklearn.utils.class_weight import compute_class_weight

    counts = [60, 30, 10]
    labels = numpy.repeat(numpy.arange(3), counts)
    assert balanced_weights(counts).tolist() == pytest.approx(
        compute_class_weight("balanced", classes=numpy.arange(3), y=labels)
    )
    assert balanced_weights([4, 0]).tolist() == [0.5, 0.0]
    equal, weighted = (
        trained(tmp_path / "equal"),
        trained(tmp_path / "weighted", class_weights="balanced"),
    )
    assert equal.rows[0]["train_loss"] != weighted.rows[0]["train_loss"]


def test_an_evaluation_leaves_out_what_cannot_be_read(network, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place in range(4):
        folder = tmp_path / "photos" / str(place % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 6 * place).save(folder / f"{place}.png")
    (tmp_path / "photos" / "0" / "0.png").write_bytes(b"nothing")
    asked = ["evaluate", str(network), "--data", str(tmp_path / "photos")]
    assert main(asked) == 2
    assert capsys.readouterr().err.endswith(
        "mend or remove it, or leave out such images by --skip-unreadable\n"
    )
    assert main([*asked, "--skip-unreadable"]) == 0 and "3 images: " in capsys.readouterr().out


def test_a_network_finds_its_images_where_they_were_moved(tmp_path, capsys):
    for place in range(40):
        folder = tmp_path / "photos" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 6 * place).save(folder / f"{place}.png")
    settings = {"path": str(tmp_path / "photos"), "cache": str(tmp_path / "cache")}
    loaded = data.load(**settings, report=lambda line: None)
    space, genotype, recipe = (
        darts().resized(classes=2),
        Genotype.parse("DARTS_V2"),
        tiny(batch=8, limit=None),
    )
    retrain(
        space, genotype, loaded, recipe, tmp_path / "net", origin=settings, report=lambda line: None
    )
    before = evaluate(tmp_path / "net")
    shutil.move(tmp_path / "photos", tmp_path / "new place")
    assert main(["evaluate", str(tmp_path / "net")]) == 2
    assert "If the images have moved, give their new path with --data" in capsys.readouterr().err
    again = evaluate(tmp_path / "net", tmp_path / "new place")
    assert (again.accuracy, again.loss, again.count) == (before.accuracy, before.loss, before.count)
    assert again.count < 40  # those that it was trained on are not among them
    assert "may have trained" not in capsys.readouterr().err
    (tmp_path / "new place" / "a" / "0.png").unlink()
    assert main(["evaluate", str(tmp_path / "net"), "--data", str(tmp_path / "new place")]) == 0
    told = capsys.readouterr()
    assert "39 images" in told.out and "These images may have trained the network" in told.err
    assert "(the files, their labels or their order differ)" in told.err
    shutil.rmtree(tmp_path / "new place" / "b")
    evaluate(tmp_path / "net", tmp_path / "new place")
    assert (
        "has one class only" in (said := capsys.readouterr().err)
        and "These images may have trained the network" in said
    )


def test_a_name_of_a_hub_set_is_not_taken_for_a_moved_folder(network, photos, monkeypatch):
    """Of other images these alone are read, not what a search would read of them."""
    card = json.loads((network / "network.json").read_text())
    own = replace(Card.from_json(card), data={"path": "cifar10"})
    monkeypatch.setattr(
        data, "load", lambda *_, **__: pytest.fail("it was read as the network's own images")
    )
    monkeypatch.setattr(data, "load_labelled", lambda *_, **__: None)
    _, images = evaluating._test_images(own, photos, None, {})
    assert images == str(photos)


def test_a_network_of_a_relative_path_is_told_where_its_images_go(network):
    card = replace(
        Card.from_json(json.loads((network / "network.json").read_text())),
        data={"path": "photos/gone"},
    )
    with pytest.raises(
        ValueError, match="If the images have moved, give their new path with --data"
    ):
        evaluating._test_images(card, None, None, {})
