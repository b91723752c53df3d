"""The file ``choices.py``: a user's module runs by it on a machine that has torch alone."""

from __future__ import annotations

from pathlib import Path

from archgrad.arch.genotype import Genotype
from archgrad.modules.blueprint import choice_at
from archgrad.modules.choices import MADE
from archgrad.modules.space import ModuleSpace
from archgrad.storage.files import write

STUB = '''\
"""The choices of SPACE as a search of archgrad decided them. This file needs torch alone.

In the file of the module, import Choice, InputChoice and Repeat from here in the place of archgrad.
The module that is then made has only what was selected, and loads the weights of that network.
"""

import itertools
from functools import reduce
from operator import add

from torch import nn

# The name and the selection of each choice, in the order in which the module makes its choices.
DECISIONS = (DECIDED
)
decisions = itertools.cycle(DECISIONS)  # the next module begins anew


class Choice:
    def __new__(cls, alternatives, *, label=""):
        place, names = next(decisions)
        if not set(names) <= set(alternatives):
            raise ValueError(f"{place} has no {names}: the module is not that of the search")
        return alternatives[names[0] if names else next(iter(alternatives))]


class Repeat(nn.Sequential):
    def __init__(self, block, least, most, *, label=""):
        _, names = next(decisions)
        depth = int(names[0].removeprefix("depth")) if names else most
        super().__init__(*(block() for _ in range(depth)))

    def forward(self, x, *arguments, **named):
        for block in self:
            x = block(x, *arguments, **named)
        return x


class InputChoice(nn.Module):
    def __init__(self, inputs, keep=1, *, how="sum", label=""):
        super().__init__()
        self.kept = [int(name.removeprefix("input")) for name in next(decisions)[1]]
        self.parts = len(self.kept) if how == "mean" else 1

    def forward(self, *tensors):
        given = tensors[0] if len(tensors) == 1 else tensors
        total = reduce(add, (given[number] for number in self.kept))
        return total / self.parts if self.parts > 1 else total
'''
"""Text of the file, with the names SPACE and DECIDED for its content."""


def write_stub(path: str | Path, space: ModuleSpace, genotype: Genotype | str) -> None:
    """Write a file by which the user's own code makes the selected network without archgrad.

    Beside the file of the module, import ``Choice``, ``Repeat`` and ``InputChoice`` from it in the
    place of archgrad. The module has the ``state_dict`` of the derived network.

    Args:
        path: The file, whose name without ``.py`` is then imported, such as ``choices.py``.
        space: Space of the module.
        genotype: The selected architecture.

    Raises:
        ValueError: The genotype is not one of the space, the file cannot be imported by its name,
            or two choices are copies of one and have different selections.
    """
    file = Path(path)
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise ValueError(f"the file must have a name that can be imported, not {file.name!r}")
    rows = [f"\n    ({_quoted(name)}, {_tuple(kept)})," for name, kept in decided(space, genotype)]
    write(file, STUB.replace("SPACE", space.name).replace("DECIDED", "".join(rows)))


def decided(space: ModuleSpace, genotype: Genotype | str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the name and the selection of each choice, in the order in which they are made.

    A choice that the factory makes and does not keep has no name and no selection.

    Raises:
        ValueError: The genotype is not one of the space, or two choices are copies of one and have
            different selections.
    """
    genotype = Genotype.of(genotype)
    genotype.check(space.plan.groups)
    selected = genotype.primitives(space.plan.groups)
    first = next(MADE) + 1
    net = space.plan.build()
    last = next(MADE)
    found: dict[int, tuple[str, tuple[str, ...]]] = {}
    for place in space.plan.places:
        number = choice_at(net, place.path).number
        row = place.path or place.group, tuple(selected[place.group][0])
        if found.setdefault(number, row)[1] != row[1]:
            raise ValueError(
                f"choices {found[number][0]!r} and {row[0]!r} are copies of one, so a stub cannot "
                "tell them apart: make each by its own call, or give both the same label"
            )
    if space.plan.instance:  # its choices were made earlier, and other choices between them
        return [found[number] for number in sorted(found)]
    return [found.get(number, ("", ())) for number in range(first, last)]


def _tuple(names: tuple[str, ...]) -> str:
    return f"({', '.join(map(_quoted, names))}{',' * (len(names) == 1)})"


def _quoted(name: str) -> str:
    return f'"{name}"'  # a name has only letters, digits, _ and dots
