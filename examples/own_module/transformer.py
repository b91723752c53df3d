"""Search the blocks of a small transformer on the digits of scikit-learn, at 70 % of the work.

    python examples/own_module/transformer.py

An image of 8x8 pixels is a sequence of 8 rows. Each of six places has attention, an MLP or nothing.
"""

import torch
import torch.nn.functional as F
from plain import accuracy, loader, trained
from sklearn.datasets import load_digits
from torch import nn

import archgrad

EPOCHS, WIDTH, SEED = 15, 32, 0
BY_HAND = "blocks.0=attention, blocks.1=mlp, blocks.2=attention, blocks.3=mlp, "
BY_HAND += "blocks.4=nothing, blocks.5=nothing"


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.heads = nn.MultiheadAttention(WIDTH, 4, batch_first=True)

    def forward(self, x):
        normed = self.norm(x)
        return x + self.heads(normed, normed, normed, need_weights=False)[0]


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        layers = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU()
        self.layers = nn.Sequential(*layers, nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x):
        return x + self.layers(x)


class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.rows = nn.Linear(8, WIDTH)
        self.places = nn.Parameter(torch.zeros(8, WIDTH))
        self.blocks = nn.Sequential(*(self.block() for _ in range(6)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes))

    def block(self):
        return archgrad.Choice({"attention": Attention(), "mlp": Mlp(), "nothing": nn.Identity()})

    def forward(self, x):
        return self.head(self.blocks(self.rows(x) + self.places).mean(1))


digits = load_digits()
x, y = torch.from_numpy(digits.images).float() / 16, torch.from_numpy(digits.target)
x, test_x, y, test_y = x[:1400], x[1400:], y[:1400], y[1400:]  # the test has other writers
train, val = loader(x[::2], y[::2], 32), loader(x[1::2], y[1::2], 32)

space = archgrad.module_space(Net, example=x[:1])
settings = {"budget": "macs=70%", "optimizer": lambda weights: torch.optim.AdamW(weights, 3e-3)}
search = archgrad.Search(space, "stdarts+sddarts", epochs=EPOCHS, steps=len(train), **settings)
for _ in range(EPOCHS):
    for batch, val_batch in zip(train, val):
        search.step(batch, val_batch)

macs = space.costs()["macs"].value_of
print(f"budget: {search.bounds['macs']:,.0f} multiply-adds")
for name, genotype in {"found": search.genotype, "by hand": archgrad.Genotype.of(BY_HAND)}.items():
    derived = space.derive(genotype).network  # its net is a Net without a choice inside
    derived.initialise(SEED)  # as search.derive() does
    trained(derived.net, loader(x, y, 32), F.cross_entropy, EPOCHS)
    right = accuracy(derived.net, test_x, test_y)
    print(f"{name}: {genotype}\n  {macs(genotype):,.0f} multiply-adds, test accuracy {right:.1%}")
