from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from archgrad.components.gradients import clip, frozen, gradients, probing, update


def test_unreached_tensors_get_none_or_zero():
    a, b = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    loss = (a**2).sum()
    found = gradients(loss, {"a": a, "b": b})
    assert torch.equal(found["a"], torch.full((2,), 2.0)) and found["b"] is None
    assert torch.equal(gradients((a**2).sum(), {"b": b}, zeros=True)["b"], torch.zeros(3))
    assert gradients(torch.ones(()), {"a": a})["a"] is None  # a loss without a graph


def test_clip_is_torchs_global_norm_and_zero_is_off():
    torch.manual_seed(0)
    named = {str(n): torch.randn(n + 1) for n in range(3)}
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in named.values()]
    for p, g in zip(parameters, named.values(), strict=True):
        p.grad = g.clone()
    nn.utils.clip_grad_norm_(parameters, 0.5)
    ours = {**{name: g.clone() for name, g in named.items()}, "idle": None}
    clip(ours, 0.5)
    assert all(
        torch.equal(p.grad, g) for p, g in zip(parameters, list(ours.values())[:3], strict=True)
    )
    same = {name: g.clone() for name, g in named.items()}
    clip(same, 0)
    assert all(torch.equal(same[name], named[name]) for name in named)


def test_an_idle_op_is_not_moved_by_momentum_or_decay():
    w, idle = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([w, idle], 0.1, momentum=0.9, weight_decay=0.1, foreach=True)
    named = {"w": w, "idle": idle}
    update(optimizer, named, {"w": torch.ones(1), "idle": torch.ones(1)})
    kept = idle.detach().clone()
    update(optimizer, named, {"w": torch.ones(1), "idle": None})
    assert torch.equal(idle, kept) and not torch.equal(w, kept)
    assert w.grad is None


def test_frozen_restores_what_was_trained_and_only_that():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].bias.requires_grad_(False)
    with pytest.raises(RuntimeError), frozen(net.parameters()):
        assert not any(p.requires_grad for p in net.parameters())
        raise RuntimeError
    assert [p.requires_grad for p in net.parameters()] == [True, True, True, False]


def test_probing_leaves_statistics_alone_and_the_graph_valid():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with probing(net):
        loss = net(torch.randn(5, 3)).sum()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert gradients(loss, dict(net.named_parameters()))["1.weight"] is not None
    with pytest.raises(RuntimeError), probing(net):
        net(torch.randn(5, 3))
        raise RuntimeError
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def _two(rank: int, port: int) -> None:
    import torch.distributed as dist

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    a, idle, nobodys = (torch.ones(size, requires_grad=True) for size in (2, 1, 3))
    loss = (a * (rank + 1)).sum() + (idle.sum() if rank else 0)
    found = gradients(loss, {"a": a, "idle": idle, "nobodys": nobodys})
    assert torch.equal(found["a"], torch.full((2,), 1.5)) and torch.equal(
        found["idle"], torch.full((1,), 0.5)
    )
    assert (
        found["nobodys"] is None
        and not gradients(loss * a.sum(), {"nobodys": nobodys}, zeros=True)["nobodys"].any()
    )
    dist.destroy_process_group()


def test_two_processes_average_whatever_each_of_them_ran():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_two, args=(port,), nprocs=2)
