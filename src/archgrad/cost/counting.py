"""The counts of parameters and multiply-adds, of a network and of each op of a space.

A count takes one forward pass in which no convolution is computed.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Space, Supernet
from archgrad.cost.cost import Cost


def count(network: nn.Module, size: int | tuple[int, int], channels: int = 3) -> dict[str, int]:
    """Count the parameters and the multiply-adds of a network.

    Tables of the literature count the same (the "flops" of NAS-Bench-201 are MACs). An auxiliary
    head has parameters but no multiply-adds, because it does not run at inference.

    Args:
        network: The network.
        size: Side of the image in pixels, or (height, width).
        channels: Channels of the image.

    Returns:
        "params", the number of all parameters, and "macs", the multiply-adds of convolutions and
        linear layers for one image at inference. A module of the user's counts itself.
    """
    if own := getattr(getattr(network, "network", network), "counts", None):
        counted: dict[str, int] = own()
        return counted
    meta = {
        name: tensor.to("meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.no_grad(), _Flops() as counter:
            functional_call(network, meta, torch.empty(1, channels, *_sides(size)))
    finally:
        for module, training in modes:
            module.training = training
    return {"params": _parameters(network), "macs": counter.flops // 2}


def costs(space: Space, size: int | tuple[int, int], **options: Any) -> dict[str, Cost]:
    """Return the costs "params" and "macs" of the derived networks of a space, as in `count`.

    One pass of the supernet counts all ops. `Cost.value_of` is always exact. `Cost.sum_over_ops` is
    exact except for derived networks that leave out nodes without inputs (DARTS): the layers that
    read them are then narrower, and the sum is an upper bound.

    Args:
        space: The space.
        size: Side of the image in pixels, or (height, width).
        options: Options of the networks ``space.derive(genotype, **options)``.

    Returns:
        Name -> cost.
    """
    if own := getattr(space, "costs", None):  # a module of the user's counts itself
        found: dict[str, Cost] = own(size=size, **options)
        return found
    whole = space.evaluation(**options)
    with torch.device("meta"):
        network = whole.supernet().eval()
    supernet = cast("Supernet", network)
    modules = {
        (group.name, source, target, primitive): supernet.ops(group.name, edge, primitive)
        for group in whole.groups.values()
        for edge, (source, target, primitives) in enumerate(group.edges)
        for primitive in primitives
    }
    distinct = list({id(module): module for ops in modules.values() for module in ops}.values())
    flops = dict.fromkeys(distinct, 0)
    with torch.no_grad(), _Flops() as counter:
        hooks = [hook for module in distinct for hook in _watch(module, counter, flops)]
        network(torch.empty(1, whole.in_channels, *_sides(size)))
    for hook in hooks:
        hook.remove()
    params = {module: _parameters(module) for module in distinct}
    each = {"params": params, "macs": {module: counted // 2 for module, counted in flops.items()}}
    total = {"params": _parameters(network), "macs": counter.flops // 2}

    @cache
    def exact(genotype: Genotype) -> dict[str, int]:
        with torch.device("meta"):
            return count(space.derive(genotype, **options), size, whole.in_channels)

    def cost(name: str) -> Cost:
        ops: dict[str, dict[tuple[int, int, str], float]] = {group: {} for group in whole.groups}
        for (group, *place), used in modules.items():
            ops[group][tuple(place)] = sum(each[name][module] for module in used)  # type: ignore[index]
        return Cost(
            name,
            "",
            total[name] - sum(each[name].values()),
            ops,
            lambda genotype: exact(genotype)[name],
        )

    return {name: cost(name) for name in each}


def _watch(module: nn.Module, counter: _Flops, flops: dict[nn.Module, int]) -> tuple[Any, Any]:
    """Add hooks that record the FLOPs of a module's forward in ``flops``."""

    def before(module: nn.Module, args: Any) -> None:
        flops[module] -= counter.flops

    def after(module: nn.Module, args: Any, output: Any) -> None:
        flops[module] += counter.flops

    return module.register_forward_pre_hook(before), module.register_forward_hook(after)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _convolved(
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> list[int]:
    """Return the shape of a convolution's output."""
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return [
        len(x),
        len(weight),
        *((side + 2 * p - d * (kernel - 1) - 1) // step + 1 for side, kernel, step, p, d in sides),
    ]


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """Return any numbers of the same shape on the CPU.

    torch's shape rules for the meta device import sympy, which takes longer than one image.
    """
    return torch.empty(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor


class _Flops(TorchDispatchMode):
    """Count FLOPs by torch's formulas (two for each MAC), faster than its `FlopCounterMode`.

    `FlopCounterMode` decomposes ops, which is slow for many small layers.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # A BatchNorm has no FLOPs here, and would take two thirds of the time.
        if func._overloadpacket is torch.ops.aten.native_batch_norm:
            return (args[0].new_empty(args[0].shape), *args[0].new_empty(2, 0))
        if func._overloadpacket is torch.ops.aten.convolution:
            out = args[0].new_empty(_convolved(*args[:2], *args[3:6]))
        else:
            out = func(*tree_map_only(torch.Tensor, _on_cpu, args), **(kwargs or {}))
        self.flops += flops_of(func, args, kwargs, out)
        return out


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, out: Any) -> int:
    """Return the FLOPs of an operation by torch's formula, two for each MAC; 0 without one."""
    formula = flop_registry.get(func._overloadpacket)
    return 0 if formula is None else formula(*args, **(kwargs or {}), out_val=out)
