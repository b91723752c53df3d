"""Search the blocks and the depth of a residual CNN on CIFAR-10, at half of the multiply-adds.

    python examples/own_module/residual_cnn.py FOLDER

FOLDER has ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg``. Without it the digits of scikit-learn
take its place. The script takes some minutes on two cores.
"""

import sys

import torch
import torch.nn.functional as F
from plain import accuracy, loader, trained
from torch import nn

import archgrad

METHOD, EPOCHS, IMAGES, SEED = "stdarts+sddarts", 10, 4000, 0
BY_HAND = "".join(f"blocks.{n}.choice=conv3, " for n in range(4)) + "deep=depth2"


def conv(width, kernel, groups=1):
    padded = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(padded, nn.BatchNorm2d(width))


def kernels(width):
    separable = nn.Sequential(conv(width, 3, groups=width), conv(width, 1))
    convs = {"conv3": conv(width, 3), "conv5": conv(width, 5), "separable": separable}
    return archgrad.Choice(convs | {"skip": nn.Identity()})


class Residual(nn.Module):
    def __init__(self, choice):
        super().__init__()
        self.choice = choice

    def forward(self, x):
        return F.relu(x + self.choice(x))


class Net(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 16, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Residual(kernels(width)) for width in (16, 16, 32, 32))
        self.down = nn.Conv2d(16, 32, 2, stride=2)
        self.deep = archgrad.Repeat(lambda: Residual(conv(32, 3)), least=1, most=3)
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        x = self.blocks[1](self.blocks[0](F.relu(self.stem(x))))
        x = self.blocks[3](self.blocks[2](F.relu(self.down(x))))
        return self.head(self.deep(x).mean((2, 3)))


if __name__ == "__main__":
    if not sys.argv[1:]:
        print("no folder of CIFAR-10 is given, so the digits of scikit-learn take its place")
    images = archgrad.load(sys.argv[1] if sys.argv[1:] else "digits")
    torch.manual_seed(SEED)
    order = torch.randperm(len(images.train))[:IMAGES]
    x, y = images.train.pixels(order) / 255 - 0.5, images.train.labels[order]
    test_x = images.test.pixels(torch.arange(len(images.test))) / 255 - 0.5
    train, val = (loader(x[k::2], y[k::2], 64) for k in range(2))
    space = archgrad.module_space(Net, x[:1], classes=len(images.classes), in_channels=x.shape[1])
    search = archgrad.Search(space, METHOD, budget="macs=50%", epochs=EPOCHS, steps=len(train))
    for _ in range(EPOCHS):
        for batch, val_batch in zip(train, val):
            search.step(batch, val_batch)

    print(f"budget: {search.bounds['macs']:,.0f} multiply-adds")
    for name, genotype in (("found", search.genotype), ("by hand", archgrad.Genotype.of(BY_HAND))):
        derived = space.derive(genotype).network  # its net is a Net without a choice inside
        derived.initialise(SEED)  # as search.derive() does
        trained(derived.net, loader(x, y, 64), F.cross_entropy, EPOCHS)
        macs = space.costs()["macs"].value_of(genotype)
        right = accuracy(derived.net, test_x, images.test.labels)
        print(f"{name}: {genotype}\n  {macs:,.0f} multiply-adds, test accuracy {right:.1%}")
