"""The first weights and alphas of a search, which depend on the seed and on their names alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from archgrad.arch.edges import Alphas
from archgrad.arch.space import Space
from archgrad.seeds import generator, place_seed, seed_cpu, seeded


def initialise(net: nn.Module, seed: int) -> nn.Module:
    """Initialise every module again, by ``reset_parameters`` under a seed made of its name.

    Two networks of one seed agree in every module that both have. A network with a method
    ``initialise`` is the user's own and keeps the initialisation of its factory.

    Returns:
        The network.
    """
    if own := getattr(net, "initialise", None):
        own(seed)
        return net
    with seeded(seed, "init"):
        for name, module in net.named_modules():
            if module._parameters and callable(reset := getattr(module, "reset_parameters", None)):
                if all(value is None or value.is_cpu for value in module._parameters.values()):
                    seed_cpu(seed, "init", name)
                else:
                    torch.manual_seed(place_seed(seed, "init", name))
                reset()
    return net


def initial_alphas(
    space: Space, extra: dict[str, Any], scale: float, seed: int, device: torch.device
) -> Alphas:
    """Return the first alphas, ``scale * N(0, 1)``, each seeded by its name, with padding 0.

    Args:
        space: Space.
        extra: Name of further logits -> function that gives their shape for a group.
        scale: Scale of the alphas.
        seed: Seed of the search.
        device: Device of the alphas.

    Returns:
        Name of a group -> (edges, ops); ``group/name`` -> further logits.
    """
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
    return {name: rows.to(device).requires_grad_() for name, rows in alphas.items()}
