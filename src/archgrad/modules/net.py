"""The network of a module space: the user's module as a supernet or as a derived network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Output
from archgrad.modules import counting
from archgrad.modules.blueprint import choice_at, replaced
from archgrad.modules.mixing import Pass, restore_in_backward, running
from archgrad.seeds import seeded

if TYPE_CHECKING:
    from archgrad.modules.space import ModuleSpace


class ModuleNet(nn.Module):
    """The user's module as a supernet, or as a derived network if the space is discrete.

    Attributes:
        net: The user's module.
        example: Arguments of a forward pass of ``net``.
    """

    def __init__(self, space: ModuleSpace) -> None:
        super().__init__()
        self.space = space
        with seeded("module", "supernet"):
            self.net = self._made()

    def _made(self) -> nn.Module:
        space = self.space
        net = space.plan.build()
        if not space.discrete:
            return net
        kept = {name: edges[0] for name, edges in (space.primitives or {}).items()}
        return replaced(net, space.plan.places, kept)

    @property
    def example(self) -> tuple[Any, ...]:
        """Return the arguments of a forward pass of ``net``."""
        return self.space.example()

    def initialise(self, seed: int) -> None:
        """Initialise the module by the user's own factory, under a seeded generator.

        An instance keeps its weights.
        """
        if self.space.plan.instance:
            return
        with seeded(seed, "init"):
            fresh = self._made()
        self.net.load_state_dict(fresh.state_dict())

    def forward(
        self, inputs: Any, mixture: Mixture | None = None, *, drop_path: float = 0.0
    ) -> Output:
        """Compute the output of inputs.

        Args:
            inputs: The input of the module, or a function without arguments that calls it and
                returns a scalar loss.
            mixture: Weights of the alternatives; None gives each the weight 1.
            drop_path: Probability of dropping the output of an alternative while it trains.

        Returns:
            The logits, if they are known, and the output of the module as ``raw``. The ``raw`` of a
            function is its loss, and its logits are those of all its calls of the module.
        """
        if self.space.size and isinstance(inputs, Tensor):
            inputs = inputs.contiguous()  # channels_last images would end at a view of the user's
        now = Pass(self._full(mixture), drop_path)
        if callable(inputs):
            with running(now), outputs_of(self.net) as outputs:
                raw = inputs()
        else:
            with running(now):
                raw = self.net(*arguments_of(inputs, self.example))
            outputs = [raw]
        restore_in_backward(raw, now)
        return Output(self.space.read_logits(outputs), raw=raw)

    def _full(self, mixture: Mixture | None) -> Mixture | None:
        """Return a mixture over all alternatives of the module, with 0 for those that left."""
        if mixture is None and (self.space.primitives is None or self.space.discrete):
            return None
        return mixture if self.space.primitives is None else _widened(mixture, self.space)

    def counts(self) -> dict[str, int]:
        """Return "params" and "macs" of the module for its example, as `archgrad.cost.counting`."""
        return counting.count(self.net, self.example)

    def ops(self, group: str, edge: int, primitive: str) -> list[nn.Module]:
        """Return the modules of an alternative in all choices of a group, as `Supernet.ops`."""
        return [
            module
            for place in self.space.plan.places
            if place.group == group
            for module in choice_at(self.net, place.path).ops(primitive)
        ]


def arguments_of(inputs: Any, example: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the inputs of a batch as the arguments of a module.

    A tuple or list has one input for each argument, if the example has several arguments.
    """
    several = isinstance(inputs, tuple | list) and len(example) > 1
    return tuple(inputs) if several else (inputs,)


@contextmanager
def outputs_of(net: nn.Module) -> Iterator[list[Any]]:
    """Return a list in which the outputs of all calls of a module inside the block gather."""
    found: list[Any] = []

    def gather(module: nn.Module, arguments: Any, output: Any) -> None:
        found.append(output)

    hook = net.register_forward_hook(gather)
    try:
        yield found
    finally:
        hook.remove()


def _widened(mixture: Mixture | None, space: ModuleSpace) -> Mixture:
    """Return a mixture over all alternatives, in which those that left have 0 and do not run."""
    weights, active = {}, {}
    for name, whole in space.plan.groups.items():
        names, kept = whole.edges[0].primitives, space.groups[name].edges[0].primitives
        columns = [names.index(one) for one in kept]
        rows = (
            torch.ones(1, len(kept)) if mixture is None else mixture.weights[name][:, : len(kept)]
        )
        full = rows.new_zeros(1, len(names))
        weights[name] = full.index_copy(1, torch.tensor(columns, device=rows.device), rows)
        runs = torch.zeros(1, len(names), dtype=torch.bool)
        given = None if mixture is None or mixture.active is None else mixture.active[name]
        runs[0, columns] = True if given is None else given[0, : len(kept)]
        active[name] = runs
    if mixture is None:
        return Mixture(weights, active, idle=False)
    return replace(mixture, weights=weights, active=active)
