"""How a search begins: weights and alphas that depend on the seed and on their own names alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from archgrad.arch.edges import Alphas
from archgrad.arch.space import Space
from archgrad.seeds import forked, generator, place_seed


def seeded(net: nn.Module, seed: int) -> nn.Module:
    """Every module re-initialised by its own ``reset_parameters`` under a seed made of its name: two nets of one seed agree wherever
    they have the same module, whatever else they have."""
    with forked(seed, "init"):
        for name, module in net.named_modules():
            if module._parameters and callable(reset := getattr(module, "reset_parameters", None)):
                torch.manual_seed(place_seed(seed, "init", name))
                reset()
    return net


def normal_alphas(
    space: Space, extra: dict[str, Any], scale: float, seed: int, device: torch.device
) -> Alphas:
    """``scale * N(0, 1)`` per group and per extra kind of logits, each seeded by its name; padding is 0."""
    alphas: Alphas = {}
    for name, group in space.groups.items():
        rng = generator(seed, "alphas", name)
        alphas[name] = (
            scale * torch.randn(len(group.edges), group.width, generator=rng) * group.mask()
        )
        for kind, shape in extra.items():
            alphas[f"{name}/{kind}"] = scale * torch.randn(
                shape(group), generator=generator(seed, "alphas", name, kind)
            )
    return {name: a.to(device).requires_grad_() for name, a in alphas.items()}
