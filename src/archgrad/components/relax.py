"""Relaxations: alphas -> mixture. Each is one idea of one paper.

All of them compute in float32, also under autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Dirichlet

from archgrad.arch.edges import Alphas, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.schedules import Scalar
from archgrad.seeds import seeded


@lru_cache(maxsize=256)
def cached_mask(group: EdgeGroup, device: torch.device) -> Tensor:
    """Return `EdgeGroup.mask`, which is made once for each group and device."""
    return group.mask(device)


def masked_softmax(logits: Tensor, group: EdgeGroup) -> Tensor:
    """Return the softmax over the ops of each edge.

    Args:
        logits: (..., edges, ops).
        group: Edge group, whose mask tells ops from padding.

    Returns:
        Probabilities (..., edges, ops). Padding and removed edges have 0 and no gradient.
    """
    mask = cached_mask(group, logits.device)
    # The mask is the smallest finite number and not -inf, because a removed edge is masked whole
    # and the softmax of a row of -inf is nan.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask


def masked_logsumexp(logits: Tensor, group: EdgeGroup) -> Tensor:
    """Return ``log sum exp`` over the ops of each edge.

    Args:
        logits: (..., edges, ops).
        group: Edge group, whose mask tells ops from padding.

    Returns:
        (..., edges). A removed edge has 0 and no gradient.
    """
    mask = cached_mask(group, logits.device)
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).logsumexp(-1) * mask.any(-1)


def softmax(alphas: Alphas, context: Context) -> Mixture:
    """Return ``p = softmax(a)`` per edge, the continuous relaxation of DARTS.

    Source: Liu et al. 2019, arXiv 1806.09055, eq. 2.
    """
    return Mixture(
        {name: masked_softmax(alphas[name], group) for name, group in context.groups.items()}
    )


def sigmoid(alphas: Alphas, context: Context) -> Mixture:
    """Return ``sigma(a)`` of each op.

    Ops do not compete, and a row need not sum to 1 (FairDARTS, Chu et al. 2020, arXiv 1911.12126).
    """
    return Mixture(
        {
            name: alphas[name].sigmoid() * cached_mask(group, alphas[name].device)
            for name, group in context.groups.items()
        }
    )


def tempered_softmax(logits: Tensor, group: EdgeGroup, temperature: float) -> Tensor:
    """Return ``softmax(a / T)`` per edge, as `masked_softmax` does.

    It is finite for any finite logits and any T > 0.
    """
    mask = cached_mask(group, logits.device)
    # The largest logit is 0 before the division, so a quotient can overflow to -inf only, which is
    # the probability 0.
    top = logits.detach().masked_fill(~mask, torch.finfo(logits.dtype).min).amax(-1, keepdim=True)
    return masked_softmax((logits - top) / temperature, group)


Noise = Callable[[Tensor, torch.Generator], Tensor]
"""(logits, generator on their device) -> noise of their shape."""


def gaussian(sigma: float) -> Noise:
    """Return the noise ``sigma * N(0, 1)``."""
    return lambda logits, rng: (
        sigma * torch.randn(logits.shape, generator=rng, device=logits.device, dtype=logits.dtype)
    )


def gumbel(logits: Tensor, rng: torch.Generator) -> Tensor:
    """Draw standard Gumbel noise, ``-ln E`` with E exponentially distributed."""
    return -torch.empty_like(logits).exponential_(generator=rng).log()


def sparse_softmax(
    temperature: Scalar, noise: Noise | None = None
) -> Callable[[Alphas, Context], Mixture]:
    """Return the relaxation ``p = softmax(a / T)``.

    With ``noise``, the alpha phase has ``softmax((a + noise) / T)``.
    """

    def relax(alphas: Alphas, context: Context) -> Mixture:
        now = temperature(context)
        logits = {name: alphas[name] for name in context.groups}
        if noise and context.phase == "alpha":
            logits = {
                name: rows + noise(rows, context.rng(f"sparse_softmax/{name}", rows.device))
                for name, rows in logits.items()
            }
        return Mixture(
            {
                name: tempered_softmax(logits[name], group, now)
                for name, group in context.groups.items()
            }
        )

    return relax


def sparse_noisy_softmax(temperature: Scalar) -> Callable[[Alphas, Context], Mixture]:
    """Return the relaxation sn-softmax, whose value is ``softmax(a / T)``.

    In the alpha phase, where T is not 1, the gradient of ``softmax(a)`` is added to that of
    ``softmax(a / T)``, because it does not saturate at a small T.

    Source: sTDARTS, arXiv 2306.06855, as its predecessor's code computes it.
    """
    sparse = sparse_softmax(temperature)

    def relax(alphas: Alphas, context: Context) -> Mixture:
        mixture = sparse(alphas, context)
        if context.phase != "alpha" or temperature(context) == 1:
            return mixture
        smooth = softmax(alphas, context).weights
        # p + (q - q) keeps the value of p to the last bit, unlike (p + q) - q.
        return Mixture(
            {
                name: p + (smooth[name] - smooth[name].detach())
                for name, p in mixture.weights.items()
            }
        )

    return relax


def concrete(temperature: Scalar) -> Callable[[Alphas, Context], Mixture]:
    """Return the relaxation ``softmax((a + g) / T)``, with new Gumbel noise g in each phase.

    This is the concrete distribution (Maddison et al., Jang et al. 2017).
    """

    def relax(alphas: Alphas, context: Context) -> Mixture:
        now = temperature(context)
        logits = {
            name: alphas[name]
            + gumbel(alphas[name], context.rng(f"concrete/{name}", alphas[name].device))
            for name in context.groups
        }
        return Mixture(
            {
                name: tempered_softmax(logits[name], group, now)
                for name, group in context.groups.items()
            }
        )

    return relax


class Draw(NamedTuple):
    """Hold the draw of one edge group.

    Attributes:
        alphas: Logits (edges, ops).
        noise: Gumbel noise (edges, ops).
        chosen: One-hot (edges, ops), 1 at the op whose sum of logit and noise is largest.
    """

    alphas: Tensor
    noise: Tensor
    chosen: Tensor


Surrogate = Callable[[Draw, EdgeGroup, Context], Tensor]
"""(draw, group, context) -> (edges, ops), differentiable in the draw's alphas.

The draw has the gradient of this function.
"""


def one_path(surrogate: Surrogate, idle: str = "scalar") -> Callable[[Alphas, Context], Mixture]:
    """Return a relaxation in which each edge runs one op.

    The op is drawn by the probabilities ``softmax(a)`` (Gumbel-max). The mixture is exactly
    one-hot and has the gradient of ``surrogate``.

    Args:
        surrogate: Function that gives the gradient.
        idle: The gradient that ops that were not drawn give to the alphas. "scalar" is GDAS's,
            whose authors add ``p_k`` (value 0) in the op's place. "nothing" gives none. "run"
            executes these ops in the alpha phase, so that they give their true gradient.
    """

    def relax(alphas: Alphas, context: Context) -> Mixture:
        weights, active = {}, {}
        for name, (noise, one_hot) in _drawn(alphas, context).items():
            logits = alphas[name]
            draw = Draw(logits, noise.to(logits), one_hot.to(logits))
            soft = surrogate(draw, context.groups[name], context)
            # The term in brackets is exactly 0, so the value stays one-hot to the last bit.
            weights[name] = draw.chosen + (soft - soft.detach())
            active[name] = one_hot
        return Mixture(
            weights,
            None if idle == "run" and context.phase == "alpha" else active,
            idle=idle != "nothing",
        )

    return relax


def _drawn(alphas: Alphas, context: Context) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the noise and the one-hot draw (bool) of each group, on the host.

    The host must know which op runs, and one copy of all alphas stops a GPU only once.
    """
    groups = context.groups
    host = torch.cat([alphas[name].detach().flatten() for name in groups]).cpu()
    drawn = {}
    for (name, group), flat in zip(
        groups.items(), host.split([alphas[name].numel() for name in groups]), strict=True
    ):
        logits, mask = flat.view(alphas[name].shape), cached_mask(group, host.device)
        noise = gumbel(logits, context.rng(f"one_path/{name}"))
        chosen = (logits + noise).masked_fill(~mask, -torch.inf).argmax(-1)
        drawn[name] = noise, F.one_hot(chosen, group.width).bool() & mask
    return drawn


LEAST_CONCENTRATION = 1e-3
"""The smallest concentration.

With a smaller one all draws of a row may underflow in float32, and their gradient is noise.
"""


def concentration(logits: Tensor) -> Tensor:
    """Return ``elu(a) + 1``, at least `LEAST_CONCENTRATION`, without cancellation."""
    return torch.where(logits > 0, logits + 1, logits.clamp(max=0).exp()).clamp(
        min=LEAST_CONCENTRATION
    )


def dirichlet(alphas: Alphas, context: Context) -> Mixture:
    """Draw the weights of each edge from ``Dirichlet(elu(a) + 1)``, with pathwise gradients.

    The only op of an edge has the weight 1. Source: DrNAS, Chen et al. 2021, arXiv 2006.10355,
    eq. 4.
    """
    weights = {}
    for name, group in context.groups.items():
        logits = alphas[name]
        device = logits.device
        drawn = cached_mask(group, device).to(logits.dtype)
        # The generator is forked because rsample takes none.
        with seeded(
            context.seed,
            f"dirichlet/{name}",
            context.phase,
            *context.progress.step_key,
            device=device,
        ):
            for rows, size in edges_by_size(group, device):
                part = Dirichlet(concentration(logits[rows, :size]), validate_args=False).rsample()
                drawn = drawn.index_put((rows[:, None], torch.arange(size, device=device)), part)
        weights[name] = drawn
    return Mixture(weights)


def dirichlet_mean(alphas: Alphas, context: Context) -> Mixture:
    """Return ``(elu(a) + 1) / sum``, the mean of `dirichlet`."""
    masses = {
        name: concentration(alphas[name]) * cached_mask(group, alphas[name].device)
        for name, group in context.groups.items()
    }
    return Mixture(
        {
            name: mass / mass.sum(-1, keepdim=True).clamp(min=LEAST_CONCENTRATION)
            for name, mass in masses.items()
        }
    )


@lru_cache(maxsize=256)
def edges_by_size(group: EdgeGroup, device: torch.device) -> list[tuple[Tensor, int]]:
    """Return the edges that have a choice, by their number of ops.

    A distribution that cannot be padded is drawn for each number of ops separately.

    Returns:
        A list of (indices of the edges, number of ops of each).
    """
    sizes = [len(edge.primitives) for edge in group.edges]
    found = []
    for size in sorted({*sizes} - {0, 1}):
        edges = [edge for edge, own in enumerate(sizes) if own == size]
        found.append((torch.tensor(edges, device=device), size))
    return found
