from __future__ import annotations

import copy

import pytest
import torch
from torch import channels_last, nn

from archgrad.spaces.primitives import scaled_batch_norm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_a_mixture_weight_inside_batch_norm_is_one_behind_it(training, track):
    """Values, gradients of input and weight, and the running statistics; channels_last, where an expanded weight would go wrong."""
    torch.manual_seed(0)
    inner = nn.BatchNorm2d(6, affine=False, track_running_stats=track).train(training).double()
    outer = copy.deepcopy(inner)
    x = torch.randn(4, 6, 5, 5, dtype=torch.float64).to(memory_format=channels_last)
    g = torch.randn_like(x)
    results = []
    for bn, apply in (
        (inner, lambda bn, x, w: scaled_batch_norm(x, bn, w)),
        (outer, lambda bn, x, w: w * bn(x)),
    ):
        a, w = (
            x.clone(memory_format=torch.preserve_format).requires_grad_(),
            torch.tensor(0.3, dtype=torch.float64, requires_grad=True),
        )
        y = apply(bn, a, w)
        results.append((y.detach(), *torch.autograd.grad(y, (a, w), g)))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-11)
    for (name, ours), plain in zip(inner.named_buffers(), outer.buffers(), strict=True):
        assert torch.equal(ours, plain), name


def test_the_same_in_single_precision_against_double():
    torch.manual_seed(0)
    bn = nn.BatchNorm2d(16, affine=False)
    x = torch.randn(8, 16, 8, 8).to(memory_format=channels_last)
    g = torch.randn_like(x)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        a = x.to(dtype).requires_grad_()
        w = torch.tensor(0.3, dtype=dtype, requires_grad=True)
        gradients.append(
            torch.autograd.grad(
                scaled_batch_norm(a, copy.deepcopy(bn).to(dtype), w), (a, w), g.to(dtype)
            )
        )
    for single, double in zip(*gradients, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)
