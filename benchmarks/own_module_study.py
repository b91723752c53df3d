"""Compare a network found in an own module with one made by hand and with random ones.

    python benchmarks/own_module_study.py FOLDER OUT [--seeds 4]

FOLDER has ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg``, such as CIFAR-10. The module and all
settings are those of ``examples/own_module/residual_cnn.py``, a reduced run: 4,000 images and ten
epochs. Each seed takes one search at half of the multiply-adds, and then trains from fresh weights
the found network, the network made by hand, and four random networks whose cost differs by at most
a tenth from that of the found one. OUT gets one JSON file for each seed, and seeds that have one
are left out.

The table compares the networks of the same seed. An interval is that of Student's t at 95 %, and
the smallest difference is the half width of that interval.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scipy.stats import t as student

import archgrad
from archgrad.components.select import uniform_genotype

EXAMPLES = Path(__file__).parent.parent / "examples" / "own_module"
RANDOM, NEAR = 4, 0.1


def measure(folder: str, seed: int) -> dict[str, object]:
    """Search and train with one seed, and return the costs and the test accuracies."""
    from plain import accuracy, loader, trained
    from residual_cnn import BY_HAND, EPOCHS, IMAGES, METHOD, Net

    images = archgrad.load(folder)
    order = torch.randperm(len(images.train), generator=torch.Generator().manual_seed(seed))[
        :IMAGES
    ]
    x, y = images.train.pixels(order) / 255 - 0.5, images.train.labels[order]
    test_x = images.test.pixels(torch.arange(len(images.test))) / 255 - 0.5
    half = len(x) // 2
    train, val = loader(x[:half], y[:half], 64), loader(x[half:], y[half:], 64)
    space = archgrad.module_space(Net, x[:1], classes=len(images.classes), in_channels=x.shape[1])
    began = time.process_time()
    search = archgrad.Search(
        space, METHOD, budget="macs=50%", epochs=EPOCHS, steps=len(train), seed=seed
    )
    for _ in range(EPOCHS):
        for batch, val_batch in zip(train, val):
            search.step(batch, val_batch)
    seconds = time.process_time() - began
    macs = space.costs()["macs"].value_of
    found, near, draw = search.genotype, [], 0
    while len(near) < RANDOM:
        drawn, draw = uniform_genotype(space.groups, seed, "own module study", draw), draw + 1
        if abs(macs(drawn) / macs(found) - 1) <= NEAR and drawn not in near:
            near.append(drawn)

    def test(genotype: archgrad.Genotype) -> dict[str, object]:
        derived = space.derive(genotype).network
        derived.initialise(seed)
        trained(derived.net, loader(x, y, 64), F.cross_entropy, EPOCHS)
        right = accuracy(derived.net, test_x, images.test.labels)
        return {"genotype": str(genotype), "macs": macs(genotype), "accuracy": float(right)}

    by_hand = archgrad.Genotype.of(BY_HAND)
    return {
        "seed": seed,
        "budget": search.bounds["macs"],
        "search_cpu_seconds": seconds,
        "found": test(found),
        "by_hand": test(by_hand),
        "random": [test(one) for one in near],
    }


def random_mean(row: dict[str, Any]) -> float:
    """Return the mean test accuracy of the random networks of a seed."""
    return sum(one["accuracy"] for one in row["random"]) / len(row["random"])


def difference_line(name: str, pairs: list[tuple[float, float]]) -> str:
    """Return the mean of paired differences in points, with its interval."""
    differences = torch.tensor([100 * (one - other) for one, other in pairs], dtype=torch.float64)
    n = len(differences)
    half = float(student.ppf(0.975, n - 1) * differences.std() / n**0.5)
    return f"found - {name}: {float(differences.mean()):+.2f} points, +- {half:.2f} (n = {n})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(given.seeds):
        file = given.out / f"seed{seed}.json"
        if not file.exists():
            file.write_text(json.dumps(measure(given.folder, seed), indent=1) + "\n")
        rows.append(json.loads(file.read_text()))
        row = rows[-1]
        mean = random_mean(row)
        print(
            f"seed {seed}: found {row['found']['accuracy']:.2%} at {row['found']['macs']:,.0f} "
            f"multiply-adds of {row['budget']:,.0f}, by hand {row['by_hand']['accuracy']:.2%} at "
            f"{row['by_hand']['macs']:,.0f}, random {mean:.2%}",
            flush=True,
        )
    if len(rows) > 1:
        hand = [(row["found"]["accuracy"], row["by_hand"]["accuracy"]) for row in rows]
        near = [(row["found"]["accuracy"], random_mean(row)) for row in rows]
        print(difference_line("by hand", hand))
        print(difference_line("mean of random at equal cost", near))


if __name__ == "__main__":
    main()
