"""A search space made of a module of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.arch.edges import EdgeGroup, Groups, Primitives
from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Defaults
from archgrad.arguments import named_if_wrong
from archgrad.cost.cost import Cost
from archgrad.errors import listed, one_line, short_repr
from archgrad.modules import counting
from archgrad.modules.blueprint import (
    ARGUMENTS,
    Blueprint,
    Select,
    blueprint,
    filled,
    with_numbers,
)
from archgrad.modules.blueprint import name_of as name_of
from archgrad.modules.net import ModuleNet
from archgrad.spaces.derived import Derived
from archgrad.spaces.options import check_whole

ReadLogits = Callable[[Any], Tensor]
"""(output of the user's module) -> logits (B, K)."""
HELP = {
    "classes": "number of classes, passed to the factory of the module if it takes the argument",
    "in_channels": "channels of an image, passed to the factory of the module if it takes them",
    "size": "side of an image in pixels, passed to the factory of the module if it takes it",
    "primitives": "names of the alternatives that each choice keeps; by default all",
    "discrete": "derived network, in which the selected module replaces each choice",
}


@dataclass(frozen=True, eq=False)
class ModuleSpace:
    """The search space of a module with choices (`module_space` makes it).

    Attributes:
        name: Name of the factory, ``package.module:Name``.
        factory: The factory, or an instance.
        plan: The choices.
        logits: Function that reads the logits from the module's output; None if the output is them.
        primitives: Group -> the alternatives that remain; None keeps all.
        classes: Number of classes that the factory gets; 0 leaves it to the factory.
        in_channels: Number of channels of an image that the factory gets; 0 as for ``classes``.
        size: Side of an image that the factory gets. It is 0 if the input is no image, or the side
            is not known yet.
        discrete: Whether each choice is replaced by the module that was selected.
    """

    name: str
    factory: Any
    plan: Blueprint
    logits: ReadLogits | None = None
    primitives: Primitives | None = None
    classes: int = 0
    in_channels: int = 0
    size: int = 0
    discrete: bool = False

    defaults = Defaults()
    option_help = HELP

    @property
    def groups(self) -> Groups:
        """Return an edge group for each label, and for each choice without one."""
        if self.primitives is None:
            return self.plan.groups
        return {
            name: replace(
                group,
                edges=tuple(
                    edge._replace(primitives=tuple(kept))
                    for edge, kept in zip(group.edges, self.primitives[name])
                ),
            )
            for name, group in self.plan.groups.items()
        }

    def resized(self, **changes: Any) -> ModuleSpace:
        """Return the same space with other options, as `Space.resized`.

        Raises:
            ValueError: A module of the user's has no such option, or a value is wrong.
        """
        for option in changes:
            if option not in HELP:
                raise ValueError(
                    f"a module of your own has no option {option!r}; it has {listed(list(HELP))}"
                )
        check_whole(SimpleNamespace(**changes), 0, *(one for one in ARGUMENTS if one in changes))
        if not isinstance(changes.get("discrete", False), bool):
            raise ValueError(
                f"discrete must be true or false, not {short_repr(changes['discrete'])}"
            )
        if changes.get("primitives") is not None:
            changes["primitives"] = _checked(changes["primitives"], self.plan.groups)
        found = replace(self, **changes)
        arguments = {name: getattr(found, name) for name in ARGUMENTS}
        if arguments == {name: getattr(self, name) for name in ARGUMENTS}:
            return found
        images = found.size and (self.size or self.plan.example is None)
        example = _example(arguments) if images else self.plan.example
        return replace(found, plan=blueprint(self.factory, example, arguments))

    def spec(self) -> dict[str, Any]:
        """Return all options as values for JSON."""
        kept: dict[str, Any] | None = None
        if self.primitives is not None:
            kept = {
                name: [list(names) for names in edges] for name, edges in self.primitives.items()
            }
        found = {name: getattr(self, name) for name in ARGUMENTS}
        return {"primitives": kept, **found, "discrete": self.discrete}

    def read_logits(self, outputs: Sequence[Any]) -> Any:
        """Return the logits of one or more outputs of the module, one behind the other.

        Without a function that reads them, an output that is no tensor is returned as it is.
        """
        found = outputs if self.logits is None else [self.logits(output) for output in outputs]
        if not found:
            return None
        return torch.cat(list(found)) if len(found) > 1 and torch.is_tensor(found[0]) else found[0]

    @property
    def logit_shape(self) -> tuple[int, ...] | None:
        """Return the shape of the logits for the example; None if the output is no tensor.

        Raises:
            ValueError: The function that reads the logits fails.
        """
        try:
            found = self.read_logits([self.plan.output])
        except Exception as error:
            raise ValueError(
                f"logits: the function fails on the output of the module ({type(error).__name__}: "
                f"{one_line(error)})"
            ) from error
        return tuple(found.shape) if torch.is_tensor(found) else None

    def supernet(self) -> ModuleNet:
        """Return a new supernet, with the initialisation of the user's factory."""
        return ModuleNet(self)

    def evaluation(self, **options: Any) -> ModuleSpace:
        """Return the space of the derived networks; only `ARGUMENTS` can replace an option."""
        chosen = {name: value for name, value in options.items() if value is not None}
        return self.resized(**chosen)

    def derive(self, genotype: Genotype | str, **options: Any) -> Derived:
        """Return the derived network of a genotype, as `Space.derive`.

        Its ``network.net`` is the user's module without a choice inside.
        """
        genotype = Genotype.of(genotype)
        kept = genotype.primitives(self.plan.groups)
        self.example()  # raises an error if it is unknown, and with it the form of each call
        whole = self.evaluation(**options)
        return Derived(genotype, replace(whole.resized(primitives=kept), discrete=True))

    def costs(self, size: Any = None, **options: Any) -> dict[str, Cost]:
        """Return the costs "params" and "macs" of the derived networks, exact by addition.

        Args:
            size: Side of the image in pixels. It counts only if the space is one of images.
            options: As in `evaluation`.
        """
        if self.size and size:
            options = {"size": size} | options
        return counting.costs(self.evaluation(**options))

    def example(self) -> tuple[Any, ...]:
        """Return the arguments of a forward pass.

        Raises:
            ValueError: They are unknown, because the space is one of images without a size.
        """
        if self.plan.example is None:
            raise ValueError(f"the images of {self.name} have no size yet: give its option size")
        return self.plan.example

    @property
    def output(self) -> tuple[int, ...] | None:
        """Return the shape of the output of `example`; None if it is unknown or no tensor."""
        found = self.plan.output
        return tuple(found.shape) if isinstance(found, Tensor) else None

    def filled(
        self, fill: Callable[[EdgeGroup, Select], nn.Module], size: int = 0
    ) -> tuple[nn.Module, tuple[Any, ...]]:
        """Return the module with other modules for its choices, as `archgrad.modules.ram` needs it.

        Args:
            fill: (edge group, function) -> the module for a choice. The function returns the module
                of selected primitives.
            size: Not used, because the example tells the shape of the inputs.

        Returns:
            The module, and the example of its inputs.
        """
        groups = self.groups
        net = filled(
            self.plan.build(), self.plan.places, lambda name, select: fill(groups[name], select)
        )
        return net, self.example()


@named_if_wrong
def module_space(
    module: Any,
    example: Any = None,
    *,
    logits: ReadLogits | None = None,
    classes: int = 0,
    in_channels: int = 0,
    size: int = 0,
) -> ModuleSpace:
    """Return the search space of a module that has choices inside.

    Args:
        module: The class of the module, or another function that makes it. An instance keeps its
            weights, and is copied.
        example: Input of a forward pass, a tensor (1, ...), or a tuple of such arguments. Images
            need none if ``in_channels`` and ``size`` are given.
        logits: Function that reads the logits (B, K) from the output of the module. It is needed if
            the output is no tensor and the method or the metric needs logits.
        classes: Number of classes, passed to ``module`` if it takes an argument of this name.
        in_channels: Number of channels of an image, passed in the same way.
        size: Side of an image in pixels, passed in the same way.

    Returns:
        The space.

    Raises:
        ValueError: The module has no choice, or a choice cannot be searched. The message names the
            place in the module.
    """
    arguments = {"classes": classes, "in_channels": in_channels, "size": size}
    if example is None:
        if not in_channels or not size:
            raise ValueError("example is missing: give the input of a forward pass, such as zeros")
        given = _example(arguments)
    else:
        given = example if isinstance(example, tuple) else (example,)
    plan = blueprint(module, given, arguments)
    space = ModuleSpace(
        name_of(module),
        module,
        plan,
        logits,
        classes=classes,
        in_channels=in_channels,
        size=size,
    )
    _ = space.logit_shape  # a function that fails raises an error now, and not in the search
    return space


def _example(arguments: Mapping[str, int]) -> tuple[Tensor]:
    side = arguments["size"]
    with with_numbers():
        return (torch.zeros(1, arguments["in_channels"], side, side),)


def _checked(given: Any, groups: Groups) -> Primitives:
    """Return the option ``primitives``; raise ValueError if it does not fit the groups."""
    if not isinstance(given, Mapping) or set(given) != set(groups):
        raise ValueError(
            f"primitives of a module must name {', '.join(groups)}, not {short_repr(given)}"
        )
    found: Primitives = {}
    for name, edges in given.items():
        names = groups[name].edges[0].primitives
        kept = tuple(tuple(one) for one in edges)
        if len(kept) != 1 or len(kept[0]) < groups[name].pick or set(kept[0]) - set(names):
            raise ValueError(
                f"primitives of {name!r} must be one list of at least {groups[name].pick} among "
                f"{', '.join(names)}, not {short_repr(edges)}"
            )
        found[name] = kept
    return found
