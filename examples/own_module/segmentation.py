"""Search a segmentation network with a Dice loss on the two sample photos of scikit-learn.

    python examples/own_module/segmentation.py

These photos have no masks, so a rule makes them: the mask has the pixels with more red than blue.
The network sees the photo in grey, and one tile in five is held out for the test.
"""

import torch
import torch.nn.functional as F
from plain import loader, trained
from sklearn.datasets import load_sample_images
from torch import nn

import archgrad

EPOCHS, SEED, SIDE = 20, 0, 32
BY_HAND = "first=conv3, second=skip, bottom=depth1, skips=input0+input1"


def conv(inputs, outputs, kernel=3, dilation=1):
    padding = dilation * (kernel // 2)
    layer = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def kernels(width):
    convs = {"conv3": conv(width, width), "dilated": conv(width, width, dilation=2)}
    return archgrad.Choice(convs | {"conv1": conv(width, width, 1), "skip": nn.Identity()})


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.first, self.down = conv(1, 8), kernels(8), conv(8, 16)
        self.second, self.bottom = kernels(16), archgrad.Repeat(lambda: conv(16, 16), 1, 3)
        self.up, self.skips = conv(16, 8), archgrad.InputChoice(inputs=3, keep=2)
        self.head = nn.Sequential(conv(8, 8), nn.Conv2d(8, 1, 1))

    def forward(self, x):
        fine = self.stem(x)
        finer = self.first(fine)
        coarse = self.bottom(self.second(self.down(F.max_pool2d(finer, 2))))
        up = F.interpolate(self.up(coarse), scale_factor=2.0)
        return self.head(self.skips(up, finer, fine))


def dice(output, mask):
    found = output.sigmoid()
    return 1 - (2 * (found * mask).sum() + 1) / ((found + mask).sum() + 1)


def overlap(output, mask):
    found, mask = output > 0, mask > 0
    return (found & mask).sum() / (found | mask).sum()


photos = torch.stack([*map(torch.tensor, load_sample_images().images)]).permute(0, 3, 1, 2) / 255
pairs = torch.cat([photos.mean(1, True) - 0.5, (photos[:, :1] > photos[:, 2:]).float()], 1)
tiles = pairs.unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
tiles = tiles[torch.randperm(len(tiles), generator=torch.Generator().manual_seed(SEED))]
(x, y), (test_x, test_y) = (part.split(1, 1) for part in tiles.split([416, len(tiles) - 416]))
train, val = loader(x[:208], y[:208], 16), loader(x[208:], y[208:], 16)

space = archgrad.module_space(Net, x[:1])
settings = {"budget": "macs=60%", "loss": dice, "metrics": {"overlap": overlap}}
search = archgrad.Search(space, "stdarts", epochs=EPOCHS, steps=len(train), **settings)
for _ in range(EPOCHS):
    for batch, val_batch in zip(train, val):
        search.step(batch, val_batch)

macs = space.costs()["macs"].value_of
print(f"budget: {search.bounds['macs']:,.0f} multiply-adds")
for name, genotype in {"found": search.genotype, "by hand": archgrad.Genotype.of(BY_HAND)}.items():
    derived = space.derive(genotype).network  # its net is a Net without a choice inside
    derived.initialise(SEED)  # as search.derive() does
    shared = overlap(trained(derived.net, loader(x, y, 16), dice, EPOCHS)(test_x), test_y)
    print(f"{name}: {genotype}\n  {macs(genotype):,.0f} multiply-adds, overlap {shared:.1%}")
