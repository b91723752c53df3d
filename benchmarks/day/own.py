"""The same day from Python: the one door, a loss and a method of one's own, and what is refused."""

from mypackage.nas import Chain, cooled, mixed, soft

import archgrad
from archgrad.methods.stdarts import stdarts

images = archgrad.load("digits")
data = archgrad.search_data(images, batch=32, limit=100)

# Among the methods of the library, in one of its spaces: its presets are known, and the bare form is refused.
table = archgrad.space("nasbench201", channels=4, cells=1, in_channels=1)
method = archgrad.method(
    "stdarts+sddarts", table, patches=[mixed(), soft()], darts={"hypergradient": "second_order"}
)
found = archgrad.search(method, data, epochs=2)
print("stdarts+sddarts+mixed+soft:", found.genotype)
try:
    archgrad.Method(archgrad.compose(stdarts(), mixed()), table)
    raise SystemExit("the bare form was taken, though its options are those of another space")
except ValueError as error:
    print("refused:", error)

# In a space of one's own.
space = Chain(channels=4, in_channels=1)
found = archgrad.search(
    archgrad.method("darts", space, patches=[cooled(), mixed(), soft()]), data, epochs=2
)
try:
    archgrad.search(archgrad.method("gdas", space), data, epochs=2, state=found.state)
    raise SystemExit("the state of another method was taken")
except ValueError as error:
    print("refused:", error)
recipe = {"preset": "quick", "channels": 8, "cells": 3, "epochs": 1, "limit": 100}
trained = archgrad.retrain(space, found.genotype, images, recipe, "runs/python")
print(
    f"trained: {100 * trained.accuracy:.1f} %, evaluated: {100 * archgrad.evaluate('runs/python').accuracy:.1f} %"
)
