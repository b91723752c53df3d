"""Relaxations: alphas -> mixture. Each is one idea of one paper. All of them work in float32 whatever autocast says."""

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
from archgrad.seeds import forked


@lru_cache(maxsize=256)
def cached_mask(group: EdgeGroup, device: torch.device) -> Tensor:
    """`EdgeGroup.mask`, made once a group and device."""
    return group.mask(device)


def masked_softmax(logits: Tensor, group: EdgeGroup) -> Tensor:
    """logits (..., edges, ops) -> probabilities over each edge's own ops; padding and removed edges get 0, and send no gradient back."""
    mask = cached_mask(group, logits.device)
    # The smallest finite number, not -inf: a removed edge is masked whole, and the softmax of only -inf is nan.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask


def masked_logsumexp(logits: Tensor, group: EdgeGroup) -> Tensor:
    """logits (..., edges, ops) -> ``log sum exp`` over each edge's own ops (..., edges); a removed edge gets 0 and sends no gradient back."""
    mask = cached_mask(group, logits.device)
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).logsumexp(-1) * mask.any(-1)


def softmax(alphas: Alphas, context: Context) -> Mixture:
    """``p = softmax(a)`` per edge: the continuous relaxation (DARTS, Liu et al. 2019, arXiv 1806.09055, eq. 2)."""
    return Mixture(
        {name: masked_softmax(alphas[name], group) for name, group in context.groups.items()}
    )


def sigmoid(alphas: Alphas, context: Context) -> Mixture:
    """``sigma(a)`` of each op by itself: ops do not compete, and a row need not sum to 1 (FairDARTS, Chu et al. 2020, arXiv 1911.12126)."""
    return Mixture(
        {
            name: alphas[name].sigmoid() * cached_mask(group, alphas[name].device)
            for name, group in context.groups.items()
        }
    )


def tempered_softmax(logits: Tensor, group: EdgeGroup, temperature: float) -> Tensor:
    """``softmax(a / T)`` per edge, as `masked_softmax`; finite for any finite logits and any T > 0."""
    mask = cached_mask(group, logits.device)
    # The largest logit becomes 0 before the division: a quotient may then overflow to -inf alone, which is the probability 0.
    top = logits.detach().masked_fill(~mask, torch.finfo(logits.dtype).min).amax(-1, keepdim=True)
    return masked_softmax((logits - top) / temperature, group)


Noise = Callable[[Tensor, torch.Generator], Tensor]
"""logits, generator on their device -> noise of their shape."""


def gaussian(sigma: float) -> Noise:
    """``sigma * N(0, 1)``"""
    return lambda logits, rng: (
        sigma * torch.randn(logits.shape, generator=rng, device=logits.device, dtype=logits.dtype)
    )


def gumbel(logits: Tensor, rng: torch.Generator) -> Tensor:
    """Standard Gumbel, ``-ln E`` with E exponentially distributed."""
    return -torch.empty_like(logits).exponential_(generator=rng).log()


def sparse_softmax(
    temperature: Scalar, noise: Noise | None = None
) -> Callable[[Alphas, Context], Mixture]:
    """``p = softmax(a / T)``; in the alpha phase ``softmax((a + noise) / T)`` where there is noise."""

    def relax(alphas: Alphas, context: Context) -> Mixture:
        t = temperature(context)
        shaken = {name: alphas[name] for name in context.groups}
        if noise and context.phase == "alpha":
            shaken = {
                name: a + noise(a, context.rng(f"sparse_softmax/{name}", a.device))
                for name, a in shaken.items()
            }
        return Mixture(
            {
                name: tempered_softmax(shaken[name], group, t)
                for name, group in context.groups.items()
            }
        )

    return relax


def sparse_noisy_softmax(temperature: Scalar) -> Callable[[Alphas, Context], Mixture]:
    """sn-softmax (sTDARTS, arXiv 2306.06855; as read in the code of its predecessor): the value is ``softmax(a / T)``; in the alpha phase
    its gradient is that of ``softmax(a / T)`` plus, where T is not 1, that of ``softmax(a)``, which does not saturate at a small T."""
    sparse = sparse_softmax(temperature)

    def relax(alphas: Alphas, context: Context) -> Mixture:
        mixture = sparse(alphas, context)
        if context.phase != "alpha" or temperature(context) == 1:
            return mixture
        smooth = softmax(alphas, context).weights
        # p + (q - q) keeps p's value to the last bit; (p + q) - q would not.
        return Mixture(
            {
                name: p + (smooth[name] - smooth[name].detach())
                for name, p in mixture.weights.items()
            }
        )

    return relax


def concrete(temperature: Scalar) -> Callable[[Alphas, Context], Mixture]:
    """``softmax((a + g) / T)``, g Gumbel noise of its own in each phase: the concrete distribution (Maddison et al., Jang et al. 2017)."""

    def relax(alphas: Alphas, context: Context) -> Mixture:
        t = temperature(context)
        shaken = {
            name: alphas[name]
            + gumbel(alphas[name], context.rng(f"concrete/{name}", alphas[name].device))
            for name in context.groups
        }
        return Mixture(
            {
                name: tempered_softmax(shaken[name], group, t)
                for name, group in context.groups.items()
            }
        )

    return relax


class Draw(NamedTuple):
    """What one edge group drew, all (edges, ops): alphas, the Gumbel noise, one-hot 1 at the op where their sum is largest."""

    alphas: Tensor
    noise: Tensor
    chosen: Tensor


Surrogate = Callable[[Draw, EdgeGroup, Context], Tensor]
"""Differentiable in the draw's alphas (edges, ops): the draw has this one's gradient."""


def one_path(surrogate: Surrogate, idle: str = "scalar") -> Callable[[Alphas, Context], Mixture]:
    """One op an edge runs, drawn by the probabilities ``softmax(a)`` (Gumbel-max): exactly one-hot, with the gradient of the ``surrogate``.

    ``idle`` is what the ops that were not drawn give to the alphas: "scalar" is GDAS's, whose authors add ``p_k`` (value 0) in the op's
    place; "nothing"; "run" executes them in the alpha phase, for their true share.
    """

    def relax(alphas: Alphas, context: Context) -> Mixture:
        weights, active = {}, {}
        for name, (noise, one_hot) in _drawn(alphas, context).items():
            a = alphas[name]
            draw = Draw(a, noise.to(a), one_hot.to(a))
            soft = surrogate(draw, context.groups[name], context)
            weights[name] = draw.chosen + (
                soft - soft.detach()
            )  # plus 0, so that the value stays one-hot to the last bit
            active[name] = one_hot
        return Mixture(
            weights,
            None if idle == "run" and context.phase == "alpha" else active,
            idle=idle != "nothing",
        )

    return relax


def _drawn(alphas: Alphas, context: Context) -> dict[str, tuple[Tensor, Tensor]]:
    """Noise and one-hot bool of each group, on the host: which op runs must be known there, and one copy for all stops a GPU only once."""
    groups = context.groups
    host = torch.cat([alphas[name].detach().flatten() for name in groups]).cpu()
    drawn = {}
    for (name, group), flat in zip(
        groups.items(), host.split([alphas[name].numel() for name in groups]), strict=True
    ):
        logits, mask = flat.view(alphas[name].shape), cached_mask(group, host.device)
        noise = gumbel(logits, context.rng(f"one_path/{name}"))
        drawn[name] = (
            noise,
            F.one_hot(
                (logits + noise).masked_fill(~mask, -torch.inf).argmax(-1), group.width
            ).bool()
            & mask,
        )
    return drawn


LEAST = 1e-3
"""Smallest concentration: of smaller ones all draws of a row may underflow in float32, and their gradient is noise."""


def concentration(logits: Tensor) -> Tensor:
    """``elu(a) + 1``, at least `LEAST`, without the cancellation of that sum."""
    return torch.where(logits > 0, logits + 1, logits.clamp(max=0).exp()).clamp(min=LEAST)


def dirichlet(alphas: Alphas, context: Context) -> Mixture:
    """Each edge's weights drawn from ``Dirichlet(elu(a) + 1)``, differentiated pathwise (DrNAS, Chen et al. 2021, arXiv 2006.10355, eq. 4).
    The only op of an edge has 1."""
    weights = {}
    for name, group in context.groups.items():
        a = alphas[name]
        drawn = cached_mask(group, a.device).to(a.dtype)
        with forked(
            context.seed, f"dirichlet/{name}", context.phase, *context.t.place, device=a.device
        ):  # rsample takes no generator
            for rows, size in choices(group, a.device):
                part = Dirichlet(concentration(a[rows, :size]), validate_args=False).rsample()
                drawn = drawn.index_put((rows[:, None], torch.arange(size, device=a.device)), part)
        weights[name] = drawn
    return Mixture(weights)


def dirichlet_mean(alphas: Alphas, context: Context) -> Mixture:
    """``(elu(a) + 1) / sum``, the mean of `dirichlet`."""
    masses = {
        name: concentration(alphas[name]) * cached_mask(group, alphas[name].device)
        for name, group in context.groups.items()
    }
    return Mixture(
        {name: mass / mass.sum(-1, keepdim=True).clamp(min=LEAST) for name, mass in masses.items()}
    )


@lru_cache(maxsize=256)
def choices(group: EdgeGroup, device: torch.device) -> list[tuple[Tensor, int]]:
    """(rows, ops) of the edges that have a choice, by their number of ops: what cannot be padded is done for each number by itself."""
    sizes = [len(edge.primitives) for edge in group.edges]
    return [
        (torch.tensor([e for e, one in enumerate(sizes) if one == size], device=device), size)
        for size in sorted({*sizes} - {0, 1})
    ]
