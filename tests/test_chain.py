"""How chains are written."""

import pytest

from archgrad.arch import chain
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link

parse, write = Genotype.parse, str
LAYERS = [["mb4_k3"], ["mb6_k5", "skip_connect"]]


def test_a_chain_is_a_group_a_layer():
    found = parse(" mb4_k3 | mb6_k5, skip_connect\n")
    assert [(cell.group, cell.links, cell.concat) for cell in found.cells] == [
        ("stage1_1", (Link(0, 1, "mb4_k3"),), (1,)),
        ("stage2_1", (Link(0, 1, "mb6_k5"),), (1,)),
        ("stage2_2", (Link(0, 1, "skip_connect"),), (1,)),
    ]
    assert (
        found == Genotype(chain.cells(LAYERS))
        and str(found) == write(found) == "mb4_k3|mb6_k5,skip_connect"
    )
    assert chain.stages(found.cells) == tuple(map(tuple, LAYERS))


def test_nas_bench_macro_has_digits():
    found = parse("02012100")
    assert write(found) == "02012100" and chain.is_macro(found.cells)
    assert chain.stages(found.cells) == (
        ("skip_connect", "mb6_k5"),
        ("skip_connect", "mb3_k3", "mb6_k5"),
        ("mb3_k3", "skip_connect", "skip_connect"),
    )
    assert (
        parse("skip_connect,mb6_k5|skip_connect,mb3_k3,mb6_k5|mb3_k3,skip_connect,skip_connect")
        == found
    )
    wider = Genotype(
        chain.cells([*chain.stages(found.cells)[:2], ("mb3_k3", "skip_connect", "mb6_k7")])
    )
    assert not chain.is_macro(wider.cells) and parse(write(wider)) == wider and "," in write(wider)


@pytest.mark.parametrize("text", ["0201210", "020121000", "02012103"])
def test_other_digits_are_no_network(text):
    with pytest.raises(ValueError, match="8 digits from 0 to 2"):
        chain.macro(text)
    with pytest.raises(ValueError, match="unknown genotype"):
        parse(text)


def test_what_is_no_chain_keeps_its_own_notation():
    first, second = Genotype(chain.cells([["mb4_k3"], ["mb4_k3"]])).cells
    swapped, doubled, odd = (
        Genotype((second, first)),
        Genotype((CellGenotype("stage1_1", (*first.links, *first.links), (1,)),)),
        Genotype(chain.cells([["a strange | op"]])),
    )
    assert (
        chain.stages(swapped.cells) is chain.stages(doubled.cells) is chain.stages(()) is None
        and chain.write(odd.cells) is None
    )
    for one in (swapped, doubled, odd):
        assert parse(write(one)) == one


def test_a_chain_is_shown_stage_by_stage():
    found = Genotype(chain.cells(LAYERS))
    assert chain.rows(found.cells)[1] == CellGenotype(
        "stage 2", (Link(0, 1, "mb6_k5"), Link(1, 2, "skip_connect")), (2,)
    )
    assert chain.rows(parse("DARTS_V2").cells) == parse("DARTS_V2").cells


def test_the_published_chains():
    assert [
        [len(stage) - stage.count("skip_connect") for stage in chain.stages(parse(name).cells)]
        for name in ("CDARTS_A", "CDARTS_B")
    ] == [
        [1, 2, 3, 4, 3],
        [4] * 5,
    ]
    assert chain.stages(parse("cdarts-b").cells)[0] == ("mb6_k5", "mb4_k7", "mb4_k5", "mb4_k3")
