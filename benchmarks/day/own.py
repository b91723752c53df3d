"""The same day from Python: further patches, a further space, and two calls that are refused."""

from mypackage.nas import Chain, cooled, mixed, soft

import archgrad
from archgrad.methods.stdarts import stdarts

images = archgrad.load("digits")
data = archgrad.search_data(images, batch=32, limit=100)

# Further patches among the methods of the library, in one of its spaces. `archgrad.method` knows
# the presets of this space; `archgrad.Method` does not, so it refuses a patch with other options.
table = archgrad.space("nasbench201", channels=4, cells=1, in_channels=1)
method = archgrad.method(
    "stdarts+sddarts", table, patches=[mixed(), soft()], darts={"hypergradient": "second_order"}
)
found = archgrad.search(method, data, epochs=2)
print("stdarts+sddarts+mixed+soft:", found.genotype)
try:
    archgrad.Method(archgrad.compose(stdarts(), mixed()), table)
    raise SystemExit("a patch with the options of another space was accepted")
except ValueError as error:
    print("refused:", error)

# A further space.
space = Chain(channels=4, in_channels=1)
found = archgrad.search(
    archgrad.method("darts", space, patches=[cooled(), mixed(), soft()]), data, epochs=2
)
try:
    archgrad.search(archgrad.method("gdas", space), data, epochs=2, state=found.state)
    raise SystemExit("the state of another method was accepted")
except ValueError as error:
    print("refused:", error)
recipe = {"preset": "quick", "channels": 8, "cells": 3, "epochs": 1, "limit": 100}
trained = archgrad.retrain(space, found.genotype, images, recipe, "runs/python")
evaluated = archgrad.evaluate("runs/python")
print(f"trained: {100 * trained.accuracy:.1f} %, evaluated: {100 * evaluated.accuracy:.1f} %")
