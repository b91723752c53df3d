"""Noise in derived networks (space S4): one draw an op in evaluation, in the weights; and weights that were recorded without it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from archgrad.arch.genotype import Genotype
from archgrad.cli import main
from archgrad.observers.recording import Interrupted
from archgrad.retraining.card import load, read_card
from archgrad.retraining.execute import resume, retrain
from archgrad.retraining.measure import logits
from archgrad.retraining.predicting import predict
from archgrad.searching import checkpoint
from archgrad.seeds import seeded
from archgrad.spaces import space
from retraining import digits, stop_at, tiny

PAIRS = "[('sep_conv_3x3', 0), ('noise', 1), ('sep_conv_3x3', 2), ('noise', 0), ('noise', 3), ('sep_conv_3x3', 1), ('noise', 0), ('noise', 1)]"
S4 = f"Genotype(normal={PAIRS}, normal_concat=range(2, 6), reduce={PAIRS}, reduce_concat=range(2, 6))"


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retrained network with noise, and three image files beside it."""
    folder = tmp_path_factory.mktemp("noisy")
    lines: list[str] = []
    retrain(
        space("s4", classes=10, in_channels=1),
        Genotype.parse(S4),
        digits(),
        tiny(epochs=1),
        folder / "run",
        report=lines.append,
    )
    assert any(
        "this network is random: 10 of its genotype's ops are noise" in line for line in lines
    )
    for k in range(3):
        Image.fromarray(digits().test.pixels(torch.tensor([k]))[0, 0].numpy()).save(
            folder / f"{k}.png"
        )
    return folder


def files(folder: Path) -> list[Path]:
    return [folder / f"{k}.png" for k in range(3)]


def test_a_network_with_noise_sees_an_image_alone_as_among_others(noisy: Path) -> None:
    together = predict(noisy / "run", files(noisy), top=10).rows
    assert together[::-1] == predict(noisy / "run", files(noisy)[::-1], top=10).rows
    assert together == [
        row for file in files(noisy) for row in predict(noisy / "run", [file], top=10).rows
    ]


def test_neighbours_leave_no_trace(noisy: Path) -> None:
    network, card = load(noisy / "run")
    one, two, three, *_ = card.preprocess.crop_and_normalise(digits().test.pixels(torch.arange(3)))
    with torch.no_grad():
        assert torch.equal(
            network(torch.stack([one, two]))[0], network(torch.stack([one, three]))[0]
        )


def test_the_draws_of_noise_are_in_the_weights_and_follow_from_seed_and_name(noisy: Path) -> None:
    state = load_file(noisy / "run" / "weights.safetensors")
    drawn = {name: value for name, value in state.items() if name.endswith("noise.drawn")}
    card = read_card(noisy / "run")
    assert len(drawn) == 5 * card.spec["cells"]
    again = card.build(fixed=True).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in drawn.items())
    assert len({tuple(value.flatten()[:2].tolist()) for value in drawn.values()}) == len(drawn)


def test_weights_without_draws_behave_as_before(noisy: Path, tmp_path: Path) -> None:
    """As archgrad saved them before: every pass draws, seeded by its place."""
    shutil.copytree(noisy / "run", tmp_path / "run")
    path = tmp_path / "run" / "weights.safetensors"
    save_file(
        {
            name: value
            for name, value in load_file(path).items()
            if not name.endswith("noise.drawn")
        },
        path,
    )
    network, card = load(tmp_path / "run")
    assert not noises_drawn(network)
    images = card.preprocess.crop_and_normalise(digits().test.pixels(torch.arange(3)))
    with torch.no_grad(), seeded(card.seed, "evaluation", 0):
        expected = network.eval()(images)
    (found,) = logits(network.network, iter([images]), card.seed)
    assert torch.equal(found, expected)
    alone = [next(logits(network.network, iter([image[None]]), card.seed)) for image in images]
    assert not torch.equal(found, torch.cat(alone))


def noises_drawn(network: torch.nn.Module) -> list[str]:
    return [name for name in network.state_dict() if name.endswith(".drawn")]


def test_noise_is_for_images_of_one_size(noisy: Path) -> None:
    network = load(noisy / "run").derived
    with pytest.raises(
        ValueError,
        match="noise drawn for feature maps of 8x8, not 16x16: take images of the size it was trained on",
    ):
        network(torch.zeros(1, 1, 16, 16))
    network.train()(torch.zeros(2, 1, 16, 16))  # in training every pass draws


def test_a_training_that_began_before_draws_were_fixed_goes_on_without(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        retrain(
            space("s4", classes=10, in_channels=1), Genotype.parse(S4), digits(), tiny(epochs=1), tmp_path, report=lambda line: None,
            stopping=stop_at(2), seconds=1e9,
        )  # fmt: skip
    content = checkpoint.read(tmp_path / "checkpoint.pt")
    content["net"] = {
        name: value for name, value in content["net"].items() if not name.endswith(".drawn")
    }
    checkpoint.save(tmp_path / "checkpoint.pt", content)
    resume(tmp_path, digits(), report=lambda line: None)
    assert not [
        name for name in load_file(tmp_path / "weights.safetensors") if name.endswith(".drawn")
    ]


def test_a_genotype_of_s4_is_told_its_space_and_said_to_be_random(capsys) -> None:
    assert main(["count", S4]) == 2
    assert (
        capsys.readouterr().err
        == "archgrad: space darts has no primitive noise, but space s4 has: add --space s4\n"
    )
    assert main(["show", S4, "--space", "s4", "--channels", "4", "--cells", "3"]) == 0
    assert "this network is random: 10 of its genotype's ops are noise" in capsys.readouterr().out
    assert main(["show", "DARTS_V2", "--channels", "4", "--cells", "3"]) == 0
    assert "random" not in capsys.readouterr().out


def test_a_supernet_draws_in_every_pass() -> None:
    net = space("s4", channels=2, cells=3, classes=4).supernet().eval()
    images = torch.ones(2, 3, 8, 8)
    with torch.no_grad():
        assert not torch.equal(net(images).logits, net(images).logits)
