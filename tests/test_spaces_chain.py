"""The chain spaces: published counts, shapes, what a layer may be, and how a single path runs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archgrad.arch import chain
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.cost.counting import count
from archgrad.spaces import space
from archgrad.spaces.blocks import Downsample, InvertedResidual, Kind, SqueezeExcite, rounded
from archgrad.spaces.primitives import Style
from archgrad.tabular import nasbenchmacro

TINY = {"stages": ((8, 2, 2), (16, 2, 2)), "channels": 4, "kernels": (3,), "expansions": (1, 2)}


def counted(name, genotype, size, **options):
    with torch.device("meta"):
        return tuple(count(space(name, **options).derive(Genotype.parse(genotype)), size).values())


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [("CDARTS_A", 6_993_560, 297_655_936), ("CDARTS_B", 6_352_984, 376_204_032)],
)
def test_the_published_chains_have_their_size(name, params, macs):
    assert counted("mbconv", name, 224, classes=1000, stem="imagenet") == (params, macs)


def table_row(index):
    rows = nasbenchmacro.table()
    return int(rows.params[index]), int(rows.macs[index])


@pytest.mark.parametrize("index", [0, 1, 1602, 2187, 3280, 5000, 6560])
def test_networks_of_nas_bench_macro_have_the_size_of_its_table(index):
    assert counted("nasbenchmacro", str(nasbenchmacro.table().genotype(index)), 32) == table_row(
        index
    )


@pytest.mark.slow
def test_all_networks_of_nas_bench_macro_have_the_size_of_its_table():
    rows, base = nasbenchmacro.table(), space("nasbenchmacro")
    for index in range(len(rows)):
        with torch.device("meta"):
            assert tuple(count(base.derive(rows.genotype(index)), 32).values()) == table_row(
                index
            ), index


def test_a_block_is_what_its_paper_says():
    """In float64, written out by hand: expand, depthwise, gate, project, add."""
    torch.manual_seed(0)
    block = InvertedResidual(4, 4, 5, 3, 1, Style(affine=True), Kind(F.silu, squeeze=True)).double()
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)

    def bn(x, module):
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (var + module.eps).sqrt()

    def silu(x):
        return x * x.sigmoid()

    h = silu(bn(F.conv2d(x, block.expand.conv.weight), block.expand.bn))
    h = silu(bn(F.conv2d(h, block.depthwise.weight, padding=2, groups=12), block.bn))
    gate = h.mean((2, 3), keepdim=True)
    for conv, then in (
        (block.squeeze.reduce, torch.relu),
        (block.squeeze.expand, lambda v: ((v + 3) / 6).clamp(0, 1)),
    ):
        gate = then(F.conv2d(gate, conv.weight, conv.bias))
    expected = x + bn(F.conv2d(h * gate, block.project.conv.weight), block.project.bn)
    assert torch.allclose(block(x), expected, atol=1e-10)
    assert (
        not InvertedResidual(4, 8, 3, 1, 1, Style()).residual
        and not InvertedResidual(4, 4, 3, 1, 2, Style()).residual
    )
    assert SqueezeExcite(320).reduce.out_channels == 80 and [
        rounded(c) for c in (1, 11, 12, 24.5, 30)
    ] == [8, 16, 16, 24, 32]


def test_a_skip_that_halves_is_a_strided_convolution():
    down, x = Downsample(4, 8, 2, Style()).eval(), torch.randn(2, 4, 7, 7)
    bn = down.conv.bn
    assert torch.allclose(down(x), bn(F.conv2d(x, down.conv.conv.weight, stride=2)), atol=1e-6)
    assert torch.allclose(down(x, torch.tensor(3.0)), 3 * down(x), atol=1e-5)


def test_only_the_first_layers_of_mbconv_are_no_skips_whatever_the_width_and_the_stem():
    sets = {}
    for options in ({}, {"channels": 4}, {"stem": "imagenet"}, {"stem": "small", "channels": 32}):
        groups = space("mbconv", **options).groups
        sets[str(options)] = {name: group.edges[0].primitives for name, group in groups.items()}
    whole = sets["{}"]
    assert all(found == whole for found in sets.values())
    assert len(whole) == 20 and {
        name for name, names in whole.items() if "skip_connect" not in names
    } == {f"stage{k}_1" for k in range(1, 6)}
    assert whole["stage2_2"] == (
        "mb4_k3",
        "mb6_k3",
        "mb4_k5",
        "mb6_k5",
        "mb4_k7",
        "mb6_k7",
        "skip_connect",
    )
    macro = space("nasbenchmacro").groups
    assert (
        all(
            group.edges[0].primitives == chain.MACRO and group.free == ("skip_connect",)
            for group in macro.values()
        )
        and len(macro) == 8
    )


@pytest.mark.parametrize(
    ("stem", "size", "last"), [("cifar", 32, 4), ("small", 64, 4), ("imagenet", 224, 7)]
)
def test_each_stem_fits_its_images(stem, size, last):
    made = space("mbconv", stem=stem, channels=8)
    with torch.device("meta"):
        features = made.supernet()(torch.empty(1, 3, size, size)).features
    assert features[-1].shape[2:] == (last, last) and len(features) == 5


def test_a_layer_of_an_identity_is_none():
    """Depth is searched: a derived skip adds no parameter and changes nothing."""
    made = space("mbconv", **TINY)
    short = made.derive(Genotype.parse("mb2_k3,skip_connect|mb1_k3,skip_connect"), channels=4)
    alone = space("mbconv", **TINY | {"stages": ((8, 1, 2), (16, 1, 2))}).derive(
        Genotype.parse("mb2_k3|mb1_k3"), channels=4
    )
    assert (
        dict(short.network.named_parameters()).keys()
        == dict(alone.network.named_parameters()).keys()
    )
    alone.load_state_dict(short.state_dict())
    images = torch.randn(2, 3, 9, 9)
    assert torch.equal(short(images), alone(images))


@pytest.mark.parametrize("name", ["mbconv", "nasbenchmacro"])
def test_drop_path_drops_what_a_block_adds_and_never_the_signal(name):
    """At almost 1 every residual is gone: a network of residual layers behind the first of each stage is then one of skips."""
    options = TINY if name == "mbconv" else {"channels": 2}
    block = "mb2_k3" if name == "mbconv" else "mb3_k3"
    counts = (2, 2) if name == "mbconv" else chain.MACRO_STAGES
    full = space(name, **options).derive(
        Genotype(chain.cells([[block] * n for n in counts])), channels=options["channels"]
    )
    bare = space(name, **options).derive(
        Genotype(chain.cells([[block] + ["skip_connect"] * (n - 1) for n in counts])),
        channels=options["channels"],
    )
    bare.load_state_dict(full.state_dict(), strict=False)
    images = torch.randn(8, 3, 16, 16)
    torch.manual_seed(0)
    dropped = full.network(images, drop_path=1 - 1e-7).logits
    assert (
        torch.allclose(dropped, bare.network(images, drop_path=1 - 1e-7).logits, atol=1e-4)
        and dropped.std() > 0
    )
    assert not torch.allclose(full.network(images).logits, dropped, atol=1e-2)


@pytest.mark.parametrize("name", ["mbconv", "nasbenchmacro"])
def test_a_single_path_runs_and_remembers_nothing_of_the_others(name):
    """What `active` leaves out is not executed, and saves no byte for backward: a step's memory is that of the path, not of the mixture."""
    options = TINY | {"expansions": (1, 2, 4, 6)} if name == "mbconv" else {"channels": 8}
    made = space(name, **options)
    net, images = made.supernet(), torch.randn(8, 3, 16, 16)
    runs = []
    for module in net.modules():
        if isinstance(module, InvertedResidual):
            module.register_forward_hook(lambda *args: runs.append(1))
    uniform = {
        group: torch.full((1, g.width), 1 / g.width, requires_grad=True)
        for group, g in made.groups.items()
    }
    last = {group: torch.arange(g.width)[None] == g.width - 1 - g.edges[0].primitives.count("skip_connect") * (name == "mbconv")
            for group, g in made.groups.items()}  # fmt: skip

    def spent(mixture):
        runs.clear()
        seen = {}

        def keep(tensor):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = net(images, mixture)
        return len(runs), sum(seen.values()), output

    everything, path = spent(Mixture(uniform)), spent(Mixture(uniform, last))[:2]
    extra = 1 if name == "mbconv" else 0  # of the stem
    assert path[0] - extra == len(made.groups)
    assert everything[0] - extra == sum(
        p != "skip_connect" for g in made.groups.values() for p in g.edges[0].primitives
    )
    assert path[1] < 0.7 * everything[1]


def test_partial_channels_go_by_where_the_shape_is_kept():
    made = space("nasbenchmacro", channels=4, partial_channels=4)
    ops = made.supernet().layers
    assert [ops[name].k for name in ("stage1_1", "stage1_2", "stage2_1", "stage2_3")] == [
        1,
        4,
        1,
        4,
    ]
    assert ops["stage1_2"].ops(0, "mb3_k3").project.conv.out_channels == 2


BAD = [
    ("mbconv", {"cells": 4}, "unknown option 'cells'"),
    ("mbconv", {"stem": "smal"}, "unknown stem 'smal': did you mean 'small'"),
    ("mbconv", {"kernels": (3, 4)}, "'mb4_k4' has an even kernel of 4 pixels"),
    ("mbconv", {"kernels": (3, 3)}, "primitive 'mb4_k3' is given 2 times"),
    ("mbconv", {"expansions": (0,)}, "expansions must be a list of whole numbers of at least 1"),
    ("mbconv", {"stages": ()}, "stages must be rows"),
    ("mbconv", {"stages": ((24, 4),)}, "stages: row 1 must be [channels, layers, stride 1 or 2]"),
    ("mbconv", {"stages": ((24, 4, 3),)}, "stages: row 1"),
    (
        "mbconv",
        {"primitives": ("skip_connect",)},
        "stage1_1 is the first layer of its stage, which cannot be a skip",
    ),
    ("mbconv", {"primitives": ("mb4_k",)}, "unknown primitive 'mb4_k': did you mean"),
    (
        "nasbenchmacro",
        {"partial_channels": 3},
        "stage1_2 has 64 channels, which is no multiple of partial_channels 3",
    ),
    (
        "nasbenchmacro",
        {"primitives": dict.fromkeys(space("nasbenchmacro").groups, ((),))},
        "the chain would end there",
    ),
    (
        "nasbenchmacro",
        {"extras": ("skip",)},
        "unknown primitive 'skip': did you mean 'skip_connect'",
    ),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD)
def test_bad_options_are_refused_by_name(name, options, message):
    with pytest.raises(ValueError) as error:
        space(name, **options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_genotype_of_another_chain_is_refused():
    with pytest.raises(ValueError, match="the space has"):
        space("nasbenchmacro").derive(Genotype.parse("CDARTS_A"))
    with pytest.raises(ValueError, match="no primitive 'skip_connect' in this space"):
        space("mbconv", **TINY).derive(Genotype.parse("skip_connect,mb1_k3|mb1_k3,mb1_k3"))
    assert isinstance(
        space("mbconv", **TINY).derive(Genotype.parse("mb1_k3,mb1_k3|mb1_k3,mb1_k3")), nn.Module
    )
