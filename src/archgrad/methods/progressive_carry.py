"""One supernet through two stages of a search: what a pruned or widened one keeps of the one before, its optimizers' state included.

Wider tensors after DrNAS's `net2wider` (arXiv 2006.10355): a channel that is new to an op copies one that the op had, weights and momenta.
"""

from __future__ import annotations

import torch
from torch import Tensor

from archgrad.searching.carry import Change, chosen
from archgrad.searching.types import State
from archgrad.seeds import generator


def carry(old: State, new: State) -> None:
    """Weights, running statistics and alphas of what stays, and the momenta of each."""
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
        change = chosen(*groups)
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
    """value -> value of ``shape``: where a side grows, its further places copy drawn ones of the old, the same wherever so many become so
    many, so that the layers of an op agree on who copies whom. Where it shrinks, the first places stay."""

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
