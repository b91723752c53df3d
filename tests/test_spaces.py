"""Properties of every space: values, restoration, names, features, sizes, and the two ways to run a genotype."""

import json

import pytest
import torch
from torch import nn

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.spaces import SPACES, space

CELLS = {
    name: 1 if name == "nasbench201" else 3 for name in SPACES if "cells" in space(name).spec()
}
CHAINS = [name for name in SPACES if name not in CELLS]
MANY = {
    "mbconv": {
        "stages": ((8, 2, 2), (16, 2, 2), (24, 1, 2)),
        "kernels": (3, 5),
        "expansions": (1, 3),
    }
}
SMALL = {
    name: {"channels": 4, **({"cells": CELLS[name]} if name in CELLS else MANY.get(name, {}))}
    for name in SPACES
}


def small(name, **options):
    return space(name, **{**SMALL[name], **options})


def uniform(groups):
    return Mixture(
        {
            name: torch.full((len(group.edges), group.width), 1 / group.width)
            for name, group in groups.items()
        }
    )


def some_genotype(groups, seed=0):
    """Per node the last two edges (all, if the space keeps all), each with a primitive drawn by ``seed``."""
    draw = torch.Generator().manual_seed(seed)
    cells = []
    for group in groups.values():
        links = []
        for edge in (
            group.edges[i]
            for edges in group.nodes().values()
            for i in edges[-(group.keep or len(edges)) :]
        ):
            names = [name for name in edge.primitives if name not in ("none", "noise")]
            links.append(
                Link(
                    edge.source,
                    edge.target,
                    names[int(torch.randint(len(names), (), generator=draw))],
                )
            )
        cells.append(CellGenotype(group.name, tuple(links), group.concat))
    return Genotype(tuple(cells))


@pytest.mark.parametrize("name", CELLS)
def test_spec_restores_through_json(name):
    base = space(name)
    sets = {
        g: (("skip_connect",), (), *[("skip_connect", "max_pool_3x3")] * (len(group.edges) - 2))
        for g, group in base.groups.items()
    }
    for changed in (
        base,
        small(name, classes=3, extras=("skip_connect",)),
        base.resized(primitives=sets),
    ):
        assert changed.resized().groups == changed.groups
        spec = json.loads(json.dumps(changed.spec()))
        assert base.resized(**spec) == changed
        assert changed.resized(**json.loads(json.dumps(base.spec()))) == base
    assert base.resized(primitives=sets).resized(primitives=None).groups == base.groups


@pytest.mark.parametrize("name", SPACES)
def test_a_derived_network_is_built_as_the_space_is_for_evaluation(name):
    searched = small(name, extras=("skip_connect",), partial_channels=2)
    whole = searched.evaluation(classes=7, channels=None)
    assert (
        whole == space(name, **MANY.get(name, {})).evaluation(classes=7)
        and whole.evaluation(classes=7) == whole
    )
    assert (whole.affine, whole.extras, whole.partial_channels, whole.classes) == (True, (), 1, 7)
    genotype = some_genotype(searched.groups)
    free = {"concat": None} if "concat" in whole.spec() else {}
    with torch.device("meta"):
        assert searched.derive(genotype, classes=7).space.resized(primitives=None, **free) == whole


@pytest.mark.parametrize("name", CELLS)
def test_groups_are_those_of_the_paper(name):
    groups = space(name).groups
    if name == "nasbench201":
        assert [(e.source, e.target) for e in groups["cell"].edges] == [
            (0, 1),
            (0, 2),
            (1, 2),
            (0, 3),
            (1, 3),
            (2, 3),
        ]
        assert (groups["cell"].keep, groups["cell"].hidden, groups["cell"].cells) == (None, (), 15)
        return
    for group in groups.values():
        assert [(e.source, e.target) for e in group.edges][:5] == [
            (0, 2),
            (1, 2),
            (0, 3),
            (1, 3),
            (2, 3),
        ] and len(group.edges) == 14
        assert (group.keep, group.hidden, group.concat) == (2, ("none",), (2, 3, 4, 5))
    assert (groups["normal"].cells, groups["reduce"].cells) == (6, 2)
    assert {"s1": 2, "s2": 2, "s3": 3, "s4": 2, "darts": 8}[name] == groups["normal"].width
    assert ("noise" in groups["normal"].edges[0].primitives) == (name == "s4")


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(("size", "channels"), [(9, 3), (15, 1), (33, 3), (8, 1)])
def test_any_image_size_and_channels(name, size, channels):
    made = small(name, in_channels=channels, classes=5)
    network = made.supernet()
    output = network(torch.randn(2, channels, size, size + 1), uniform(made.groups))
    assert output.logits.shape == (2, 5) and output.logits.isfinite().all()
    assert (
        tuple(f.shape[1] for f in output.features) == network.feature_channels
        and len(output.features) == 3
    )
    sides = [-(-size // n) for n in (1, 2, 4, 8)]
    assert [f.shape[2] for f in output.features] == {
        "nasbenchmacro": sides[1:],
        "mbconv": sides[:3],
    }.get(name, [*sides[1:3], sides[2]])


@pytest.mark.parametrize("name", SPACES)
def test_a_genotype_runs_alike_in_the_supernet_and_derived(name):
    made = small(name, channels=8)
    genotype = some_genotype(made.groups)
    supernet = made.supernet()
    same = {"pool_bn": True} if "pool_bn" in made.spec() else {}
    derived = made.derive(genotype, channels=8, cells=CELLS.get(name), affine=False, **same)
    weights = supernet.state_dict()
    derived.network.load_state_dict({key: weights[key] for key in derived.network.state_dict()})
    images = torch.randn(3, 3, 17, 17)
    for mode in (True, False):
        supernet.train(mode), derived.train(mode)
        one, other = supernet(images, genotype.one_hot(made.groups)), derived.network(images)
        assert torch.equal(one.logits, other.logits)
        assert all(map(torch.equal, one.features, other.features))
    assert torch.equal(derived(images), derived.network(images).logits)
    assert len(derived.forward_features(images)) == 3


@pytest.mark.parametrize("name", ["darts", "s4", "nasbench201", *CHAINS])
def test_names_do_not_depend_on_what_else_there_is(name):
    """A pruned, an extended and a deeper net have the parameter names of the full one wherever they have the same ops."""
    made = small(name)
    full = {key: value.shape for key, value in made.supernet().named_parameters()}
    pruned = made.resized(
        primitives=some_genotype(made.groups, seed=3).primitives(made.groups)
    ).supernet()
    kept = {key: value.shape for key, value in pruned.named_parameters()}
    assert kept and kept.items() < full.items()
    extra = "mb2_k3" if name in CHAINS else "sep_conv_3x3"
    extended = {key for key, _ in made.resized(extras=(extra,)).supernet().named_parameters()}
    assert full.keys() < extended and all(f"extra_{extra}" in key for key in extended - full.keys())


@pytest.mark.parametrize("name", SPACES)
def test_every_parameter_can_be_reseeded_by_its_module(name):
    """Weights are seeded module by module through ``reset_parameters``: none may lie outside such a module, and all are channels_last."""
    network = small(name).supernet()
    for module in network.modules():
        if list(module.parameters(recurse=False)):
            assert callable(module.reset_parameters)
            before = [p.clone() for p in module.parameters(recurse=False)]
            module.reset_parameters()
            if isinstance(module, nn.Conv2d):
                assert not torch.equal(before[0], module.weight)
                assert module.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", CELLS)
def test_removed_edges_and_empty_nodes(name):
    made = small(name)
    nothing = {g: ((),) * len(group.edges) for g, group in made.groups.items()}
    for sets in (nothing, {g: (*edges[:-1], ("skip_connect",)) for g, edges in nothing.items()}):
        output = made.resized(primitives=sets).supernet()(torch.randn(2, 3, 9, 9))
        assert output.logits.shape == (2, 10) and output.logits.isfinite().all()
    assert (
        not made.resized(primitives=nothing).supernet()(torch.randn(2, 3, 9, 9)).features[-1].any()
    )


@pytest.mark.parametrize("name", SPACES)
def test_ops_are_the_modules_that_run(name):
    made = small(name)
    network = made.supernet()
    for group in made.groups.values():
        for index, edge in enumerate(group.edges):
            for primitive in edge.primitives:
                assert len(network.ops(group.name, index, primitive)) == group.cells
    group = next(iter(made.groups.values()))
    index = len(group.edges) - 1
    names = [name for name in group.edges[index].primitives if name != "none"]
    seen = []
    for module in network.ops(group.name, index, names[-1]):
        module.register_forward_hook(lambda *args: seen.append(1))
    network(torch.randn(2, 3, 8, 8))
    assert len(seen) == group.cells
    with pytest.raises(ValueError, match="no primitive 'conv_7x1_1x7'"):
        network.ops(group.name, index, "conv_7x1_1x7")


BAD = [
    ("dart", {}, "unknown space 'dart': did you mean 'darts'"),
    ("darts", {"chanels": 4}, "unknown option 'chanels': did you mean 'channels'"),
    ("darts", {"channels": 0}, "channels must be a whole number of at least 1, not 0"),
    ("darts", {"cells": 0}, "cells must be"),
    ("darts", {"cells": 2.5}, "cells must be a whole number"),
    ("darts", {"nodes": 0}, "nodes must be"),
    ("darts", {"classes": True}, "classes must be"),
    ("darts", {"stem": "imagnet"}, "unknown stem 'imagnet': did you mean 'imagenet'"),
    ("darts", {"stem": "imagenet", "channels": 1}, "channels must be at least 2"),
    ("darts", {"affine": "yes"}, "affine must be true or false"),
    (
        "darts",
        {"primitives": ("sep_conv_3x", "none")},
        "unknown primitive 'sep_conv_3x': did you mean 'sep_conv_3x3'",
    ),
    ("darts", {"primitives": ("none", "none")}, "is given 2 times"),
    ("darts", {"primitives": "none"}, "must be a list of names"),
    ("darts", {"primitives": ()}, "at least one primitive"),
    ("darts", {"primitives": {"normal": [["none"]] * 14}}, "it lacks reduce"),
    (
        "darts",
        {"primitives": {"normal": [["none"]] * 14, "reduction": []}},
        "did you mean 'reduce'",
    ),
    (
        "darts",
        {"primitives": {"normal": [["none"]] * 14, "reduce": [["none"]] * 3}},
        "14 tuples, one per edge; there are 3",
    ),
    ("darts", {"concat": (1, 2)}, "concat of 'normal' must name nodes"),
    ("darts", {"extras": ("skip",)}, "unknown primitive 'skip'"),
    ("s2", {"nodes": 5}, "space 's2' has 4 nodes"),
    ("darts", {"name": "s1"}, "unknown option 'name'"),
    ("nasbench201", {"nodes": 4}, "unknown option 'nodes'"),
    ("nasbench201", {"channels": -1}, "channels must be"),
    ("nasbench201", {"primitives": 3}, "must be a list of names"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD)
def test_bad_options_are_refused_by_name(name, options, message):
    with pytest.raises(ValueError) as error:
        space(name, **options)
    assert message in str(error.value) and "\n" not in str(error.value)
