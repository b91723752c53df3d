"""Gradients, and what is done with them. Every gradient of a search step passes through `gradients`: nothing there calls ``.backward()``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn

Named = Mapping[str, Tensor]


@overload
def gradients(
    loss: Tensor,
    named: Named,
    *,
    create_graph: bool = ...,
    retain: bool = ...,
    zeros: Literal[True],
) -> dict[str, Tensor]: ...


@overload
def gradients(
    loss: Tensor,
    named: Named,
    *,
    create_graph: bool = ...,
    retain: bool = ...,
    zeros: bool = ...,
) -> dict[str, Tensor | None]: ...


def gradients(
    loss: Tensor,
    named: Named,
    *,
    create_graph: bool = False,
    retain: bool = False,
    zeros: bool = False,
) -> dict[str, Tensor] | dict[str, Tensor | None]:
    """d loss / d tensor for every named tensor, averaged over processes (with ``create_graph`` each process keeps its own: the product
    it goes into is averaged in its turn). ``retain``: the loss may be asked again.

    A tensor the loss does not reach gets None (an op that did not run must not be moved by momentum and decay), or 0 if ``zeros`` (alphas).
    """
    tensors = list(named.values())
    found: tuple[Tensor | None, ...] = (None,) * len(tensors)
    if loss.requires_grad and tensors:
        found = torch.autograd.grad(
            loss,
            tensors,
            create_graph=create_graph,
            retain_graph=create_graph or retain,
            allow_unused=True,
        )
    if _processes() > 1 and not create_graph and tensors:
        # Processes must reduce the same tensors: those that any of them reached.
        reached = torch.tensor([float(g is not None) for g in found], device=tensors[0].device)
        dist.all_reduce(reached)
        found = tuple(
            _averaged(torch.zeros_like(t) if g is None else g) if hit else None
            for t, g, hit in zip(tensors, found, reached.tolist(), strict=True)
        )
    of = dict(zip(named, found, strict=True))
    return dict(present(of, named)) if zeros else of


def present(found: Mapping[str, Tensor | None], named: Named) -> dict[str, Tensor]:
    """The gradients of ``named``, 0 where there is none."""
    return {
        name: torch.zeros_like(tensor) if (gradient := found[name]) is None else gradient
        for name, tensor in named.items()
    }


def _averaged(gradient: Tensor) -> Tensor:
    total = gradient.contiguous()
    dist.all_reduce(total)
    return total / _processes()


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def clip(found: Mapping[str, Tensor | None], norm: float) -> None:
    """Scales the gradients, in place, to a global L2 norm of at most ``norm`` (0 is off)."""
    some = [gradient for gradient in found.values() if gradient is not None]
    if norm and some:
        total = nn.utils.get_total_norm(some)
        torch._foreach_mul_(some, (norm / (total + 1e-6)).clamp(max=1.0))


def update(
    optimizer: torch.optim.Optimizer, named: Named, found: Mapping[str, Tensor | None]
) -> None:
    """One step of ``optimizer`` on exactly these tensors with these gradients."""
    for name, tensor in named.items():
        tensor.grad = found[name]
    optimizer.step()
    for tensor in named.values():
        tensor.grad = None


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """No gradient to these parameters inside: then nothing is saved for them either."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def probing(net: nn.Module) -> Iterator[None]:
    """A pass that only looks: the net's buffers (BatchNorm statistics) are afterwards what they were, also if it raises."""
    buffers = list(net.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.data.copy_(value)  # .data: a graph built inside stays valid outside
