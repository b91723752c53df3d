"""What a network costs, and what each op of a space adds, counted in one pass in which no convolution is computed."""

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
    """{"params": all parameters, "macs": multiply-accumulates of convolutions and linear layers for one image at inference}.

    ``size``: the image's side, or (height, width). This is what the tables of the field count (NAS-Bench-201's "flops" are MACs);
    an auxiliary head has parameters but does not run at inference.
    """
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
    """ "params" and "macs" of the networks that ``space.derive(genotype, **options)`` gives, as `count` has them.

    One pass of the supernet says what each op adds. `Cost.added` is the exact number, except where a derived network leaves out nodes
    (DARTS cells with nodes that nothing leads to): what reads those is then narrower, and the sum an upper bound. `Cost.of` is always exact.
    """
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
    """Hooks that add to ``flops`` what a module's forward counts."""

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
    """Shape of a convolution's output."""
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return [
        len(x),
        len(weight),
        *((side + 2 * p - d * (kernel - 1) - 1) // step + 1 for side, kernel, step, p, d in sides),
    ]


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """Any numbers in its shape: torch's own rules for shapes on the meta device import sympy, which takes longer than one image does here."""
    return torch.empty(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor


class _Flops(TorchDispatchMode):
    """torch's own formulas (two FLOPs a MAC), without the decompositions that make `FlopCounterMode` slow on many small layers."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if (
            func._overloadpacket is torch.ops.aten.native_batch_norm
        ):  # counts nothing, and would be two thirds of the time
            return (args[0].new_empty(args[0].shape), *args[0].new_empty(2, 0))
        if func._overloadpacket is torch.ops.aten.convolution:
            out = args[0].new_empty(_convolved(*args[:2], *args[3:6]))
        else:
            out = func(*tree_map_only(torch.Tensor, _on_cpu, args), **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out
