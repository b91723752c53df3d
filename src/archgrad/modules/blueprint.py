"""The user's module as a search space sees it: its choices, and the shapes that reach them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from archgrad.arch.edges import Edge, EdgeGroup, Groups, groups_of
from archgrad.errors import one_line, short_repr
from archgrad.modules.choices import CHOICES, AnyChoice, are_nested, linked
from archgrad.modules.mixing import Pass, running
from archgrad.seeds import seeded

Select = Callable[[Sequence[str]], nn.Module]
"""(selected primitives) -> the module that stands for a choice in a derived network."""
ARGUMENTS = ("classes", "in_channels", "size")
"""The arguments of a factory that a search sets, if the factory takes them."""


REST = "the rest of the module"


class Place(NamedTuple):
    """A choice in the user's module.

    Attributes:
        path: Path of the module.
        group: Name of its edge group: its label, or its path.
        inputs: Number of positional arguments of its calls.
        names: Names of the other arguments of its calls.
    """

    path: str
    group: str
    inputs: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Blueprint:
    """A user's module and its choices.

    Attributes:
        make: Function that makes the module; it is not called again for an instance.
        instance: Whether the user gave an instance, whose weights stay.
        example: Arguments of a forward pass; None if no pass was run, because they are unknown.
        places: The choices.
        groups: The edge groups.
        output: Output of that pass; None if there was none.
    """

    make: Callable[[], nn.Module]
    instance: bool
    example: tuple[Any, ...] | None
    places: tuple[Place, ...]
    groups: Groups
    output: Any = None

    def build(self) -> nn.Module:
        """Return a new module, whose choices know their groups."""
        net = self.make()
        for place in self.places:
            choice_at(net, place.path).group = place.group
        return net


def blueprint(
    given: Any, example: tuple[Any, ...] | None, arguments: Mapping[str, Any]
) -> Blueprint:
    """Return the blueprint of a module after one dry run.

    Args:
        given: A class or function that makes the module, or an instance.
        example: Arguments of a forward pass; tensors have a batch of 1 or more. None leaves out the
            run, so that the groups are known and the costs are not.
        arguments: Values of `ARGUMENTS`; the function gets those that it takes.

    Raises:
        ValueError: The module has no choice, a choice lies inside another, alternatives share
            weights, the pass does not reach a choice or reaches it with different shapes, or
            choices of one label differ.
    """
    make, instance = maker(given, arguments)
    net = built(make)
    found = {path: module for path, module in net.named_modules() if isinstance(module, CHOICES)}
    if not found:
        raise ValueError(
            f"{name_of(given)} has no choice: write archgrad.Choice, Repeat or InputChoice into it"
        )
    if nested := are_nested(list(found)):
        raise ValueError(
            f"choice {nested[1]!r} lies inside choice {nested[0]!r}: nesting is not supported, "
            "because costs would no longer add up; move it out"
        )
    check_sharing(net, found)
    for path, choice in found.items():
        choice.group = choice.label or path or "module"  # the module itself may be a choice
        if choice.label and choice.label in found and not found[choice.label].label:
            raise ValueError(
                f"choice {path!r} has the label {choice.label!r}, which is the place of another "
                "choice without a label: take another label"
            )
    groups = _groups(found)
    if example is None:
        places = tuple(Place(path, choice.group, 1, ()) for path, choice in found.items())
        return Blueprint(make, instance, None, places, groups)
    calls, output = dry_run(net, found, example)
    places = tuple(Place(path, choice.group, *calls[path]) for path, choice in found.items())
    return Blueprint(make, instance, example, places, groups, output)


def check_sharing(net: nn.Module, found: Mapping[str, AnyChoice]) -> None:
    """Check that the weights of an op belong to it alone, so that costs add up.

    Raises:
        ValueError: Two ops share weights, or an op and the rest of the module. The message names
            both places.
    """
    inside = tuple(f"{path}." if path else "" for path in every_path(net, found))
    owners = {
        id(parameter): REST
        for name, parameter in net.named_parameters(remove_duplicate=False)
        if not name.startswith(inside)
    }
    for path, choice in found.items():
        for name, op in choice.parts():
            owner = f"{name!r} of {path!r}"
            for parameter in op.parameters():
                if (other := owners.setdefault(id(parameter), owner)) != owner:
                    first, second = (owner, other) if other == REST else (other, owner)
                    raise ValueError(
                        f"{first} and {second} share weights: costs would not add up, so give each "
                        "weights of its own"
                    )


def every_path(net: nn.Module, found: Mapping[str, AnyChoice]) -> list[str]:
    """Return the paths of the choices; a choice may have several."""
    choices = set(found.values())
    return [path for path, one in net.named_modules(remove_duplicate=False) if one in choices]


def maker(given: Any, arguments: Mapping[str, Any]) -> tuple[Callable[[], nn.Module], bool]:
    """Return a function that makes the module, and whether the module is an instance.

    Raises:
        ValueError: The value is neither a function nor a module.
    """
    if isinstance(given, nn.Module):
        return (lambda: copy.deepcopy(given)), True
    if not callable(given):
        raise ValueError(
            f"a class or function that makes a module is expected, not {short_repr(given)}"
        )
    taken = accepted_arguments(given)
    chosen = {name: value for name, value in arguments.items() if value and name in taken}

    def make() -> nn.Module:
        with with_numbers():
            return given(**chosen)  # type: ignore[no-any-return]

    return make, False


def with_numbers() -> AbstractContextManager[Any]:
    """Return a context in which tensors have numbers, also inside ``torch.device("meta")``.

    A user's code may read them: ``torch.linspace(0, 0.2, 4).tolist()``.
    """
    return torch.device("cpu") if torch.empty(0).is_meta else nullcontext()


def accepted_arguments(factory: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names among `ARGUMENTS` that a factory takes."""
    parameters = inspect.signature(factory).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return ARGUMENTS
    return tuple(name for name in ARGUMENTS if name in parameters)


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """Return what a factory makes under a seeded generator; raise ValueError if it is no module."""
    with seeded("module", "blueprint"):
        net = make()
    if not isinstance(net, nn.Module):
        raise ValueError(f"the function must return a torch module, not {short_repr(net)}")
    return net


def dry_run(
    net: nn.Module, found: Mapping[str, AnyChoice], example: tuple[Any, ...]
) -> tuple[dict[str, tuple[int, tuple[str, ...]]], Any]:
    """Run the module once, and return the form of the call of each choice, and the output.

    Args:
        net: The module.
        found: Path -> choice.
        example: Arguments of the pass.

    Returns:
        Path -> number of positional arguments, and names of the other arguments; and the output of
        the module.

    Raises:
        ValueError: The pass fails, does not reach a choice, or reaches one with different shapes.
    """
    shapes: dict[str, list[Any]] = {path: [] for path in found}
    calls: dict[str, tuple[int, tuple[str, ...]]] = {}

    def see(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            leaves = tree_leaves((arguments, named))
            shapes[path].append([tuple(x.shape) for x in leaves if isinstance(x, Tensor)])
            calls[path] = len(arguments), tuple(named)

        return hook

    hooks = [
        choice.register_forward_pre_hook(see(path), with_kwargs=True)
        for path, choice in found.items()
    ]
    for path, choice in found.items():
        for _, op in choice.parts():
            hooks += refuse_changed_inputs(path, op)
    was = net.training
    try:
        with torch.no_grad(), running(Pass()), seeded("module", "dry run"):
            output = net.eval()(*example)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"a forward pass on the example fails ({type(error).__name__}: {one_line(error)})"
        ) from error
    finally:
        net.train(was)
        for hook in hooks:
            hook.remove()
    if unreached := [path for path, seen in shapes.items() if not seen]:
        raise ValueError(
            f"the forward pass never reaches choice {linked([repr(p) for p in unreached])}: use it "
            "there, or leave it out"
        )
    for path, seen in shapes.items():
        if other := [one for one in seen if one != seen[0]]:
            raise ValueError(
                f"the forward pass reaches choice {path!r} with shapes {seen[0]} and {other[0]}: a "
                "choice serves one shape, so make a second choice with the same label"
            )
    return calls, output


def refuse_changed_inputs(path: str, op: nn.Module) -> list[Any]:
    """Add hooks that raise a ValueError if an op changes its inputs in place.

    The other ops of the choice would then read the changed tensor, which they do not in the derived
    network.

    Args:
        path: Path of the choice, for the message.
        op: An alternative, or a block of a `Repeat`.

    Returns:
        The hooks.
    """
    versions: list[int] = []

    def now(arguments: Any, named: Any) -> list[int]:
        leaves = tree_leaves((arguments, named))
        return [leaf._version for leaf in leaves if isinstance(leaf, Tensor)]

    def before(module: nn.Module, arguments: Any, named: Any) -> None:
        versions[:] = now(arguments, named)

    def after(module: nn.Module, arguments: Any, named: Any, output: Any) -> None:
        if now(arguments, named) != versions:
            raise ValueError(
                f"an op of choice {path!r} changes its input in place ({type(op).__name__}), so "
                "other ops would read the changed one: leave out inplace=True"
            )

    return [
        op.register_forward_pre_hook(before, with_kwargs=True),
        op.register_forward_hook(after, with_kwargs=True),
    ]


def _groups(found: Mapping[str, AnyChoice]) -> Groups:
    first: dict[str, str] = {}
    for path, choice in found.items():
        same = found[first.setdefault(choice.group, path)]
        if (same.primitives, same.pick) != (choice.primitives, choice.pick):
            raise ValueError(
                f"choices {first[choice.group]!r} and {path!r} have the label {choice.group!r} and "
                f"other alternatives: {linked(same.primitives)}, and {linked(choice.primitives)}"
            )
    return groups_of(
        EdgeGroup(
            group,
            (Edge(0, 1, found[path].primitives),),
            (1,),
            pick=found[path].pick,
            hidden=(),
            free=tuple(found[path].weightless),
        )
        for group, path in first.items()
    )


def choice_at(net: nn.Module, path: str) -> Any:
    """Return the choice at a path of a module."""
    return net.get_submodule(path) if path else net


def name_of(given: Any) -> str:
    """Return the name of a class or function with its module, such as ``mypackage.nets:Net``."""
    kind = given if hasattr(given, "__qualname__") else type(given)
    return f"{kind.__module__}:{kind.__qualname__}"


def replaced(
    net: nn.Module, places: Sequence[Place], kept: Mapping[str, Sequence[str]]
) -> nn.Module:
    """Return a module in which each choice is replaced by what was selected.

    Args:
        net: The module, which is changed.
        places: Its choices.
        kept: Group -> the selected primitives.
    """
    return filled(net, places, lambda group, select: select(kept[group]))


def filled(
    net: nn.Module, places: Sequence[Place], fill: Callable[[str, Select], nn.Module]
) -> nn.Module:
    """Return a module in which other modules stand for its choices, at every name of a choice.

    Args:
        net: The module, which is changed.
        places: Its choices.
        fill: (name of the edge group, function) -> the module for a choice. The function returns
            the module of selected primitives.
    """
    for place in places:
        choice = choice_at(net, place.path)
        select = partial(choice.selected, inputs=place.inputs, names=place.names)
        module = fill(place.group, select)
        if not place.path:
            return module
        for path in every_path(net, {place.path: choice}):
            net.set_submodule(path, module)
    return net
