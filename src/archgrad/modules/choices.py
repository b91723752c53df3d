"""The choices that a user writes into a module of his own.

A choice is decided as a whole by one edge group. In a search it returns the weighted sum of its
alternatives; in a derived network the selected one stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import count, pairwise
from typing import Any, Literal

from torch import Tensor, nn

from archgrad.arguments import named_if_wrong
from archgrad.errors import short_repr, unknown_name
from archgrad.modules.mixing import mixed, total_weight

MADE = count()
"""The number of each choice that is made, so that the order is known (`archgrad.modules.stub`)."""


class Choice(nn.Module):
    """One of several modules.

    Args:
        alternatives: Name -> module. All return tensors, or trees of tensors, of equal shapes.
        label: Name of the decision. Choices with the same label are decided together.

    Raises:
        ValueError: There are fewer than two alternatives, one is no module, or a name is wrong.

    >>> Choice({"conv": nn.Conv2d(8, 8, 3, padding=1), "skip": nn.Identity()}).primitives
    ('conv', 'skip')
    """

    pick = 1

    @named_if_wrong
    def __init__(self, alternatives: Mapping[str, nn.Module], *, label: str = "") -> None:
        super().__init__()
        if not isinstance(alternatives, Mapping) or len(alternatives) < 2:
            raise ValueError(
                f"a Choice needs a mapping with two or more alternatives by name, not "
                f"{short_repr(alternatives)}"
            )
        for name, module in alternatives.items():
            _check_name("the name of an alternative", name)
            if not isinstance(module, nn.Module):
                raise ValueError(f"alternative {name!r} must be a module, not {short_repr(module)}")
        if len({id(module) for module in alternatives.values()}) < len(alternatives):
            raise ValueError(
                f"the alternatives {', '.join(alternatives)} share a module: make one for each"
            )
        self.label, self.group, self.number = _checked_label(label), "", next(MADE)
        self.primitives = tuple(alternatives)
        self.alternatives = nn.ModuleList(alternatives.values())
        self.weightless = tuple(
            name for name, module in alternatives.items() if not list(module.parameters())
        )

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Return the weighted sum of the alternatives, each called with these arguments."""
        return mixed(
            self, lambda: [partial(module, *arguments, **named) for module in self.alternatives]
        )

    def parts(self) -> list[tuple[str, nn.Module]]:
        """Return the names and modules of the alternatives."""
        return list(zip(self.primitives, self.alternatives, strict=True))

    def ops(self, primitive: str) -> list[nn.Module]:
        """Return the module of an alternative, in a list."""
        return [self.alternatives[self.primitives.index(primitive)]]

    def selected(self, primitives: Sequence[str], inputs: int, names: Sequence[str]) -> nn.Module:
        """Return the module that stands here in a derived network.

        Args:
            primitives: The selected alternative.
            inputs: Number of positional arguments of the call.
            names: Names of the other arguments.
        """
        return self.ops(primitives[0])[0]


class Repeat(nn.Module):
    """A block that is repeated, so that the search decides the depth.

    A depth computes the blocks before it too, so one pass gives all depths.

    Args:
        block: Function without arguments that makes one block.
        least: Smallest number of blocks; 0 allows none, so that the input is handed on.
        most: Largest number of blocks.
        label: Name of the decision. Choices with the same label are decided together.

    Raises:
        ValueError: A number is wrong, or the function makes no module.
    """

    pick = 1

    @named_if_wrong
    def __init__(
        self, block: Callable[[], nn.Module], least: int, most: int, *, label: str = ""
    ) -> None:
        super().__init__()
        if not all(type(count) is int for count in (least, most)) or not 0 <= least < most:
            raise ValueError(
                f"Repeat needs whole numbers 0 <= least < most, not {least!r} and {most!r}"
            )
        if not callable(block) or isinstance(block, nn.Module):
            raise ValueError(
                f"Repeat needs a function that makes a new block, not {short_repr(block)}"
            )
        made = [block() for _ in range(most)]
        for module in made:
            if not isinstance(module, nn.Module):
                raise ValueError(
                    f"the block of a Repeat must be a module, not {short_repr(module)}"
                )
        if len(set(map(id, made))) < most:
            raise ValueError(
                "the function of a Repeat returns the same module again: make a new one"
            )
        self.label, self.group, self.number = _checked_label(label), "", next(MADE)
        self.least = least
        self.primitives = tuple(f"depth{count}" for count in range(least, most + 1))
        self.blocks = nn.ModuleList(made)
        self.weightless = tuple(
            name
            for count, name in enumerate(self.primitives, least)
            if not list(self.blocks[:count].parameters())
        )

    def forward(self, x: Any, *arguments: Any, **named: Any) -> Any:
        """Return the weighted sum of the depths' outputs for x; blocks share other arguments."""

        def depths() -> list[Callable[[], Any]]:
            @cache
            def output_of(count: int) -> Any:
                if not count:
                    return x
                return self.blocks[count - 1](output_of(count - 1), *arguments, **named)

            counts = range(self.least, self.least + len(self.primitives))
            return [partial(output_of, count) for count in counts]

        return mixed(self, depths)

    def parts(self) -> list[tuple[str, nn.Module]]:
        """Return the blocks with their names."""
        return [(f"block {number}", block) for number, block in enumerate(self.blocks, 1)]

    def ops(self, primitive: str) -> list[nn.Module]:
        """Return the blocks of a depth."""
        return list(self.blocks[: self.least + self.primitives.index(primitive)])

    def selected(self, primitives: Sequence[str], inputs: int, names: Sequence[str]) -> nn.Module:
        """Return the module that stands here in a derived network, as `Choice.selected`."""
        from archgrad.modules.plain import chained

        return chained(self.ops(primitives[0]), inputs, names)


class InputChoice(nn.Module):
    """Some of several tensors: their sum or their mean goes on.

    Args:
        inputs: Number of tensors to choose from.
        keep: Number of tensors that are kept.
        how: "sum" or "mean" of the kept tensors.
        label: Name of the decision. Choices with the same label are decided together.

    Raises:
        ValueError: A number or ``how`` is wrong.
    """

    @named_if_wrong
    def __init__(
        self, inputs: int, keep: int = 1, *, how: Literal["sum", "mean"] = "sum", label: str = ""
    ) -> None:
        super().__init__()
        if not all(type(count) is int for count in (inputs, keep)) or not 1 <= keep < inputs:
            raise ValueError(
                f"InputChoice needs whole numbers 1 <= keep < inputs, not keep {keep!r} of "
                f"{inputs!r}"
            )
        if how not in ("sum", "mean"):
            raise unknown_name("how", how, ("sum", "mean"))
        self.label, self.group, self.number = _checked_label(label), "", next(MADE)
        self.pick, self.how = keep, how
        self.primitives = tuple(f"input{number}" for number in range(inputs))
        self.weightless = self.primitives

    def forward(self, *tensors: Any) -> Any:
        """Return the weighted sum, or mean, of tensors, given one by one or as one list.

        Raises:
            ValueError: There are more or fewer tensors than inputs.
        """
        given: Sequence[Any] = tensors[0] if len(tensors) == 1 else tensors
        if isinstance(given, Tensor) or len(given) != len(self.primitives):
            count = 1 if isinstance(given, Tensor) else len(given)
            raise ValueError(
                f"InputChoice {self.group!r} takes {len(self.primitives)} tensors, not {count}"
            )
        total = mixed(self, lambda: [partial(_same, one) for one in given])
        return total if self.how == "sum" else total / total_weight(self)

    def parts(self) -> list[tuple[str, nn.Module]]:
        """Return no modules, because an input has none."""
        return []

    def ops(self, primitive: str) -> list[nn.Module]:
        """Return no modules, because an input has none."""
        return []

    def selected(self, primitives: Sequence[str], inputs: int, names: Sequence[str]) -> nn.Module:
        """Return the module that stands here in a derived network, as `Choice.selected`."""
        from archgrad.modules.plain import joined

        kept = [self.primitives.index(name) for name in primitives]
        return joined(kept, self.how, 0 if inputs == 1 else inputs)


CHOICES = (Choice, Repeat, InputChoice)
"""The classes of choices, for a type check."""
AnyChoice = Choice | Repeat | InputChoice


def _same(value: Any) -> Any:
    return value


def _checked_label(label: str) -> str:
    if label:
        _check_name("label", label)
    return label


def _check_name(kind: str, name: Any) -> None:
    """Raise a ValueError for a name that a genotype's text cannot hold."""
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{kind} has letters, digits and _, not {short_repr(name)}")


def linked(names: Sequence[str]) -> str:
    """Return names in the order of a sentence: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def are_nested(paths: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two paths of which one lies inside the other, or None."""
    for outer, inner in pairwise(sorted(paths, key=lambda path: path.split("."))):
        if inner.startswith(f"{outer}."):
            return outer, inner
    return None
