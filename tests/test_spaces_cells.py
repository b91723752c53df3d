"""How a cell runs its mixture: weights, activity, dropout, drop-path, extras; and gradients against plain float64 autograd."""

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.spaces import space
from archgrad.spaces.cells import Cell
from archgrad.spaces.primitives import PRIMITIVES, FactorizedReduce, Style, primitive

EIGHT = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


def one_edge(names, extras=(), stride=1):
    group = EdgeGroup("one", (Edge(0, 1, tuple(names)),), concat=(1,), extras=extras)
    return group, Cell(group, [torch.nn.Identity()], 4, stride, Style())


def mixture(group, weights, **options):
    return Mixture({group.name: weights}, **options).cell(group.name, 0)


def slow(net, space_, images, weights):
    """The DARTS supernet as its paper writes it: every op of every edge by itself, contiguous, torch's own convolutions."""

    def run(name, module, h):
        rectified = PRIMITIVES[name].rectified or isinstance(module, FactorizedReduce)
        return 0 * module(h) if name == "none" else module(F.relu(h) if rectified else h)

    first, second = net.stem(images)
    before, last = first, second
    counted = {"normal": 0, "reduce": 0}
    for cell, kind in zip(net.cells, net.kinds):
        group = space_.groups[kind]
        states = [cell.preprocess[0](F.relu(before)), cell.preprocess[1](F.relu(last))]
        for edges in group.nodes().values():
            total = 0
            for index in edges:
                source = group.edges[index].source
                for k, name in enumerate(group.edges[index].primitives):
                    total = total + weights[kind][index, k] * run(
                        name, net.ops(kind, index, name)[counted[kind]], states[source]
                    )
            states.append(total)
        counted[kind] += 1
        before, last = last, torch.cat([states[node] for node in group.concat], 1)
    return net.classifier(last.mean((2, 3)))


def gradients(loss, alphas, net):
    return torch.autograd.grad(loss, [*alphas.values(), *net.parameters()])


def test_channels_last_gradients_equal_plain_autograd_in_float64(monkeypatch):
    """Guards the shared form, the depthwise backward and torch 2.13's BatchNorm, whose channels_last gradient is wrong for expanded weights."""
    torch.manual_seed(
        0
    )  # in float32 a draw may lie on a ReLU's kink, where the two gradients may differ
    monkeypatch.setattr(
        "archgrad.spaces.primitives.depthwise_conv2d",
        lambda x, w, s, p, d: F.conv2d(x, w, None, s, p, d, x.shape[1]),
        raising=True,
    )
    made = space("darts", channels=4, cells=3, nodes=2)
    net = made.supernet().double()
    alphas = {
        g: torch.randn(len(group.edges), group.width, dtype=torch.double).requires_grad_()
        for g, group in made.groups.items()
    }
    images, labels = torch.randn(3, 3, 12, 12, dtype=torch.double), torch.tensor([1, 5, 7])
    plain = net.to(memory_format=torch.contiguous_format)
    reference_logits = slow(plain, made, images, {g: a.softmax(-1) for g, a in alphas.items()})
    reference = gradients(F.cross_entropy(reference_logits, labels), alphas, plain)
    monkeypatch.undo()

    def fast(dtype):
        cast = net.to(dtype=dtype, memory_format=torch.channels_last)
        own = {g: a.detach().to(dtype).requires_grad_() for g, a in alphas.items()}
        logits = cast(images.to(dtype), Mixture({g: a.softmax(-1) for g, a in own.items()})).logits
        return logits, gradients(F.cross_entropy(logits, labels), own, cast)

    for dtype, tolerance in ((torch.double, 1e-12), (torch.float, 2e-4)):
        logits, found = fast(dtype)
        assert torch.allclose(logits.double(), reference_logits, atol=tolerance)
        for one, other in zip(found, reference):
            assert torch.allclose(one.double(), other, atol=tolerance, rtol=10 * tolerance)


def test_only_active_ops_run_and_idle_ones_keep_a_gradient():
    group, cell = one_edge(EIGHT)
    ran = []
    for name, module in [*cell.edges["0_1"].items(), *cell.shared["0"].items()]:
        module.register_forward_hook(lambda *args, name=name: ran.append(name))
    x = torch.randn(2, 4, 8, 8)
    active = torch.zeros(1, 8, dtype=torch.bool)
    active[0, 4] = True
    alphas = torch.randn(1, 8, requires_grad=True)
    soft = alphas.softmax(-1)
    hard = active.float() - soft.detach() + soft
    out = cell([x], mixture(group, hard, active={"one": active}))
    alone = cell([x], mixture(group, active.float(), active={"one": active}))
    assert ran == ["sep_conv_3x3"] * 2
    assert torch.allclose(out, alone, atol=1e-6)
    cotangent = torch.randn_like(out)
    parameters = dict(cell.named_parameters())
    (by_hard,) = torch.autograd.grad(out, hard, cotangent, retain_graph=True)
    expected = cotangent.sum().expand(8).clone()  # an idle op is a scalar added to the whole node
    expected[4] = (cotangent * alone).sum()
    assert torch.allclose(by_hard[0], expected, rtol=1e-4)
    assert torch.autograd.grad(out, alphas, cotangent, retain_graph=True)[0].abs().min() > 0
    found = torch.autograd.grad(out, list(parameters.values()), cotangent, allow_unused=True)
    assert {name.split(".")[2] for name, g in zip(parameters, found) if g is not None} == {
        "sep_conv_3x3"
    }


def test_idle_scalars_change_no_bit():
    group, cell = one_edge(EIGHT)
    x, active = torch.randn(2, 4, 8, 8), torch.zeros(1, 8, dtype=torch.bool)
    active[0, 6] = True
    plain = active.float()
    carrying = plain.clone().requires_grad_()
    kept = [cell([x], mixture(group, w, active={"one": active})) for w in (plain, carrying)]
    assert torch.equal(*kept)
    nothing = cell(
        [x], mixture(group, carrying, active={"one": torch.zeros(1, 8, dtype=torch.bool)})
    )
    assert not nothing.any() and nothing.requires_grad and nothing.shape == x.shape


def test_shared_work_is_done_once_per_state():
    made = space("darts", channels=4, cells=3)
    net = made.supernet()
    seen = []
    for module in net.cells[0].shared["0"].values():
        module.register_forward_hook(lambda module, *args: seen.append(type(module).__name__))
    net(torch.randn(2, 3, 8, 8), Mixture({g: torch.full((14, 8), 0.125) for g in made.groups}))
    assert sorted(seen) == [
        "Identity",
        "Pool",
        "Pool",
    ]  # once each, for four edges out of node 0; none is never run


def test_unit_weights_are_the_sum_of_all_ops():
    group, cell = one_edge(EIGHT)
    x = torch.randn(2, 4, 8, 8)
    ones = cell([x], mixture(group, torch.ones(1, 8)))
    assert torch.equal(cell([x]), ones)


def test_padding_columns_are_ignored_and_extras_run_only_when_weighted():
    ragged = EdgeGroup(
        "one",
        (
            Edge(0, 1, ("skip_connect",)),
            Edge(0, 2, ("skip_connect", "sep_conv_3x3")),
            Edge(1, 2, ()),
        ),
        (1, 2),
        extras=("dil_conv_3x3",),
    )
    cell = Cell(ragged, [torch.nn.Identity()], 4, 1, Style())
    x = torch.randn(2, 4, 8, 8)
    weights = torch.tensor([[0.5, 99.0], [0.25, 0.0], [99.0, 99.0]])
    first, second = cell([x], mixture(ragged, weights)).split(4, 1)
    assert torch.equal(first, 0.5 * x) and torch.allclose(second, 0.25 * x)
    wide = torch.cat([weights, torch.tensor([[2.0], [0.0], [99.0]])], 1)
    extra = cell.edges["0_1"]["extra_dil_conv_3x3"](F.relu(x))
    assert torch.allclose(
        cell([x], mixture(ragged, wide)).split(4, 1)[0], 0.5 * x + 2 * extra, atol=1e-6
    )
    assert torch.equal(cell([x]).split(4, 1)[0], x)
    assert "1_2" not in cell.edges


def test_mixtures_may_differ_from_cell_to_cell():
    made = space("darts", channels=4, cells=4)
    net, images = made.supernet(), torch.randn(2, 3, 8, 8)
    same = {g: torch.rand(14, 8) for g in made.groups}
    each = {g: w.expand(made.groups[g].cells, 14, 8).clone() for g, w in same.items()}
    assert torch.equal(net(images, Mixture(same)).logits, net(images, Mixture(each)).logits)
    each["normal"][1] += 1
    changed = net(images, Mixture(each))
    assert not torch.equal(net(images, Mixture(same)).logits, changed.logits)
    assert torch.equal(
        net(images, Mixture(same)).features[0], changed.features[0]
    )  # cells 0 and 1 come before normal cell 1 (cell 3)
    bench = space("nasbench201", channels=4, cells=2)
    weights = torch.rand(6, 6, 5, requires_grad=True)
    bench.supernet()(images, Mixture({"cell": weights})).logits.sum().backward()
    assert (weights.grad.abs().sum((1, 2)) > 0).all()


def test_dropout_follows_its_primitive_in_training_only():
    group, cell = one_edge(("skip_connect", "avg_pool_3x3"))
    x = torch.randn(2, 4, 16, 16)
    half = mixture(group, torch.tensor([[1.0, 0.0]]), dropout={"skip_connect": 0.5})
    dropped = cell([x], half)
    assert 0.4 < (dropped == 0).float().mean() < 0.6
    assert torch.allclose(dropped[dropped != 0], 2 * x[dropped != 0])
    other = mixture(group, torch.tensor([[1.0, 0.0]]), dropout={"avg_pool_3x3": 0.5})
    assert torch.equal(cell([x], other), x)
    assert torch.equal(cell.eval()([x], half), x)


def test_drop_path_drops_samples_but_never_an_identity():
    x = torch.randn(64, 4, 8, 8)
    for names, stride, drops in (
        (("skip_connect",), 1, False),
        (("skip_connect",), 2, True),
        (("max_pool_3x3",), 1, True),
    ):
        _, cell = one_edge(names, stride=stride)
        whole, dropped = cell([x]), cell([x], None, 0.5)
        gone = dropped.flatten(1).abs().sum(1) == 0
        assert (gone.float().mean() > 0.2) == drops
        if drops:
            assert gone.float().mean() < 0.8 and torch.allclose(
                dropped[~gone], 2 * whole[~gone], atol=1e-5
            )
        else:
            assert torch.equal(dropped, whole)
        cell.eval()
        assert torch.equal(cell([x], None, 0.5), cell([x]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitives_keep_channels_and_halve_sizes_upwards(name, stride):
    module = primitive(name, stride).build(6, stride, Style())
    for size in (8, 9):
        out = module(torch.randn(2, 6, size, size))
        assert out.shape == (2, 6, -(-size // stride), -(-size // stride))


def test_pools_do_not_count_padding_and_noise_ignores_its_input():
    ones = torch.ones(1, 2, 5, 5)
    assert torch.allclose(primitive("avg_pool_3x3").build(2, 1, Style(pool_bn=False))(ones), ones)
    draw = primitive("noise").build(2, 1, Style())(
        torch.full((4, 2, 32, 32), 7.0, requires_grad=True)
    )
    assert not draw.requires_grad and draw.mean().abs() < 0.1 and abs(draw.std() - 1) < 0.1
