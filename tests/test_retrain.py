"""Recipes, schedules, what each setting does, and that an interrupted retraining ends bit for bit where the uninterrupted one does."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.genotype import Genotype
from archgrad.arch.passes import Batch
from archgrad.data import retrain_data
from archgrad.observers.interrupts import Interrupted
from archgrad.retraining import progress as retrain_progress
from archgrad.retraining.card import Card, load, read_card
from archgrad.retraining.execute import resume, retrain
from archgrad.retraining.settings import PRESETS, RetrainSettings, retrain_settings
from archgrad.retraining.training import Training
from archgrad.searching import checkpoint
from archgrad.spaces import space
from archgrad.storage.records import read_measured
from retraining import DIGITS_1, TINY, darts, digits, stop_at, tiny, trained


def quiet(line: str) -> None: ...


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    trained(folder)
    return folder


def outcome(folder: Path) -> Any:
    """Return the content of a training's folder without the seconds."""
    metrics = [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in read_measured(folder / "metrics.jsonl")
    ]
    return metrics, (folder / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def card(whole: Path) -> Card:
    return read_card(whole)


def fresh(card: Card, **given: Any) -> Training:
    """The tiny network before its first step, under these settings."""
    return Training(replace(card, settings=tiny(**given)))


def first_batch() -> Batch:
    return next(retrain_data(digits(), batch=32, seed=3, limit=100, cutout=4).batches("train"))


def stepped(card: Card, **given: Any) -> Training:
    """Return the tiny network after its first step."""
    run = fresh(card, **given)
    run.advance(first_batch())
    return run


# Recipes.


@pytest.mark.parametrize(
    "name, numbers",
    {
        "cifar": {"batch": 96, "lr": 0.025, "lr_end": 0, "schedule": "cosine", "epochs": 600, "decay": 3e-4, "drop_path": 0.2, "cutout": 16,
                  "auxiliary": 0.4, "clip": 5, "channels": 36, "cells": 20, "momentum": 0.9, "nesterov": False, "label_smoothing": 0},
        "imagenet": {"batch": 1024, "lr": 0.5, "warmup": 5, "epochs": 250, "decay": 3e-5, "label_smoothing": 0.1, "auxiliary": 0.4,
                     "channels": 48, "cells": 14, "clip": 5, "drop_path": 0, "cutout": 0, "auxiliary_bn": False},
        "pdarts": {"batch": 1024, "lr": 0.5, "warmup": 5, "epochs": 250, "auxiliary": 0.4, "auxiliary_bn": True, "channels": 48, "cells": 14},
        "nasbench201": {"epochs": 200, "lr": 0.1, "lr_end": 0, "schedule": "cosine", "nesterov": True, "decay": 5e-4, "batch": 256,
                        "channels": 16, "cells": 5, "cutout": 0, "drop_path": 0, "auxiliary": 0, "clip": 0},
    }.items(),
)  # fmt: skip
def test_a_preset_has_the_numbers_of_its_paper(name: str, numbers: dict[str, Any]) -> None:
    preset = PRESETS[name]
    assert {field: getattr(preset, field) for field in numbers} == numbers
    assert preset.preset == name


def test_the_recipe_follows_from_space_and_stem() -> None:
    assert retrain_settings(space("darts")).preset == "cifar"
    assert retrain_settings(space("s3")).preset == "cifar"
    assert retrain_settings(space("darts", stem="imagenet")).preset == "imagenet"
    assert retrain_settings(space("nasbench201")).preset == "nasbench201"
    assert retrain_settings(space("nasbench201"), {"preset": "cifar"}).cells == 20


def test_quick_is_small_in_each_space() -> None:
    assert retrain_settings(space("darts"), {"preset": "quick"}).cells == 5
    assert retrain_settings(space("nasbench201"), {"preset": "quick"}).cells == 1  # a stage
    assert retrain_settings(space("nasbench201"), {"preset": "quick", "cells": 2}).cells == 2


@pytest.mark.parametrize(
    "given, message",
    [
        ({"epochs": 0}, "retrain.epochs: .* not 0"),
        ({"lr": -1.0}, "retrain.lr: "),
        ({"drop_path": 1.0}, "retrain.drop_path: "),
        ({"preset": "cifr"}, "unknown preset 'cifr': did you mean 'cifar'"),
        ({"epoch": 3}, "unknown option of retrain 'epoch': did you mean 'epochs'"),
        ({"precision": "8"}, "retrain.precision: "),
    ],
)
def test_bad_settings_are_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        retrain_settings(space("darts"), given)
    assert "\n" not in str(error.value)


# Schedules.


def test_cosine_moves_once_an_epoch_as_in_quark0() -> None:
    cifar = PRESETS["cifar"]
    assert [cifar.learning_rate_at(e) for e in (0, 300, 599)] == pytest.approx(
        [0.025, 0.0125, 0.0125 * (1 + math.cos(math.pi * 599 / 600))]
    )


def test_linear_with_warmup_as_in_pdarts() -> None:
    imagenet = PRESETS["imagenet"]
    assert [imagenet.learning_rate_at(e) for e in (0, 1)] == pytest.approx([0.1, 0.2 * 244 / 245])
    assert [imagenet.learning_rate_at(e) for e in (5, 244, 245, 249)] == pytest.approx(
        [0.5 * 240 / 245, 0.5 / 245, 0.5 / 245, 0.5 / (245 * 5)]
    )


@pytest.mark.parametrize("epochs", [1, 2, 7, 50])
@pytest.mark.parametrize("name", PRESETS)
def test_any_length_trains_at_a_positive_rate(name: str, epochs: int) -> None:
    settings = replace(PRESETS[name], epochs=epochs)
    assert all(0 < settings.learning_rate_at(epoch) <= settings.lr for epoch in range(epochs))


def test_drop_path_rises_linearly_and_cutout_is_at_most_half_the_image() -> None:
    cifar = PRESETS["cifar"]
    assert [cifar.drop_path_at(e) for e in (0, 300)] == pytest.approx([0.0, 0.1])
    assert [cifar.cutout_side(size) for size in (8, 28, 32, 64)] == [4, 14, 16, 16]


# What each setting does.


def test_label_smoothing_and_auxiliary_head_are_in_the_loss(card: Card) -> None:
    plain, smoothed, headed = (
        {"auxiliary": 0.0, "drop_path": 0.0} | more
        for more in ({}, {"label_smoothing": 0.3}, {"auxiliary": 0.4})
    )
    runs = [stepped(card, **given) for given in (plain, smoothed, headed)]
    assert [run.derived.network.auxiliary is None for run in runs] == [True, True, False]
    losses = [run.averages()["train_loss"] for run in runs]
    assert losses[1] != losses[0]
    assert losses[2] > losses[0]  # the same network and batch, and a second loss on top
    assert len({run.averages()["train_accuracy"] for run in runs}) == 1


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_the_second_batchnorm_of_the_imagenet_head_is_an_option(card: Card, stem: str) -> None:
    def heads(**given: Any) -> list[str]:
        settings = retrain_settings(space("darts", stem=stem), {"preset": "imagenet", **given})
        network = (
            replace(card, spec={**card.spec, "stem": stem}, settings=settings)
            .build(auxiliary=True)
            .network
        )
        return [
            name
            for name, module in network.auxiliary.named_children()
            if isinstance(module, torch.nn.BatchNorm2d)
        ]

    assert heads() == (["bn1"] if stem == "imagenet" else ["bn1", "bn2"])
    assert heads(auxiliary_bn=True) == heads(preset="pdarts") == ["bn1", "bn2"]
    recorded = {
        name: value for name, value in card.to_json()["settings"].items() if name != "auxiliary_bn"
    }
    assert not Card.from_json(
        {**card.to_json(), "settings": recorded}
    ).settings.auxiliary_bn  # of before the option was there


def test_the_loss_of_a_step_by_hand(card: Card) -> None:
    settings = {"auxiliary": 0.5, "label_smoothing": 0.2, "drop_path": 0.0}
    batch = first_batch()
    output = fresh(card, **settings).derived.network.train()(batch.images)

    def loss(
        logits: torch.Tensor,
    ) -> torch.Tensor:  # cross-entropy with 1 - e + e / K on the true class, e / K on the others
        target = F.one_hot(batch.labels, 10) * 0.8 + 0.02
        return -(target * logits.log_softmax(1)).sum(1).mean()

    by_hand = loss(output.logits) + 0.5 * loss(output.auxiliary)
    assert stepped(card, **settings).averages()["train_loss"] == pytest.approx(
        by_hand.item(), rel=1e-5
    )


def test_drop_path_acts_from_the_second_epoch_on(card: Card) -> None:
    def weights(epoch: int, drop_path: float) -> torch.Tensor:
        run = fresh(card, drop_path=drop_path)
        run.epoch = epoch
        run.advance(first_batch())
        return run.derived.network.classifier.weight.detach()

    assert torch.equal(weights(0, 0.0), weights(0, 0.6))
    assert not torch.equal(weights(1, 0.0), weights(1, 0.6))


def test_clipping_bounds_the_step(card: Card) -> None:
    def moved(clip: float) -> float:
        settings = {"clip": clip, "momentum": 0.0, "decay": 0.0, "lr": 1.0}
        before = fresh(card, **settings).derived.state_dict()
        after = stepped(card, **settings).derived.named_parameters()
        return math.sqrt(
            sum((p.detach() - before[name]).square().sum().item() for name, p in after)
        )

    assert moved(1e-3) == pytest.approx(1e-3, rel=1e-2)
    assert moved(0.0) > 1e-2


def test_bf16_runs_on_a_cpu_and_keeps_the_weights_in_float32(card: Card) -> None:
    half, full = stepped(card, precision="bf16-mixed"), stepped(card, precision="32")
    assert math.isfinite(half.averages()["train_loss"])
    assert all(p.dtype == torch.float32 for p in half.derived.parameters())
    assert not torch.equal(
        half.derived.network.classifier.weight, full.derived.network.classifier.weight
    )
    with pytest.raises(ValueError, match="16-mixed needs a CUDA GPU"):
        fresh(card, precision="16-mixed")


def test_nasbench201_trains_by_its_own_recipe(tmp_path: Path) -> None:
    bench = space("nasbench201", classes=10, in_channels=1)
    genotype = Genotype.parse(
        "|nor_conv_1x1~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    )
    settings = retrain_settings(
        bench, {"epochs": 1, "batch": 50, "limit": 100, "channels": 2, "cells": 1}
    )
    assert (
        len(retrain(bench, genotype, digits(), settings, tmp_path / "run", report=quiet).rows) == 1
    )
    headed = retrain(
        bench,
        genotype,
        digits(),
        replace(settings, auxiliary=0.4),
        tmp_path / "other",
        report=quiet,
    )
    assert not any(
        "auxiliary" in name for name in load(headed.folder).derived.state_dict()
    )  # the head is for training alone


# The result.


def test_the_last_epoch_is_the_result_and_the_best_stands_beside_it(tmp_path: Path) -> None:
    lines: list[str] = []
    found = trained(tmp_path / "run", lines, epochs=3, lr=0.4)
    accuracies = [row["test_accuracy"] for row in found.rows]
    assert found.accuracy == accuracies[-1]
    assert (found.best_accuracy, accuracies[found.best_epoch]) == (max(accuracies),) * 2
    assert f"test accuracy {100 * accuracies[-1]:.2f} % (after the last epoch: the result)" in lines
    if found.best_epoch != 2:
        assert f"best epoch: {found.best_epoch + 1}" in lines[-1]
        assert "not the result" in lines[-1]


def test_every_second_epoch_and_the_last_are_tested(tmp_path: Path) -> None:
    found = trained(tmp_path / "run", epochs=3, evaluate_every=2)
    assert ["test_accuracy" in row for row in found.rows] == [False, True, True]


def test_the_output_has_the_cutout_the_time_left_and_a_mark_of_reduced_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain_progress, "LONG", 0)
    lines: list[str] = []
    trained(tmp_path / "run", lines, batch=8)
    text = "\n".join(lines)
    assert "cutout is 4 pixels, not 16" in text
    assert "to go" in text and "--retrain.preset quick" in text
    assert "epoch 2/2" in text
    lines.clear()
    trained(tmp_path / "quick", lines, preset="quick")
    assert any("REDUCED" in line for line in lines)


def test_the_seed_decides_and_the_folder_is_not_written_over(whole: Path, tmp_path: Path) -> None:
    trained(tmp_path / "again")
    assert outcome(tmp_path / "again") == outcome(whole)
    before = outcome(whole)
    with pytest.raises(
        ValueError,
        match=f"{whole} holds a network already: see `archgrad evaluate {whole}`, or choose another --out",
    ):
        trained(whole)
    assert outcome(whole) == before


def test_a_diverging_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"diverged in epoch 1: try a --retrain\.lr below 1e"):
        trained(tmp_path / "run", lr=1e30, clip=0.0)


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_diverging_training_leaves_a_finite_checkpoint(clip: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"diverged in epoch 1: try a --retrain\.lr below 1e"):
        trained(tmp_path / "run", lr=1e30, clip=clip, seconds=0)  # saves after every step
    saved = tmp_path / "run" / "checkpoint.pt"
    content = checkpoint.read(saved) if saved.exists() else {"net": {}}
    assert all(value.isfinite().all() for value in content["net"].values())


# Stop and resume.


# within the first epoch, after its last step, within its test, after it, within the second
@pytest.mark.parametrize(
    "place, at", [(1, (0, 1)), (3, (0, 3)), (4, (0, 3)), (6, (1, 0)), (7, (1, 1))]
)
def test_a_stopped_training_ends_as_the_whole_one(
    whole: Path, tmp_path: Path, place: int, at: tuple[int, int]
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted, match=f"archgrad resume {folder}"):
        trained(folder, stopping=stop_at(place), seconds=1e9)
    saved = checkpoint.read(folder / "checkpoint.pt")
    assert (saved["epoch"], saved["step"]) == at
    found = resume(folder, digits(), report=quiet)
    assert outcome(folder) == outcome(whole)
    assert found.accuracy == read_measured(whole / "metrics.jsonl")[-1]["test_accuracy"]
    assert (
        resume(folder, digits(), report=quiet).accuracy == found.accuracy
    )  # a finished one gives its result


def test_a_killed_training_ends_as_the_whole_one(whole: Path, tmp_path: Path) -> None:
    folder, script = tmp_path / "run", Path(__file__).with_name("retraining.py")
    assert subprocess.run([sys.executable, str(script), str(folder)], timeout=300).returncode == -9
    assert not (folder / "weights.safetensors").exists()
    lines: list[str] = []
    resume(folder, report=lines.append)
    assert any("from epoch" in line for line in lines)
    assert outcome(folder) == outcome(whole)


def test_a_line_newer_than_the_checkpoint_is_cut(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        trained(folder, stopping=stop_at(2), seconds=1e9)
    (folder / "metrics.jsonl").write_text('{"epoch": 0, "test_accuracy": 2}\n{"epo')
    resume(folder, digits(), report=quiet)
    assert outcome(folder) == outcome(whole)


def test_a_training_recorded_with_the_first_fingerprint_goes_on(
    whole: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    card = (folder / "network.json").read_text()
    (folder / "network.json").write_text(card.replace(digits().fingerprint, DIGITS_1))
    resume(folder, digits(), report=quiet)
    (folder / "network.json").write_text(card.replace(digits().fingerprint, DIGITS_1[::-1]))
    with pytest.raises(ValueError, match="have changed"):
        resume(folder, digits(), report=quiet)


def test_what_cannot_be_resumed_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a run nor a trained network"):
        resume(tmp_path)
    with pytest.raises(ValueError, match="have changed"):
        resume(whole, replace(digits(), fingerprint="another"))
    with pytest.raises(
        ValueError, match=r"have changed since .* \(the class '0' is now called 'nought'\)"
    ):
        resume(
            whole, replace(digits(), fingerprint="2:0", classes=("nought", *digits().classes[1:]))
        )
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        trained(folder, stopping=stop_at(1), seconds=1e9)
    content = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged"):
        resume(folder, digits(), report=quiet)


# The files.


def test_the_weights_file_is_the_network_without_its_auxiliary_head(whole: Path) -> None:
    network = load(whole)
    assert read_card(whole).settings == RetrainSettings(**(vars(PRESETS["cifar"]) | TINY))
    names = network.derived.state_dict()
    assert not any("auxiliary" in name for name in names)
    saved = checkpoint.read(whole / "checkpoint.pt")["net"]
    assert any("auxiliary" in name for name in saved)
    assert all(torch.equal(names[name], saved[name]) for name in names)
    assert network.derived.network.stem.conv.conv.weight.is_contiguous(
        memory_format=torch.channels_last
    )


@pytest.mark.parametrize(
    "given", [{"origin": {"path": "digits", "streaming": False}}, {"reading": {"augmented": True}}]
)
def test_a_card_that_could_not_be_read_is_refused_before_the_training(
    given: dict[str, Any], card: Card, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        retrain(darts(), card.genotype, digits(), card.settings, tmp_path, report=quiet, **given)
    assert not (tmp_path / "network.json").exists()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_any_whole_number_is_a_seed(seed: int, card: Card) -> None:
    assert Card.from_json(json.loads(json.dumps(replace(card, seed=seed).to_json()))).seed == seed


def test_the_card_survives_json(whole: Path) -> None:
    card = read_card(whole)
    assert type(card).from_json(card.to_json()) == card
    assert card.build().space == load(whole).derived.space
    assert darts().derive(card.genotype, channels=2, cells=3).space == card.build().space
