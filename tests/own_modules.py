"""Small modules of a user's own, one of each kind, with batches and losses that fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archgrad
from archgrad.modules.space import ModuleSpace
from archgrad.seeds import generator

CLASSES = 4


class Signal(nn.Module):
    """A 1-D CNN for signals (B, 2, 16), with a depth and one of several tensors."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 6, 3, padding=1)
        self.first = archgrad.Choice(
            {"conv3": conv1d(3), "conv5": conv1d(5), "skip": nn.Identity(), "pool": pool1d()}
        )
        self.depth = archgrad.Repeat(lambda: conv1d(3), least=0, most=2)
        self.merge = archgrad.InputChoice(inputs=3, keep=2, how="mean")
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.first(a)
        return self.head(self.merge(a, b, self.depth(b)).mean(2))


def conv1d(kernel: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 6, kernel, padding=kernel // 2, bias=False), nn.BatchNorm1d(6), nn.ReLU()
    )


def pool1d() -> nn.Module:
    return nn.AvgPool1d(3, 1, 1)


class Residual(nn.Module):
    """A residual CNN for images; two of its blocks have one label."""

    def __init__(self, classes: int = CLASSES, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.one = archgrad.Choice(blocks(4), label="both")
        self.two = archgrad.Choice(blocks(4), label="both")
        self.down = nn.Conv2d(4, 8, 3, 2, 1)
        self.three = archgrad.Choice(blocks(8))
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.one(x)
        x = self.down(F.relu(x + self.two(x)))
        return self.head(F.relu(x + self.three(x)).mean((2, 3)))


def blocks(width: int) -> dict[str, nn.Module]:
    """Two convolutions, a depthwise one and nothing."""

    def conv(kernel: int, groups: int = 1) -> nn.Module:
        layer = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(width), nn.Dropout(0.1))

    return {"conv3": conv(3), "conv1": conv(1), "depthwise": conv(3, width), "skip": nn.Identity()}


class Heads(nn.Module):
    """Self-attention by `torch.nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]


class Products(nn.Module):
    """Self-attention by `torch.nn.functional.scaled_dot_product_attention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.into(x).chunk(3, -1)
        y = F.scaled_dot_product_attention(*(self.split(one) for one in (q, k, v)))
        return x + self.out(y.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Transformer(nn.Module):
    """A transformer for sequences (B, 6, 8), with blocks of attention, an MLP and nothing."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.mix = archgrad.Choice(
            {"heads": Heads(8, 2), "products": Products(8, 4), "skip": nn.Identity()}
        )
        self.feed = archgrad.Choice({"mlp": mlp(8, 16), "narrow": mlp(8, 4), "skip": nn.Identity()})
        self.again = archgrad.Choice({"products": Products(8, 2), "skip": nn.Identity()})
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.feed(self.mix(x))).mean(1))


def mlp(width: int, inner: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class Segmenter(nn.Module):
    """A net for images whose output has logits (B, 2, H, W) at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = archgrad.Choice(blocks(4))
        self.fuse = archgrad.InputChoice(inputs=2)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        return self.head(self.fuse([a, self.block(a)]))


class Recurrent(nn.Module):
    """An LSTM, a GRU or a linear layer on sequences (B, 6, 8); the alternatives return tuples."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.read = archgrad.Choice(
            {
                "lstm": Last(nn.LSTM(8, 8, batch_first=True)),
                "gru": Last(nn.GRU(8, 8, 1, True, True)),
            }
            | {"linear": Pair(8)}
        )
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        outputs, last = self.read(x)
        return self.head(outputs.mean(1) + last)


class Last(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs, _ = self.layer(x)
        return outputs, outputs[:, -1]


class Pair(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.layer(x)
        return outputs, outputs[:, -1]


class Detector(nn.Module):
    """A net for images that returns a mapping: logits (B, K) and a box (B, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = archgrad.Choice(blocks(4))
        self.label, self.box = nn.Linear(4, CLASSES), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.block(self.stem(x)).mean((2, 3))
        return {"label": self.label(x), "box": self.box(x)}


def detect(output: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """The loss of `Detector`."""
    return F.cross_entropy(output["label"], targets["label"]) + F.l1_loss(
        output["box"], targets["box"]
    )


def dice(output: Tensor, targets: Tensor) -> Tensor:
    """1 minus the overlap of the second class, a mean over the images."""
    found, wanted = output.softmax(1)[:, 1].flatten(1), targets.to(output).flatten(1)
    return (1 - (2 * (found * wanted).sum(1) + 1) / (found.sum(1) + wanted.sum(1) + 1)).mean()


@dataclass(frozen=True)
class Kind:
    """A module of the zoo, the shape of its inputs, and the arguments that its search needs."""

    module: Callable[..., nn.Module]
    shape: tuple[int, ...]
    loss: Callable[[Any, Any], Tensor] | None = None
    pixels: bool = False

    def space(self, **given: Any) -> ModuleSpace:
        return archgrad.module_space(self.module, example=torch.zeros(1, *self.shape), **given)

    def batch(self, *place: object, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, targets and the index of the samples: a function of the place."""
        rng = generator(0, "own", *place)
        inputs = torch.randn(size, *self.shape, generator=rng)
        index = torch.randperm(2 * size, generator=rng)[:size]
        if self.pixels:
            return inputs, (inputs.mean(1) > 0).long(), index
        labels = torch.randint(CLASSES, (size,), generator=rng)
        inputs[:, 0] += labels.reshape(-1, *(1,) * (inputs.dim() - 2))
        return inputs, labels, index


KINDS = {
    "signal": Kind(Signal, (2, 16)),
    "residual": Kind(Residual, (3, 8, 8)),
    "transformer": Kind(Transformer, (6, 8)),
    "segmenter": Kind(Segmenter, (3, 8, 8), dice, pixels=True),
    "recurrent": Kind(Recurrent, (6, 8)),
}
