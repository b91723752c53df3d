"""A retrained network in a fresh process is the one that was trained; what it says of images, and what it refuses."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from archgrad.arch.genotype import Genotype
from archgrad.observers.interrupts import Interrupted
from archgrad.retraining import evaluating
from archgrad.retraining.card import load, network_folder, read_card
from archgrad.retraining.evaluating import Evaluation, evaluate, show
from archgrad.retraining.execute import retrain
from archgrad.retraining.predicting import predict, to_csv
from archgrad.retraining.predicting import show as show_predictions
from archgrad.spaces import space
from archgrad.storage.records import read_measured
from retraining import digits, stop_at, tiny, trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search's run folder with a retrained network in it."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    trained(folder / "retrain", epochs=3, limit=400, channels=4, precision="bf16-mixed")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Some digits as files: class folders, one image of them in colour."""
    pixels = digits().test.pixels(torch.arange(60))
    for place, (image, label) in enumerate(zip(pixels, digits().test.labels.tolist())):
        folder = tmp_path / "images" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).convert("RGB" if place == 0 else "L").save(
            folder / f"{place:02d}.png"
        )
    return tmp_path / "images"


def text(draw: Any, *arguments: Any) -> str:
    console = Console(file=io.StringIO(), width=100)
    draw(*arguments, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def last_row(run: Path) -> dict[str, Any]:
    return read_measured(run / "retrain" / "metrics.jsonl")[-1]


def test_a_fresh_process_gives_the_accuracy_that_the_training_printed(run: Path) -> None:
    code = f"from archgrad.retraining.evaluating import evaluate; e = evaluate({str(run)!r}); print(repr(e.accuracy), repr(e.loss), e.count)"
    fresh = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert fresh.stdout.split() == [
        repr(last_row(run)["test_accuracy"]),
        repr(last_row(run)["test_loss"]),
        "359",
    ], fresh.stderr


def test_an_evaluation_adds_up(run: Path) -> None:
    found = evaluate(run)
    assert found.accuracy == sum(row.right for row in found.per_class) / 359
    assert [row.images for row in found.per_class] == digits().test.counts(10)
    assert int(found.confusion.sum()) == 359
    assert sum(count for _, _, count in found.confusions()) == 359 - sum(
        row.right for row in found.per_class
    )
    assert found.to_json()["classes"]["3"]["images"] == int((digits().test.labels == 3).sum())


def test_the_number_of_threads_is_the_training_s_and_restored(run: Path) -> None:
    torch.set_num_threads(2)
    try:
        assert evaluate(run).loss == last_row(run)["test_loss"]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_labelled_images_are_read_as_training_read_its_own(
    run: Path, images: Path, tmp_path: Path
) -> None:
    found = evaluate(run, images, cache=tmp_path / "cache")
    assert found.count == 60
    _, logits = expected(run)
    right = int((logits.argmax(1) == digits().test.labels[:60]).sum())
    assert found.accuracy == pytest.approx(
        right / 60, abs=1.5 / 60
    )  # other batches: bf16 may move one image
    half = evaluate(run, images, batch=7, cache=tmp_path / "cache")
    assert half.count == 60


def test_the_run_s_own_images_by_name_are_its_test_images(run: Path) -> None:
    assert evaluate(run, "digits").count == 359  # the others were trained on


def test_a_class_the_network_does_not_know_is_refused(
    run: Path, images: Path, tmp_path: Path
) -> None:
    (images / "3").rename(images / "three")
    with pytest.raises(ValueError, match="unknown class 'three'"):
        evaluate(run, images, cache=tmp_path / "cache")


def test_what_is_shown(run: Path) -> None:
    found = evaluate(run)
    shown = text(show, found)
    assert shown.splitlines()[0] == f"test accuracy {100 * found.accuracy:.2f} %"
    assert "359 images: digits, test" in shown
    assert shown.count("\n") > 25  # ten classes twice


def test_many_classes_are_shown_by_their_confusions() -> None:
    confusion = torch.eye(30, dtype=torch.int64) * 5
    confusion[7, 3] = 4
    names = tuple(f"[class] {k}" for k in range(30))
    shown = text(show, Evaluation(0.5, 1.0, 154, names, confusion, "made up"))
    assert "most frequent confusions" in shown
    assert "[class] 7" in shown.split("most frequent confusions")[1]
    shown = text(
        show, Evaluation(1.0, 0.0, 150, names, torch.eye(30, dtype=torch.int64), "made up")
    )
    assert "no image was assigned to another class" in shown


def expected(run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and logits of the first sixty test images, by hand."""
    network = load(run / "retrain")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = network.derived(
            network.card.preprocess.crop_and_normalise(digits().test.pixels(torch.arange(60)))
        ).float()
    with torch.no_grad():
        full = network.derived(
            network.card.preprocess.crop_and_normalise(digits().test.pixels(torch.arange(60)))
        )
    return full.softmax(1), logits


def test_predictions_are_those_of_the_network(run: Path, images: Path) -> None:
    found = predict(run, [images], top=3)
    places = [int(Path(row.file).stem) for row in found.rows]
    assert sorted(places) == list(range(60)) and not found.refused
    assert [row.file for row in found.rows] == sorted(row.file for row in found.rows)
    probabilities, _ = expected(run)
    for place, row in zip(places, found.rows):
        best = probabilities[place].topk(3)
        assert [name for name, _ in row.top] == [str(k) for k in best.indices.tolist()]
        assert row.probability == pytest.approx(best.values[0].item(), abs=1e-5)


def test_unreadable_files_are_named_and_the_others_predicted(run: Path, images: Path) -> None:
    good = next(images.glob("*/00.png"))
    broken, photo, notes, hidden = (
        images / "broken.jpg",
        images / "photo.HEIC",
        images / "notes.txt",
        images / ".hidden.png",
    )
    for file in (broken, photo, notes, hidden):
        file.write_text("no image")
    found = predict(run, [good, notes, images])
    assert len(found.rows) == 61
    assert len(found.refused) == 3
    assert all(
        any(name in line for line in found.refused)
        for name in ("broken.jpg", "notes.txt", "photo.HEIC")
    )
    assert any("HEIC is read by an extra" in line for line in found.refused)
    shown = text(show_predictions, predict(run, [broken]))
    assert "broken.jpg" in shown.replace("\n", "")


def test_csv_has_a_line_an_image(run: Path, images: Path) -> None:
    found = predict(run, [images / "3"], top=2)
    lines = to_csv(found).splitlines()
    assert lines[0] == "file,class,probability,class 2,probability 2"
    assert len(lines) == 1 + len(found.rows)
    assert lines[1].split(",")[1:3] == [found.rows[0].name, f"{found.rows[0].probability:.6f}"]


def test_missing_and_damaged_things_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=f"there is neither a run nor a trained network in {tmp_path}: name the folder of one",
    ):
        evaluate(tmp_path)
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "config.yaml").touch()
    with pytest.raises(
        ValueError,
        match=f"no network was trained in {tmp_path}/search yet: archgrad retrain {tmp_path}/search",
    ):
        evaluate(tmp_path / "search")
    with pytest.raises(
        ValueError, match=f"there is no folder {tmp_path / 'nowhere'}$"
    ):  # which retrain could not use either
        evaluate(tmp_path / "nowhere")
    assert predict(run, ["nothing.png"]) == ([], ["no such file or folder: nothing.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in"):
        predict(run, [tmp_path / "empty"])
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        trained(folder, stopping=stop_at(2))
    with pytest.raises(ValueError, match=f"is not finished.*archgrad resume {folder}"):
        evaluate(folder)
    (folder / "weights.safetensors").write_bytes(
        (run / "retrain" / "weights.safetensors").read_bytes()[:-5]
    )
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        evaluate(folder)
    (folder / "weights.safetensors").write_bytes(
        (run / "retrain" / "weights.safetensors").read_bytes()
    )  # of wider cells
    with pytest.raises(ValueError, match="another network"):
        evaluate(folder)
    (folder / "network.json").write_text('{"version": 1}')
    with pytest.raises(ValueError, match=r"network\.json cannot be read"):
        evaluate(folder)


def test_changed_images_are_not_evaluated_in_silence(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        evaluating.data, "load", lambda *_, **__: replace(digits(), fingerprint="another")
    )
    with pytest.raises(ValueError, match=r"have changed .*: name a labelled folder by --data$"):
        evaluate(run)
    # The user named them already.
    with pytest.raises(ValueError, match=r"have changed .*: restore them, or name another"):
        evaluate(run, "digits")


def test_a_network_is_found_in_its_folder_and_in_the_run_s(run: Path, tmp_path: Path) -> None:
    assert network_folder(run) == network_folder(run / "retrain") == run / "retrain"
    assert network_folder(tmp_path) == tmp_path


def test_a_gpu_that_is_not_there_is_one_line(run: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="no CUDA GPU"):
        evaluate(run, device="cuda")
    for device in ("cuda", "cuda:1"):
        assert replace(read_card(run / "retrain"), device=device).choose_device() == torch.device(
            "cpu"
        )


def test_a_network_that_draws_at_inference_gives_the_same_accuracy_again(tmp_path: Path) -> None:
    s4 = space("s4", classes=10, in_channels=1)
    pairs = "[('sep_conv_3x3', 0), ('noise', 1), ('sep_conv_3x3', 2), ('noise', 0), ('noise', 3), ('sep_conv_3x3', 1), ('noise', 0), ('noise', 1)]"
    genotype = Genotype.parse(
        f"Genotype(normal={pairs}, normal_concat=range(2, 6), reduce={pairs}, reduce_concat=range(2, 6))"
    )
    found = retrain(
        s4, genotype, digits(), tiny(epochs=1), tmp_path / "run", report=lambda line: None
    )
    again = evaluate(tmp_path / "run")
    assert (again.accuracy, again.loss) == (found.accuracy, found.rows[-1]["test_loss"])
