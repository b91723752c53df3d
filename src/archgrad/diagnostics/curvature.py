"""Curvature of the loss over the alphas: the largest eigenvalue of its Hessian, which grows before a search degenerates (RobustDARTS,
Zela et al. 2020, arXiv 1909.09656, section 4).

    lambda_max = max over |v| = 1 of v . H v      H = d2 L(a) / da da, weights held

The largest, not the largest in size: how far a saddle falls does not count. Products ``H v`` are exact, each one backward through the graph of
the gradient. Lanczos's method needs few of them; where H is small, or that does not settle, all of H is built, a column a product.
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
from archgrad.components.gradients import frozen, gradients
from archgrad.components.losses import of_labels
from archgrad.diagnostics.measuring import measuring
from archgrad.errors import counted
from archgrad.seeds import forked, generator

BASIS = 10
"""Vectors of Lanczos's method; up to twice as many unknowns are no work for it."""

Product = Callable[[np.ndarray], np.ndarray]
"""v -> H v, both (size,) float64."""


def largest_eigenvalue(
    product: Product, size: int, *place: object, tolerance: float = 1e-3
) -> float:
    """Of a symmetric (size, size) matrix; 0 if it has no size, nan where it is not finite.

    The start vector is a function of ``place``. ``tolerance``: of the residual, relative to the size of matrix and eigenvalue, whose error is
    about its square.
    """
    if size <= 2 * BASIS:
        return _of_all(product, size)
    from scipy.sparse.linalg import (
        ArpackError,
        LinearOperator,
        eigsh,
    )  # take a third of a second to import

    start = torch.randn(size, generator=generator(*place), dtype=torch.float64).numpy()
    shift = float(np.linalg.norm(product(start)) / np.linalg.norm(start))
    if shift == 0 or not math.isfinite(shift):
        return 0.0 if shift == 0 else math.nan
    # ARPACK leaves the null space out, and alphas always have one: each edge's softmax is the same for a constant more.
    shifted = LinearOperator(
        (size, size), matvec=lambda v: product(v) + shift * np.ravel(v), dtype=np.float64
    )
    restarts = size // BASIS + 1  # as many as cost what all of H does
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
        return _of_all(product, size)
    return float(found[0]) - shift


def supernet_curvature(
    net: nn.Module,
    alphas: Alphas,
    mixture: Callable[[Alphas], Mixture],
    groups: Groups,
    batches: Iterable[Batch],
    *place: object,
    between: Callable[[], object] = lambda: None,
    of: Loss = of_labels,
) -> float:
    """`largest_eigenvalue` of the Hessian of a supernet's cross-entropy (or ``of`` in its place) under ``mixture(alphas)``, its mean over
    ``batches``, over all alphas: further logits (``group/name``) among them, padding not. nan where the loss overflows.

    BatchNorm takes the statistics of each batch (training mode); no op is dropped out; draws are a function of ``place``, which begins with
    the seed. The graphs of all batches are held at once. Mode, buffers, gradients and ``requires_grad`` of the net are left as they were.
    ``between`` is called before each product, and may raise. ValueError if there are no batches.
    """
    masks = {
        name: groups[name].mask(a.device)
        if name in groups
        else torch.ones_like(a, dtype=torch.bool)
        for name, a in alphas.items()
    }
    sizes = [int(mask.sum()) for mask in masks.values()]
    flat = torch.cat([alphas[name].detach()[mask] for name, mask in masks.items()]).requires_grad_()
    whole = {
        name: a.detach().masked_scatter(masks[name], part)
        for (name, a), part in zip(alphas.items(), flat.split(sizes))
    }
    with measuring(net, training=True), frozen(net.parameters()):
        slopes = []
        for k, batch in enumerate(batches):
            with forked(*place, "curvature", k, device=batch.images.device):
                output = net(batch.images, mixture(whole).whole())
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


def rise(values: Sequence[float | None], window: int, ratio: float) -> str | None:
    """In words, a rise of the mean over the last ``window`` epochs so high that the mean over the ``window`` before is below ``ratio`` times it;
    None where there is none. One value an epoch; None, where it was not measured or not finite, counts for neither. Where a window has no value,
    or the curvature now is not positive, nothing is known to have risen."""
    if len(values) < 2 * window:
        return None
    before, now = _mean(values[-2 * window : -window]), _mean(values[-window:])
    if before is None or now is None or now <= 0 or before >= ratio * now:
        return None
    return f"the largest eigenvalue of the alphas' Hessian rose from {before:.3g} to {now:.3g} (means of {counted(window, 'epoch')})"


def _mean(values: Sequence[float | None]) -> float | None:
    some = [value for value in values if value is not None]
    return math.fsum(some) / len(some) if some else None


def _derivative(
    value: Tensor, at: Tensor, *, create_graph: bool = False, retain: bool = False
) -> Tensor:
    found = gradients(value, {"": at}, create_graph=create_graph, retain=retain, zeros=True)[""]
    assert found is not None  # zeros
    return found


def _of_all(product: Product, size: int) -> float:
    if not size:
        return 0.0
    columns = np.stack([product(unit) for unit in np.eye(size)])
    return (
        float(np.linalg.eigvalsh((columns + columns.T) / 2)[-1])
        if np.isfinite(columns).all()
        else math.nan
    )
