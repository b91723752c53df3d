"""Curvature of the loss over the alphas: the largest eigenvalue of its Hessian.

It grows before a search degenerates (RobustDARTS, Zela et al. 2020, arXiv 1909.09656, section 4).

    lambda_max = max over |v| = 1 of v . H v      H = d2 L(a) / da da, weights held

This is the largest eigenvalue, not the one largest in size, so the slope of a saddle does not
count. Products ``H v`` are exact; each is one backward pass through the graph of the gradient. The
method of Lanczos needs few products. Where H is small, or that method does not converge, the code
builds the whole of H, one column per product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from archgrad.arch.edges import Alphas, Groups
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss
from archgrad.components.gradients import differentiable_twice, frozen, gradients
from archgrad.components.losses import label_loss
from archgrad.diagnostics.measuring import measuring
from archgrad.errors import counted
from archgrad.seeds import generator, seeded

BASIS = 10
"""The number of vectors of the method of Lanczos. Up to twice as many unknowns it is not used."""

Product = Callable[[np.ndarray], np.ndarray]
"""v -> H v, both (size,) float64."""


def largest_eigenvalue(
    product: Product, size: int, *place: object, tolerance: float = 1e-3
) -> float:
    """Return the largest eigenvalue of a symmetric (size, size) matrix.

    Args:
        product: Function v -> H v.
        size: Number of rows.
        *place: Seed and place of the start vector, which is a function of them.
        tolerance: Tolerance of the residual, relative to the size of matrix and eigenvalue. The
            error of the eigenvalue is about its square.

    Returns:
        The eigenvalue; 0 if ``size`` is 0, nan if the matrix is not finite.
    """
    if size <= 2 * BASIS:
        return _exact_eigenvalue(product, size)
    # The import takes a third of a second.
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    start = torch.randn(size, generator=generator(*place), dtype=torch.float64).numpy()
    shift = float(np.linalg.norm(product(start)) / np.linalg.norm(start))
    if shift == 0 or not math.isfinite(shift):
        return 0.0 if shift == 0 else math.nan
    # ARPACK leaves the null space out. Alphas always have one, because an edge's softmax stays the
    # same when a constant is added.
    shifted = LinearOperator(
        (size, size),
        matvec=lambda vector: product(vector) + shift * np.ravel(vector),
        dtype=np.float64,
    )
    restarts = size // BASIS + 1  # as many as cost as much as the whole of H
    try:
        found = eigsh(
            shifted,
            1,
            which="LA",
            v0=start,
            ncv=BASIS,
            maxiter=restarts,
            tol=tolerance,
            return_eigenvectors=False,
        )
    except ArpackError:
        return _exact_eigenvalue(product, size)
    return float(found[0]) - shift


def supernet_curvature(
    net: nn.Module,
    alphas: Alphas,
    mixture: Callable[[Alphas], Mixture],
    groups: Groups,
    batches: Iterable[Batch],
    *place: object,
    between: Callable[[], object] = lambda: None,
    of: Loss = label_loss,
    way_out: str = "do not measure it",
) -> float:
    """Return the largest eigenvalue of the Hessian of a supernet's loss over its alphas.

    The Hessian is that of the mean cross-entropy over ``batches``, under ``mixture(alphas)``. It
    covers all alphas, with further logits (``group/name``) and without padding.

    BatchNorm takes the statistics of each batch (training mode), and no op is dropped out. The
    graphs of all batches are in memory together. Mode, buffers, gradients and ``requires_grad`` of
    the network stay as they were.

    Args:
        net: Supernet.
        alphas: Logits by name of the edge group.
        mixture: Function alphas -> mixture.
        groups: Edge groups by name.
        batches: Batches of images.
        *place: Seed and place of the random draws.
        between: Function that is called before each product; it may raise.
        of: Loss in the place of the cross-entropy.
        way_out: Option that does without the curvature, for an error.

    Returns:
        The eigenvalue; nan where the loss overflows.

    Raises:
        ValueError: There are no batches, or an operation has no second derivative.
    """
    masks = {
        name: groups[name].mask(rows.device)
        if name in groups
        else torch.ones_like(rows, dtype=torch.bool)
        for name, rows in alphas.items()
    }
    sizes = [int(mask.sum()) for mask in masks.values()]
    flat = torch.cat([alphas[name].detach()[mask] for name, mask in masks.items()]).requires_grad_()
    padded = {
        name: rows.detach().masked_scatter(masks[name], part)
        for (name, rows), part in zip(alphas.items(), flat.split(sizes))
    }
    twice = differentiable_twice("the curvature of the alphas", way_out)
    with twice, measuring(net, training=True), frozen(net.parameters()):
        slopes = []
        for number, batch in enumerate(batches):
            with seeded(*place, "curvature", number, device=batch.device):
                output = net(batch.images, mixture(padded).without_dropout())
            slopes.append(_derivative(of(output, batch), flat, create_graph=True))
        if not slopes:
            raise ValueError("no batches to measure curvature on")
        slope = torch.stack(slopes).mean(0)

        def product(vector: np.ndarray) -> np.ndarray:
            between()
            along = torch.from_numpy(np.ravel(vector)).to(flat)
            return _derivative(slope @ along, flat, retain=True).double().cpu().numpy()

        precise = flat.dtype == torch.float64
        return largest_eigenvalue(
            product, len(flat), *place, "curvature", tolerance=1e-7 if precise else 1e-3
        )


def describe_rise(values: Sequence[float | None], window: int, ratio: float) -> str | None:
    """Describe a rise of the curvature, or return None where it did not rise.

    The curvature rose if its mean over the window before is below ``ratio`` times its mean over the
    last window. It did not rise if a window has no value, or if the last mean is not positive.

    Args:
        values: One value per epoch; None if it was not measured or is not finite.
        window: Number of epochs of each window.
        ratio: Largest ratio of the means that counts as a rise.
    """
    if len(values) < 2 * window:
        return None
    before, now = _mean(values[-2 * window : -window]), _mean(values[-window:])
    if before is None or now is None or now <= 0 or before >= ratio * now:
        return None
    return (
        f"the largest eigenvalue of the alphas' Hessian rose from {before:.3g} to {now:.3g} "
        f"(means of {counted(window, 'epoch')})"
    )


def _mean(values: Sequence[float | None]) -> float | None:
    some = [value for value in values if value is not None]
    return math.fsum(some) / len(some) if some else None


def _derivative(
    value: Tensor, at: Tensor, *, create_graph: bool = False, retain: bool = False
) -> Tensor:
    return gradients(value, {"": at}, create_graph=create_graph, retain=retain, zeros=True)[""]


def _exact_eigenvalue(product: Product, size: int) -> float:
    if not size:
        return 0.0
    columns = np.stack([product(unit) for unit in np.eye(size)])
    return (
        float(np.linalg.eigvalsh((columns + columns.T) / 2)[-1])
        if np.isfinite(columns).all()
        else math.nan
    )
