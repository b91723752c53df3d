"""Every notation of the field reads to the same values, and what is written reads back."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.published import find, known, published
from archgrad.arch.spellings import COMPACT, NUMBERED
from archgrad.tabular import nasbench201

parse, write = Genotype.parse, str

PRIMITIVES = ["none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5", "a strange~name|+'"]

PAIRS = [("sep_conv_3x3", 1), ("skip_connect", 0), ("max_pool_3x3", 2), ("sep_conv_3x3", 0)]
LINKS = (
    Link(1, 2, "sep_conv_3x3"),
    Link(0, 2, "skip_connect"),
    Link(2, 3, "max_pool_3x3"),
    Link(0, 3, "sep_conv_3x3"),
)
SMALL = Genotype((CellGenotype("normal", LINKS, (2, 3)),))
TRIPLES = [(link.primitive, link.target, link.source) for link in LINKS]


@pytest.mark.parametrize(
    "text",
    [
        f"Genotype(normal={PAIRS}, normal_concat=range(2, 4))",
        f"Genotype(normal={PAIRS}, normal_concat=[2, 3])",
        f"Genotype(\n  normal={tuple(PAIRS)},\n  normal_concat=(2, 3),\n)",
        f"FOUND = genotypes.Genotype(normal={PAIRS}, normal_concat=list(range(2, 4)))",
        f"Genotype(normal={[tuple(PAIRS[:2]), tuple(PAIRS[2:])]}, normal_concat=[2, 3], connectN=None, connects=None)",
        f"Genotype(normal={TRIPLES}, normal_concat=range(2, 4))",
        f"Genotype(normal={[(*pair, 0.25) for pair in PAIRS]}, normal_concat=range(2, 4))",
        f"Genotype(normal=[{', '.join(f'({op!r}, np.int64({node}))' for op, node in PAIRS)}], normal_concat=range(2, 4))",
        f"12/03 10:11:12 AM epoch 3 (of 50) genotype = Genotype(normal={PAIRS}, normal_concat=range(2, 4)) lr 0.01",
        f"epoch 1 Genotype(normal={PAIRS}, normal_concat=[2, 3])\nepoch 2 Genotype(normal={PAIRS}, normal_concat=[2, 3]) cut Genotype(normal=[(",
        json.dumps(
            {
                str(stage): f"Genotype(normal={PAIRS}, normal_concat=range(2, 4))"
                for stage in range(3)
            }
        ),
        json.dumps({"normal": PAIRS, "normal_concat": [2, 3]}),
        str({"normal": PAIRS, "normal_concat": (2, 3)}),
        json.dumps({"normal": TRIPLES, "normal_concat": [2, 3]}),
        json.dumps({"normal": [PAIRS[:2], PAIRS[2:]], "normal_concat": [2, 3], "connects": None}),
        json.dumps(SMALL.to_json()),
        json.dumps(SMALL.to_json(), indent=2),
    ],
)
def test_every_form_reads_the_same(text):
    assert parse(text) == SMALL
    assert Genotype.parse(text) == SMALL


def test_a_flat_list_has_two_links_for_each_node():
    cell = parse("DARTS_V2").cells[0]
    assert cell.group == "normal"
    assert [link.target for link in cell.links] == [2, 2, 3, 3, 4, 4, 5, 5]
    assert cell.links[-1] == Link(2, 5, "dil_conv_3x3")
    assert cell.concat == (2, 3, 4, 5)


def test_nested_and_triple_lists_may_leave_a_node_without_inputs():
    nested = parse(
        "Genotype(normal=[[('a', 0)], [], [('b', 2), ('a', 1), ('b', 0)]], normal_concat=[2, 3, 4])"
    )
    assert nested.cells[0].links == (
        Link(0, 2, "a"),
        Link(2, 4, "b"),
        Link(1, 4, "a"),
        Link(0, 4, "b"),
    )
    assert [link.target for link in find("FairDARTS_a")[0].links] == [2, 2, 4, 5]


def test_arch_string():
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    cell = parse(text).cells[0]
    edges = [
        (0, 1, "nor_conv_3x3"),
        (0, 2, "none"),
        (1, 2, "skip_connect"),
        (0, 3, "avg_pool_3x3"),
        (1, 3, "nor_conv_1x1"),
        (2, 3, "none"),
    ]
    assert cell == CellGenotype("cell", tuple(Link(*edge) for edge in edges), (3,))
    assert write(parse(text)) == str(parse(text)) == text
    assert write(parse("|a~0|+|b~1|a~0|")) == "|a~0|+|a~0|b~1|"


CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"


@pytest.mark.parametrize(
    "text",
    [
        f"Structure(4 nodes with {CELL})",
        f"<< 12 >> arch : {CELL}, accuracy 93.2 (of 100)",
        f"{CELL}  93.2",
        "NAS-Bench-201:(3, 0, 1, 4, 2, 3)",
        "naslib: [2, 1, 4, 0, 3, 2]",  # 0 -> 1, 0 -> 2, 0 -> 3, 1 -> 2, 1 -> 3, 2 -> 3
        str(nasbench201.index_of(parse(CELL))),
    ],
)
def test_every_form_of_a_nasbench201_cell_reads_the_same(text):
    assert write(parse(text)) == CELL


def test_op_numbers_alone_are_read_where_both_orders_agree():
    assert write(parse("(4, 4, 4, 4, 4, 4)")).count("avg_pool_3x3") == 6
    with pytest.raises(
        ValueError,
        match=r"mean more than one cell: give NAS-Bench-201:\(3, 0, 1, 4, 2, 3\) .* or NASLib:\(3, 0",
    ):
        parse("[3, 0, 1, 4, 2, 3]")
    assert NUMBERED["NAS-Bench-201"] == (nasbench201.OPS, nasbench201.EDGES)


def test_darts_cells_as_naslib_and_nasbench301_have_them():
    cells = parse("DARTS_V2").cells
    compact = tuple(
        tuple((link.source, COMPACT.index(link.primitive)) for link in cell.links) for cell in cells
    )
    assert parse(str(compact)) == parse("DARTS_V2")
    edges = [(source, node) for node in range(2, 6) for source in range(node)]
    prefix, config = (
        "NetworkSelectorDatasetInfo:darts:",
        {"OptimizerSelector:sgd:learning_rate": 0.025},
    )
    for cell in cells:
        config |= {
            f"{prefix}edge_{cell.group}_{edges.index(link[:2])}": link.primitive
            for link in cell.links
        }
        config |= {f"{prefix}inputs_node_{cell.group}_{node}": "0_1" for node in (3, 4, 5)}
    found = parse(json.dumps(config))
    assert [(c.group, sorted(c.links), c.concat) for c in found.cells] == [
        (c.group, sorted(c.links), c.concat) for c in cells
    ]
    del config[f"{prefix}edge_normal_0"]
    with pytest.raises(
        ValueError,
        match="normal: node 2 needs two input edges, but the configuration has 1",
    ):
        parse(str(config))


def test_cdarts_is_the_cell_of_its_paper():
    normal = "sep3 0, sep3 1, sep3 1, sep3 2, sep3 0, sep3 1, skip 0, skip 2"
    reduce = "sep5 1, max 0, dil5 2, skip 0, sep3 0, sep5 1, sep3 0, dil5 2"
    full = {
        "sep3": "sep_conv_3x3",
        "sep5": "sep_conv_5x5",
        "dil5": "dil_conv_5x5",
        "skip": "skip_connect",
        "max": "max_pool_3x3",
    }
    for cell, spelled in zip(parse("CDARTS").cells, (normal, reduce)):
        pairs = [pair.split() for pair in spelled.split(", ")]
        assert [(link.primitive, link.source) for link in cell.links] == [
            (full[op], int(node)) for op, node in pairs
        ]


def test_all_published_genotypes_read_and_write_back():
    entries = published()
    assert len(entries) == 242
    assert len({entry.qualified_name for entry in entries}) == 242
    for entry in entries:
        assert (
            parse(write(Genotype(entry.cells)))
            == Genotype(entry.cells)
            == parse(entry.qualified_name)
            == parse(f"{entry.repository}:{entry.name}")
        )
    # FairDARTS's with a node that has other than two inputs, and the two of DCO, are the ones no list of pairs can spell, and the chains
    forms = Counter(
        write(Genotype(entry.cells)).partition("(")[0] == "Genotype" for entry in entries
    )
    assert forms == {True: 232, False: 10}


def test_names_are_forgiving_and_every_known_one_is_found():
    assert (
        parse("darts_v2")
        == parse("DARTS-V2")
        == parse(" darts:DARTS_V2\n")
        == parse("quark0/darts:darts_v2")
    )
    assert (
        parse("PC-DARTS") == parse("pc_darts_cifar") == parse("PCDARTS") != parse("PC_DARTS_image")
    )
    assert known()[:5] == ("DARTS_V1", "DARTS_V2", "PDARTS", "PCDARTS", "CDARTS")
    assert {parse(name) for name in known()} == {Genotype(entry.cells) for entry in published()}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("DARTS", "'DARTS' is published in more than one form: give DARTS_V1 or DARTS_V2"),
        ("GDAS", "give FairDARTS:GDAS_V1 or AutoDL-Projects:GDAS_V1"),
        (
            "FairDARTS",
            "give FairDARTS_a or FairDARTS_b or FairDARTS_c or FairDARTS_d or FairDARTS_e or FairDARTS_f, ... (7 in all)",
        ),
        ("RobustDARTS", "unknown genotype 'RobustDARTS'"),
        ("99999", "the cells 0 to 15624, not 99999"),
        (
            "NASBench:(1, 2, 3, 4, 0, 0)",
            "op numbers can be read for NAS-Bench-201 and NASLib, not for 'NASBench'",
        ),
        (
            "NASLib:(1, 2, 3, 4, 0, 5)",
            "NASLib: 6 op numbers from 0 to 4 are expected, not [1, 2, 3, 4, 0, 5]",
        ),
        ("(((0, 3), (1, 9)), ((0, 1), (1, 1)))", "from 0 to 6, not 9"),
        ("{'0': '|a~0|', '1': '|b~0|'}", "the 2 stages have different cells"),
        ("arch |a~0| and |b~0|", "this text contains 2 different genotypes"),
        ("dart_v2", "did you mean 'DARTS_V2'"),
        ("GDAS_V1", "give FairDARTS:GDAS_V1 or AutoDL-Projects:GDAS_V1"),
        ("darts:PDARTS", "unknown genotype 'darts:PDARTS'"),
        ("", "unknown genotype ''"),
        ("Genotype(normal=[('a', 0)], normal_concat=[2])", "normal: 1 pairs"),
        (
            "Genotype(normal=[('a', 0), ('b', 2)], normal_concat=[2])",
            "normal, entry 1: node 2 cannot read node 2",
        ),
        (
            "Genotype(normal=[('a', 0), ('b', 1, 0)], normal_concat=[2])",
            "normal, entry 1: expected",
        ),
        ("Genotype(normal=[('a', 0.5), ('b', 1)], normal_concat=[2])", "normal, entry 0: expected"),
        ("Genotype(normal=[('a', True), ('b', 1)], normal_concat=[2])", "normal, entry 0"),
        ("Genotype(normal=[('a', 0), ('b', 1)])", "is given without 'normal_concat'"),
        ("Genotype(normal_concat=[2])", "'normal_concat' is given without 'normal'"),
        (
            "Genotype(normal=[('a', 0), ('b', 1)], normal_concat=range(2, 1000000000))",
            "normal_concat: expected node numbers",
        ),
        (
            "Genotype(normal=[('a', 0), ('b', 1)], normal_concat=2)",
            "normal_concat: expected a list",
        ),
        (
            "Genotype([('a', 0), ('b', 1)], [2])",
            "a genotype contains only names, numbers, lists and range(a, b), and the cells of this one have no names",
        ),
        (
            "Genotype(normal=__import__('os').getcwd(), normal_concat=[2])",
            "and this text has __import__('os').getcwd()",
        ),
        ("Genotype(normal=[('a', 0)", "was never closed"),
        ("Genotype(" + "(" * 5000, "not a genotype"),
        ("a = 1; b = (2)", "this text has 2 statements"),
        ("{}", "one entry per cell"),
        ("[(1)]", "one entry per cell"),
        ('{"normal": {"links": []}}', "'links' and 'concat'"),
        (
            '{"normal": {"links": [[0, 2]], "concat": [2]}}',
            "normal, entry 0: expected [source, target, primitive]",
        ),
        (
            '{"normal": {"links": [[3, 2, "a"]], "concat": [2]}}',
            "normal, entry 0: node 2 cannot read node 3",
        ),
        ('{"normal": {"links": [], "concat": [-1]}}', "normal_concat: expected node numbers"),
        ("|a~0|+|b~1|", "node 2 of a NAS-Bench-201 string has one op on each of the inputs 0 to 1"),
        ("|a~0|+b~0|c~1|", "node 2 of a NAS-Bench-201 string has the form"),
        ("|a|", "node 1 of a NAS-Bench-201 string has the form"),
        ("|", "node 1 of a NAS-Bench-201 string has the form"),
    ],
)
def test_errors_are_one_line_that_names_the_place(text, says):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def links(edges):
    return st.lists(st.sampled_from(edges), max_size=8).flatmap(
        lambda chosen: st.tuples(
            *(
                st.builds(Link, st.just(s), st.just(t), st.sampled_from(PRIMITIVES))
                for s, t in chosen
            )
        )
    )


cells = links([(s, t) for t in range(1, 6) for s in range(t)])
paired = st.lists(st.sampled_from([(0, 2), (1, 2)]), min_size=2, max_size=2).flatmap(links)
complete = st.tuples(*(st.sampled_from(PRIMITIVES[:-1]) for _ in range(6))).map(
    lambda ops: tuple(
        Link(s, t, op) for (s, t), op in zip([(s, t) for t in range(1, 4) for s in range(t)], ops)
    )
)


@given(
    st.dictionaries(
        st.sampled_from(["normal", "reduce", "cell", "class", "a_concat", "a", "layer 1"]),
        st.tuples(
            st.one_of(cells, paired, complete),
            st.one_of(st.just((3,)), st.lists(st.integers(0, 6), max_size=4).map(tuple)),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_round_trip(drawn):
    genotype = Genotype(
        tuple(CellGenotype(group, chosen, concat) for group, (chosen, concat) in drawn.items())
    )
    text = write(genotype)
    assert "\n" not in text
    assert parse(text) == genotype
    assert Genotype.from_json(json.loads(json.dumps(genotype.to_json()))) == genotype


@pytest.mark.parametrize(
    "text",
    ["block1=conv5", "block1=conv5, layers.0.deep=depth2, merge=input0+input2", "α=b, c=d_1.e"],
)
def test_decisions_of_a_module_have_a_short_text(text):
    found = parse(text)
    assert write(found) == text and parse(text.replace(", ", ",").replace("=", " = ")) == found
    assert Genotype.from_json(found.to_json()) == found
    assert all(link[:2] == (0, 1) for cell in found.cells for link in cell.links)


def test_a_choice_is_decided_once():
    with pytest.raises(ValueError, match="'a' is decided twice"):
        parse("a=b, a=c")


def test_names_that_no_text_can_hold_are_written_as_json():
    odd = Genotype((CellGenotype("a", (Link(0, 1, "b c"),), (1,)),))
    assert write(odd).startswith("{") and parse(write(odd)) == odd
