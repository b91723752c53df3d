"""Measure the cost of `archgrad.Choice` over mixing that is written by hand.

    python benchmarks/own_module.py [--rounds 15] [--batch 32] [--width 16] [--device cpu]

Both searches have the same residual CNN, the same weights and the same batches. One is
`archgrad.Search`, the other is a loop of torch alone, with a softmax, a sum and two optimizers. The
rounds alternate, in one process with one thread. It prints the CPU seconds of a step (on a GPU the
wall seconds), the ratio of each round (median, smallest and largest), and the bytes of the distinct
storages that a forward pass saves for its backward pass.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import monotonic, process_time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archgrad
from archgrad.arch.passes import Batch
from archgrad.searching.steps import weight_loss
from archgrad.seeds import generator

Step = Callable[[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], object]


def alternatives(width: int) -> dict[str, nn.Module]:
    def conv(kernel: int, groups: int = 1) -> nn.Module:
        layer = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())

    return {"conv3": conv(3), "conv5": conv(5), "depthwise": conv(3, width), "skip": nn.Identity()}


class ByHand(nn.Module):
    """A weighted sum of alternatives, with the alphas as an attribute."""

    def __init__(self, ops: dict[str, nn.Module]) -> None:
        super().__init__()
        self.alternatives = nn.ModuleList(ops.values())
        self.alpha: Tensor = torch.zeros(1, len(ops))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.alpha.softmax(-1)[0]
        return sum(weight * op(x) for weight, op in zip(weights, self.alternatives, strict=True))


class Residual(nn.Module):
    def __init__(self, choice: Callable[[dict[str, nn.Module]], nn.Module], width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.first = nn.ModuleList(choice(alternatives(width)) for _ in range(3))
        self.down = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.second = nn.ModuleList(choice(alternatives(2 * width)) for _ in range(3))
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.first:
            x = x + block(x)
        x = self.down(x)
        for block in self.second:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


def by_archgrad(given: argparse.Namespace) -> tuple[archgrad.Search, Step]:
    space = archgrad.module_space(
        lambda: Residual(archgrad.Choice, given.width), torch.zeros(1, 3, 32, 32)
    )
    search = archgrad.Search(space, epochs=1000, steps=1000, device=given.device)
    return search, search.step


def by_hand(search: archgrad.Search, given: argparse.Namespace) -> tuple[nn.Module, Step]:
    """Return the net of torch alone, with the weights of the other one, and its step."""
    net = Residual(ByHand, given.width).to(given.device)
    net.load_state_dict(search.module.state_dict())
    alphas = []
    for module, rows in zip(
        (one for one in net.modules() if isinstance(one, ByHand)), search.alphas.values()
    ):
        module.alpha = rows.detach().clone().requires_grad_()
        alphas.append(module.alpha)
    weights = list(net.parameters())
    settings = search.method.weights
    sgd = torch.optim.SGD(
        weights, settings.lr, momentum=settings.momentum, weight_decay=settings.decay, foreach=True
    )
    adam = torch.optim.Adam(alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3, foreach=True)

    def step(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> None:
        for parameter in weights:
            parameter.requires_grad_(False)
        output = net(val[0])
        loss = F.cross_entropy(output, val[1])
        for alpha, gradient in zip(alphas, torch.autograd.grad(loss, alphas), strict=True):
            alpha.grad = gradient
        adam.step()
        for parameter in weights:
            parameter.requires_grad_(True)
        for alpha in alphas:
            alpha.requires_grad_(False)
        output = net(train[0])
        loss = F.cross_entropy(output, train[1])
        for parameter, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(weights, settings.clip)
        sgd.step()
        for alpha in alphas:
            alpha.requires_grad_(True)

    return net, step


def saved_bytes(run: Callable[[], object]) -> int:
    """Return the bytes of the distinct storages that a pass saves for its backward pass."""
    sizes: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        kept = run()
    assert kept is not None
    return sum(sizes.values())


def measured(step: Step, batches: list[tuple[Tensor, Tensor]], gpu: bool) -> float:
    if gpu:
        torch.cuda.synchronize()
    began = monotonic() if gpu else process_time()
    step(*batches)
    if gpu:
        torch.cuda.synchronize()
    return (monotonic() if gpu else process_time()) - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure Choice over mixing by hand.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    gpu = given.device != "cpu"
    search, ours = by_archgrad(given)
    net, theirs = by_hand(search, given)

    def batch(*place: object) -> tuple[Tensor, Tensor]:
        rng = generator(0, "own_module", *place)
        images = torch.randn(given.batch, 3, 32, 32, generator=rng)
        labels = torch.randint(10, (given.batch,), generator=rng)
        return images.to(given.device), labels.to(given.device)

    images, labels = batch("saved")
    index = torch.arange(given.batch, device=given.device)
    alphas = {name: rows.detach() for name, rows in search.alphas.items()}
    for one in net.modules():
        if isinstance(one, ByHand):
            one.alpha.requires_grad_(False)
    of_choice = saved_bytes(
        lambda: weight_loss(search.method, search.state, Batch(images, labels, index), alphas, None)
    )
    of_hand = saved_bytes(lambda: F.cross_entropy(net(images), labels))
    for one in net.modules():
        if isinstance(one, ByHand):
            one.alpha.requires_grad_(True)

    seconds: dict[str, list[float]] = {"Choice": [], "by hand": []}
    for place in range(given.rounds + 2):
        order = [("Choice", ours), ("by hand", theirs)]
        for name, step in order if place % 2 else order[::-1]:
            took = measured(step, [batch("train", place), batch("val", place)], gpu)
            if place > 1:  # the first steps make buffers and read modules
                seconds[name].append(took)
    for name, values in seconds.items():
        spread = f"({min(values):.3f}-{max(values):.3f}, n={len(values)})"
        print(f"{name}: {statistics.median(values):.3f} s a step {spread}")
    ratios = [a / b for a, b in zip(seconds["Choice"], seconds["by hand"], strict=True)]
    spread = f"({min(ratios):.3f}-{max(ratios):.3f})"
    print(f"Choice over by hand: {statistics.median(ratios):.3f} {spread}")
    print(f"saved for backward: {of_choice / 2**20:.2f} MiB and {of_hand / 2**20:.2f} MiB by hand")


if __name__ == "__main__":
    main()
