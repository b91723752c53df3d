"""What a network costs, counted on the meta device: nothing is computed."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count(network: nn.Module, size: int | tuple[int, int], channels: int = 3) -> dict[str, int]:
    """{"params": all parameters, "macs": multiply-accumulates of convolutions and linear layers for one image at inference}.

    ``size``: the image's side, or (height, width). This is what the tables of the field count (NAS-Bench-201's "flops" are MACs);
    an auxiliary head has parameters but does not run at inference.
    """
    height, width = (size, size) if isinstance(size, int) else size
    twin = deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        twin(torch.empty(1, channels, height, width, device="meta"))
    return {"params": sum(p.numel() for p in network.parameters()), "macs": flops.get_total_flops() // 2}
