"""The carry from one stage of a search to the next, of weights, alphas and optimizer states.

Tensors grow as in DrNAS's `net2wider` (arXiv 2006.10355): a channel that is new to an op copies
weights and momenta of a channel that the op had before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from archgrad.searching.carry import Change, column_selector
from archgrad.searching.types import State
from archgrad.seeds import generator


def carry(old: State, new: State) -> None:
    """Copy the weights, running statistics, alphas and momenta that stay to ``new``."""
    moved: dict[Tensor, tuple[Tensor, Change]] = {}
    for name, net in new.nets.items():
        before, parameters = old.nets[name].state_dict(keep_vars=True), dict(net.named_parameters())
        for key, value in net.state_dict(keep_vars=True).items():
            change = widened(value.shape, new.seed)
            value.data.copy_(change(before[key].data))
            if key in parameters:
                moved[before[key]] = value, change
    for name, a in new.alphas.items():
        groups = (state.space.groups[name.split("/")[0]] for state in (old, new))
        change = column_selector(*groups)
        a.data.copy_(change(old.alphas[name].data))
        moved[old.alphas[name]] = a, change
    for name, optimizer in new.optimizers.items():
        for tensor, slots in old.optimizers[name].state.items():
            if tensor in moved:
                value, change = moved[tensor]
                optimizer.state[value] = {
                    slot: torch.empty_like(value).copy_(change(kept))
                    if kept.shape == tensor.shape
                    else kept.clone()
                    for slot, kept in slots.items()
                }


def widened(shape: torch.Size, seed: int) -> Change:
    """Return a change of a tensor to ``shape``.

    Where a dimension grows, the new places copy drawn old places. The draw depends only on the seed
    and on both sizes, so all layers of an op copy the same channels. Where a dimension shrinks, the
    first places stay.
    """

    def change(value: Tensor) -> Tensor:
        for dim, (now, then) in enumerate(zip(value.shape, shape, strict=True)):
            if now != then:
                copied = torch.randint(
                    now,
                    (max(then - now, 0),),
                    generator=generator(seed, "progressive/widen", now, then),
                )
                value = value.index_select(
                    dim, torch.cat([torch.arange(min(now, then)), copied]).to(value.device)
                )
        return value

    return change
