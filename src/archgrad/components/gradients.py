"""Gradients of a search step, and the operations on them.

Every gradient of a search step comes from `gradients`; nothing in a step calls ``.backward()``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from archgrad.errors import one_line

NamedTensors = Mapping[str, Tensor]
"""Name -> tensor."""
Gradients = dict[str, Tensor | None]
"""Name of a tensor -> its gradient, or None where the loss does not reach the tensor."""


@overload
def gradients(
    loss: Tensor,
    named: NamedTensors,
    *,
    create_graph: bool = ...,
    retain: bool = ...,
    zeros: Literal[True],
) -> dict[str, Tensor]: ...


@overload
def gradients(
    loss: Tensor,
    named: NamedTensors,
    *,
    create_graph: bool = ...,
    retain: bool = ...,
    zeros: bool = ...,
) -> Gradients: ...


def gradients(
    loss: Tensor,
    named: NamedTensors,
    *,
    create_graph: bool = False,
    retain: bool = False,
    zeros: bool = False,
) -> dict[str, Tensor] | Gradients:
    """Return the gradient of a loss by every named tensor, averaged over processes.

    Args:
        loss: Scalar loss.
        named: Tensors by name.
        create_graph: Whether the gradients can be differentiated again. Each process then keeps
            its own gradients, because the product that they go into is averaged later.
        retain: Whether the graph of the loss stays for another gradient.
        zeros: Whether a tensor that the loss does not reach has the gradient 0 (alphas). Otherwise
            it has None (weights), so that momentum and decay do not move an op that did not run.

    Returns:
        Name -> gradient, in the shape of the tensor.
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
        reached = torch.tensor(
            [float(gradient is not None) for gradient in found], device=tensors[0].device
        )
        dist.all_reduce(reached)
        found = tuple(
            _averaged(torch.zeros_like(tensor) if gradient is None else gradient) if hit else None
            for tensor, gradient, hit in zip(tensors, found, reached.tolist(), strict=True)
        )
    by_name = dict(zip(named, found, strict=True))
    return with_zeros(by_name, named) if zeros else by_name


def with_zeros(found: Mapping[str, Tensor | None], named: NamedTensors) -> dict[str, Tensor]:
    """Return the gradients of the tensors ``named``, with 0 where ``found`` has None."""
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
    """Scale the gradients in place to a global L2 norm of at most ``norm``; 0 does nothing."""
    some = [gradient for gradient in found.values() if gradient is not None]
    if norm and some:
        total = nn.utils.get_total_norm(some)
        torch._foreach_mul_(some, (norm / (total + 1e-6)).clamp(max=1.0))


def update(
    optimizer: torch.optim.Optimizer, named: NamedTensors, found: Mapping[str, Tensor | None]
) -> None:
    """Take one step of ``optimizer`` on exactly the tensors ``named``, by their gradients."""
    for name, tensor in named.items():
        tensor.grad = found[name]
    optimizer.step()
    for tensor in named.values():
        tensor.grad = None


NO_SECOND = ("derivative for ", "differentiate twice", "Double backward")
"""Parts of torch's errors about an operation that has no second derivative."""


@contextmanager
def differentiable_twice(reader: str, way_out: str) -> Iterator[None]:
    """Let passes inside have second derivatives: attention runs as plain products.

    Args:
        reader: Name of the part that needs them, for an error.
        way_out: Option that does without them.

    Raises:
        ValueError: Another operation of a pass has no second derivative.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        if not any(part in str(error) for part in NO_SECOND):
            raise
        raise ValueError(
            f"{reader} needs second derivatives, which an operation of the network does not have "
            f"({one_line(error)}): {way_out}"
        ) from error


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Compute no gradient of these parameters inside, so that autograd saves nothing for them."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def in_place(weights: NamedTensors, values: NamedTensors) -> Iterator[None]:
    """Give weights other values inside, also to activations that a backward pass recomputes."""
    before = {name: weights[name].data for name in values}
    try:
        for name, value in values.items():
            weights[name].data = value.detach()
        yield
    finally:
        for name, value in before.items():
            weights[name].data = value


@contextmanager
def probing(net: nn.Module) -> Iterator[None]:
    """Restore the net's buffers (BatchNorm statistics) at the end, also after an exception."""
    buffers = list(net.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.data.copy_(value)  # .data: a graph built inside stays valid outside
