"""What a network costs, counted on the meta device: nothing is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def count(network: nn.Module, size: int | tuple[int, int], channels: int = 3) -> dict[str, int]:
    """{"params": all parameters, "macs": multiply-accumulates of convolutions and linear layers for one image at inference}.

    ``size``: the image's side, or (height, width). This is what the tables of the field count (NAS-Bench-201's "flops" are MACs);
    an auxiliary head has parameters but does not run at inference.
    """
    height, width = (size, size) if isinstance(size, int) else size
    meta = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.no_grad(), _Flops() as counter:
            functional_call(network, meta, torch.empty(1, channels, height, width, device="meta"))
    finally:
        for module, training in modes:
            module.training = training
    return {"params": sum(p.numel() for p in network.parameters()), "macs": counter.flops // 2}


class _Flops(TorchDispatchMode):
    """torch's own formulas (two FLOPs a MAC), without the decompositions that make `FlopCounterMode` slow on many small layers."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out
