"""Counts behind the speed of a step: shared work is done once a node, and a frozen half saves nothing for backward."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import archgrad
from archgrad.components.gradients import frozen
from archgrad.components.relax import softmax
from fakes import Noise


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def prepared(name, **options):
    method = archgrad.method("darts", archgrad.space(name, classes=4, channels=4, **options))
    state = method.start(seed=0, epochs=1, steps=3)
    batch = next(Noise().batches("train", 0))
    return (
        state.nets["search"],
        lambda alphas: softmax(alphas, method.context(state, "weight")),
        state.alphas,
        batch.images,
    )


@pytest.mark.parametrize(
    ("name", "cells", "nodes_with_outgoing_edges", "edges"),
    [("darts", 3, 5, 14), ("nasbench201", 1, 3, 6)],
)
def test_pools_are_computed_once_a_node(name, cells, nodes_with_outgoing_edges, edges):
    net, mixture, alphas, images = prepared(name, cells=cells)
    with Calls() as calls, torch.no_grad():
        net(images, mixture(alphas))
    blocks = 2 if name == "nasbench201" else 0  # its residual blocks have an average pool each
    assert calls.count["avg_pool2d"] - blocks == 3 * nodes_with_outgoing_edges < 3 * edges
    if name == "darts":
        assert calls.count["max_pool2d_with_indices"] == 3 * nodes_with_outgoing_edges


@pytest.mark.parametrize(("name", "cells"), [("darts", 3), ("nasbench201", 1)])
def test_a_frozen_half_saves_less_for_backward(name, cells):
    net, mixture, alphas, images = prepared(name, cells=cells)

    def saved(weights_of):
        kept: dict[int, int] = {}

        def pack(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            output = net(images, weights_of(alphas))
        assert output.logits.requires_grad
        return sum(kept.values())

    both = saved(mixture)
    weight_half = saved(lambda a: mixture(a).detach())
    with frozen(net.parameters()):
        alpha_half = saved(mixture)
    assert weight_half < both and alpha_half < both
