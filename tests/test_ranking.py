"""Rankings agree where they are known to, are the same sample every time, and leave no trace."""

from __future__ import annotations

import re
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import archgrad
from archgrad import run, tabular
from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Output
from archgrad.compare import comparison, study, tables, to_markdown
from archgrad.diagnostics.ranking import accuracies, correlation
from archgrad.methods import method as build
from archgrad.observers import probes
from archgrad.observers.recording import Checkpoints, Interrupted
from archgrad.run import config
from archgrad.searching import checkpoint
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.types import Plan, State
from archgrad.storage.records import read_measured
from watching import Rows, Several, assert_equal, trace

OPS = "abcd"
GROUPS = {"g": EdgeGroup("g", (Edge(0, 1, tuple(OPS)),), concat=(1,))}
IMAGES = [
    Batch(
        torch.arange(4.0, dtype=torch.float64).view(4, 1, 1, 1),
        torch.ones(4, dtype=torch.int64),
        torch.arange(4),
    )
]


# Correlation.
def test_correlation_with_ties_by_hand():
    """Of six pairs three agree, one disagrees, one is tied in either: tau-b is 2 / sqrt(5 * 5). Mean ranks 1, 2.5, 2.5, 4 and 1, 4, 2.5, 2.5:
    rho is 2.25 / 4.5."""
    assert correlation([1, 2, 2, 3], [1, 3, 2, 2]) == pytest.approx((0.4, 0.5), abs=1e-15)


def test_correlation_of_one_swap_and_of_a_reversal():
    assert correlation([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(
        (4 / 6, 1 - 6 * 2 / 60), abs=1e-15
    )
    assert correlation([1, 2, 3, 4], [9.5, 7, 6.9, -1]) == pytest.approx((-1, -1), abs=1e-15)


@pytest.mark.parametrize(
    "pair", [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0.5, 0.5, 0.5]), ([1], [2]), ([], [])]
)
def test_what_ranks_nothing_correlates_with_nothing(pair):
    assert correlation(*pair) == (None, None)


def test_values_come_in_pairs():
    with pytest.raises(ValueError, match="values in pairs are expected, not 2 and 3"):
        correlation([1, 2], [1, 2, 3])


# Networks built by hand.
class Judge(nn.Module):
    """Op k gets the first ``right[k]`` of four images right, if they are normalised by their own statistics."""

    def __init__(self, *right: int) -> None:
        super().__init__()
        self.right = torch.tensor(right, dtype=torch.float64)
        self.bn = nn.BatchNorm2d(1, eps=1e-30, affine=False).double()
        self.bn.running_mean.fill_(100)

    def forward(self, images: Tensor, mixture: Mixture) -> Output:
        place = self.bn(images).flatten() * 1.25**0.5 + 1.5  # 0, 1, 2, 3
        margin = (mixture.weights["g"][0].double() @ self.right) - 0.5 - place
        return Output(torch.stack([torch.zeros_like(margin), margin], 1))


def only(name: str) -> Genotype:
    return Genotype((CellGenotype("g", (Link(0, 1, name),), (1,)),))


def test_each_genotype_is_judged_alone_and_by_statistics_of_the_batch():
    assert accuracies(Judge(1, 4, 0, 3), map(only, OPS), GROUPS, IMAGES, 0) == [
        0.25,
        1.0,
        0.0,
        0.75,
    ]
    with pytest.raises(ValueError, match="no primitive 'e'"):
        accuracies(Judge(1, 4, 0, 3), [only("e")], GROUPS, IMAGES, 0)
    with pytest.raises(ValueError, match="no images"):
        accuracies(Judge(1, 4, 0, 3), [only("a")], GROUPS, [], 0)


def ranked(nets, genotype, **options) -> dict:
    state = State(
        0,
        Plan(4, 1),
        torch.device("cpu"),
        "32",
        SimpleNamespace(groups=GROUPS),
        nets=nets,
        epoch=1,
        genotype=genotype,
    )
    data = SimpleNamespace(
        evaluation=lambda split, limit: iter(IMAGES if (split, limit) == ("val", 4) else ())
    )
    return probes.Ranking(every=1, images=4, **options).on_epoch(None, state, data, {"epoch": 0})


def test_columns_by_hand():
    """The table swaps two of S; E turns S around."""
    table = dict(zip(OPS, (1.0, 3.0, 2.0, 4.0)))
    known = {
        "hand": lambda genotype: table[genotype.cells[0].links[0].primitive],
        "flat": lambda genotype: 5.0,
    }
    nets = {"search": Judge(1, 2, 3, 4), "evaluation": Judge(4, 3, 2, 1), "heads": nn.Identity()}
    of_search = {"ranking_search_tau_hand": 2 / 3, "ranking_search_rho_hand": 0.8}
    of_search |= {"ranking_search_tau_flat": None, "ranking_search_rho_flat": None}
    of_evaluation = {"ranking_evaluation_tau_hand": -2 / 3, "ranking_evaluation_rho_hand": -0.8}
    of_evaluation |= {"ranking_evaluation_tau_flat": None, "ranking_evaluation_rho_flat": None}
    both = {"ranking_tau": -1.0, "ranking_rho": -1.0}
    assert ranked(nets, only("a"), known=known) == pytest.approx(
        both | of_search | of_evaluation, abs=1e-15
    )
    assert ranked(nets, only("a")) == pytest.approx(both, abs=1e-15)
    assert ranked(nets, None, known=known) == pytest.approx(
        of_search, abs=1e-15
    )  # E has not run yet
    assert ranked({"search": nets["search"]}, None) == {}


# The sample.
def test_the_sample_is_a_function_of_the_seed_without_repetition():
    groups = archgrad.space("nasbench201").groups
    ranking = probes.Ranking(architectures=40)
    sample = ranking.sample(groups, 3)
    assert sample == ranking.sample(groups, 3) and len(set(sample)) == len(sample) == 40
    assert probes.Ranking(architectures=20).sample(groups, 3) == sample[:20]
    assert not set(sample) & set(ranking.sample(groups, 4))
    assert set(probes.Ranking(architectures=64).sample(GROUPS, 0)) == {only(name) for name in OPS}
    for genotype in probes.Ranking().sample(darts := archgrad.space("darts").groups, 0):
        genotype.check(darts)


@pytest.mark.parametrize("wrong", [{"architectures": 1}, {"architectures": 0}, {"images": 0}])
def test_too_few_are_refused(wrong):
    with pytest.raises(ValueError, match="a ranking needs at least 2 architectures and 1 image"):
        probes.Ranking(**wrong)


# In a search.
def searcher(name: str, space: str, **options) -> Method:
    return build(
        name,
        archgrad.space(space, channels=2, classes=4, cells=1 if space == "nasbench201" else 3),
        **options,
    )


RANKING = probes.Ranking(every=1, architectures=4)
OF_BOTH = {"ranking_tau", "ranking_rho"}
OF_SEARCH = {"ranking_search_tau_cifar10", "ranking_search_rho_cifar10"}
OF_EVALUATION = {"ranking_evaluation_tau_cifar10", "ranking_evaluation_rho_cifar10"}


def whole(state):
    optimizers = {name: one.state_dict()["state"] for name, one in state.optimizers.items()}
    return {name: trace(state, net) for name, net in state.nets.items()}, optimizers


@pytest.mark.parametrize(("name", "space"), [("darts", "s4"), ("cdarts", "nasbench201")])
def test_a_ranked_search_is_the_same_search(name, space):
    m, kept, data = searcher(name, space), Rows(), Several(per_epoch=1)
    bare = search(m, data, 2)
    watched = search(m, data, 2, observers=[RANKING, kept])
    assert watched.genotype == bare.genotype
    assert_equal(whole(watched.state), whole(bare.state))
    assert all((row.keys() >= OF_BOTH) == (name == "cdarts") for row in kept.kept)


@pytest.mark.parametrize("breaks", [True, False])
def test_no_trace_is_left_even_when_it_raises(breaks):
    state = (m := searcher("cdarts", "s4")).start(
        seed=0, epochs=1, steps=1
    )  # S4 draws noise in every pass
    state.genotype, state.epoch = m.genotype(state), 1
    net = state.nets["evaluation"]
    net.classifier.eval()  # a mode of its own
    next(net.parameters()).requires_grad_(False)
    passes = iter(range(100))

    def failing(*_):
        if next(passes) == 4:  # the second architecture
            raise OSError("the memory is gone")

    hook = net.classifier.register_forward_hook(failing) if breaks else None
    before = whole(state)
    if hook:
        with pytest.raises(OSError, match="memory"):
            RANKING.on_epoch(m, state, Several(), {"epoch": 0})
        hook.remove()
    else:
        first, second = (RANKING.on_epoch(m, state, Several(), {"epoch": 0}) for _ in range(2))
        assert first == second and first["ranking_tau"] is not None
    assert_equal(whole(state), before)


def test_a_resumed_search_ranks_the_same(tmp_path):
    m, every, after = searcher("cdarts", "nasbench201"), Rows(), Rows()
    search(m, Several(per_epoch=1), 2, observers=[RANKING, every])
    steps = iter(range(100))
    watchers = [
        RANKING,
        Checkpoints(path := tmp_path / "checkpoint.pt", stopping=lambda: next(steps) >= 2),
    ]
    with pytest.raises(Interrupted):
        search(m, Several(per_epoch=1), 2, observers=watchers)
    search(
        m,
        Several(per_epoch=1),
        2,
        state=checkpoint.restore(m, checkpoint.read(path)),
        observers=[RANKING, after],
    )
    assert after.kept and after.kept == every.kept[-len(after.kept) :]


def test_an_evaluation_network_counts_from_its_first_cycle_on():
    kept, m = Rows(), searcher("cdarts", "nasbench201", cdarts={"pretrain": 1})
    search(
        m,
        Several(per_epoch=1),
        2,
        observers=[
            probes.Ranking(1, 4, known=run.true_accuracies(archgrad.space("nasbench201"))),
            kept,
        ],
    )
    first, second = ({name for name in row if name.startswith("ranking")} for row in kept.kept)
    assert first == OF_SEARCH and second == OF_BOTH | OF_SEARCH | OF_EVALUATION


def test_ranking_happens_five_times_or_as_often_as_asked_and_after_the_last_epoch():
    def epochs(total: int, **options) -> list[int]:
        kept, ranking = (
            Rows(),
            probes.Ranking(architectures=2, known={"x": lambda genotype: 0.0}, **options),
        )
        state = search(
            searcher("darts", "nasbench201"), Several(per_epoch=1), total, observers=[ranking, kept]
        ).state
        found = [row["epoch"] + 1 for row in kept.kept if "ranking_search_tau_x" in row]
        assert ranking.cost_line(state).endswith(
            f"1 network, {len(found)} time{'s' * (len(found) != 1)}"
        )
        return found

    assert epochs(11) == [3, 5, 7, 9, 11]
    assert epochs(5, every=2) == [2, 4, 5]
    assert epochs(2, every=9) == [2]


# Settings and tables.
def small(tmp_path, **diagnostics):
    settings = {
        "data": "digits",
        "method": "cdarts",
        "space": {"name": "nasbench201", "channels": 2, "cells": 1},
        "threads": 1,
    }
    settings |= {"search": {"epochs": 1, "limit": 20, "batch": 20}, "out": str(tmp_path / "run")}
    return config.read(
        ("test", settings | {"diagnostics": {"gap": False, "entropy": False} | diagnostics})
    )


def test_off_by_default(tmp_path):
    assert run.diagnostics(small(tmp_path)) == ()


def test_every_setting_reaches_it(tmp_path):
    given = {"ranking": True, "ranking_every": 3, "ranking_architectures": 5, "ranking_images": 64}
    assert run.diagnostics(small(tmp_path, ranking_table=False, **given)) == (
        probes.Ranking(3, 5, 64),
    )
    (one,) = run.diagnostics(settings := small(tmp_path, **given))
    assert isinstance(one, probes.Ranking) and one.known.keys() == {"cifar10"}
    assert (
        config.read(("again", settings.to_mapping())).diagnostics == settings.diagnostics
    )  # as a resumed run reads them


def test_a_run_says_its_cost_and_looks_up_the_table(tmp_path):
    says = Console(file=StringIO(), width=200)
    run.search(
        small(tmp_path, ranking=True, ranking_architectures=4, ranking_images=20), console=says
    )
    assert "\nranking: 4 architectures on 20 images in 2 networks, 1 time\n" in says.file.getvalue()
    (row,) = read_measured(tmp_path / "run" / "metrics.jsonl")
    assert row.keys() >= OF_BOTH | OF_SEARCH | OF_EVALUATION


def test_the_table_is_asked_for_test_accuracy():
    known = run.true_accuracies(archgrad.space("nasbench201"))["cifar10"]
    assert known(tabular.benchmark_of("nasbench201").conv3x3()) == 93.76
    assert run.true_accuracies(archgrad.space("darts")) == {}


def test_a_blind_study_ranks_without_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(
        tabular.benchmark_of("nasbench201"), "query", lambda genotype: pytest.fail("looked up")
    )
    own = {"diagnostics": {"ranking": True, "ranking_architectures": 4, "ranking_images": 20}}
    shared = {
        name: value
        for name, value in small(tmp_path).to_mapping().items()
        if name not in ("seed", "method")
    } | {"controls": False}
    asked = study.read(
        ("", shared | {"arms": {"cdarts": {"method": "cdarts", **own}}, "blind": True, "seeds": 1})
    )
    settings = asked.settings("cdarts", 1).model_copy(update={"out": tmp_path / "blind"})
    run.search(settings, console=Console(quiet=True))
    (row,) = read_measured(tmp_path / "blind" / "metrics.jsonl")
    assert {name for name in row if name.startswith("ranking")} == OF_BOTH
    assert (
        study.read(("", shared | {"arms": {"cdarts": {"method": "cdarts", **own}}, "seeds": 1}))
        .settings("cdarts")
        .diagnostics.ranking_table
    )


def test_tables_show_it_where_it_was_measured():
    def made(arm: str, seed: int, **final: float):
        return {
            "arm": arm,
            "seed": seed,
            "final": final,
            "seconds": 1.0,
            "benchmark": None,
            "epochs": {},
        }

    summaries = [
        made("darts", seed, entropy=1.0, ranking_search_tau_cifar10=0.5) for seed in (1, 2)
    ]
    summaries += [
        made("cdarts", seed, entropy=1.0, ranking_tau=0.25, ranking_search_tau_cifar10=0.75)
        for seed in (1, 2)
    ]
    text = to_markdown(summaries, "darts")
    assert (
        "| arm | seeds | tau, search and evaluation network | tau, search network and table |\n"
        in text
    )
    assert "| darts | 1, 2 | - | 0.5000 (0.5000 to 0.5000) |" in text
    assert "| cdarts | 1, 2 | 0.2500 (0.2500 to 0.2500) | 0.7500 (0.7500 to 0.7500) |" in text
    console = Console(file=StringIO(), width=120)
    console.print(tables.table(comparison(summaries, "darts")))
    assert "Rank correlation: tau, search and evaluation network" in console.file.getvalue()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"ranking_architectures": 1},
            "diagnostics.ranking_architectures: Input should be greater than or equal to 2, not 1",
        ),
        (
            {"ranking_images": 0},
            "diagnostics.ranking_images: Input should be greater than or equal to 1, not 0",
        ),
        (
            {"ranking_every": 0},
            "diagnostics.ranking_every: Input should be greater than or equal to 1, not 0",
        ),
        (
            {"ranking_tables": True},
            "unknown option of diagnostics 'ranking_tables': did you mean 'ranking_table'?",
        ),
    ],
)
def test_settings_are_refused_in_one_line(tmp_path, given, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        small(tmp_path, **given)


def test_no_table_for_primitives_it_does_not_know():
    """A ranking must not end a search whose space the table knows by name alone."""
    from archgrad.run.watchers import true_accuracies

    for options in ({}, {"primitives": ["none", "skip_connect"]}):
        assert set(true_accuracies(archgrad.space("nasbench201", **options))) == {"cifar10"}
    assert (
        true_accuracies(archgrad.space("nasbench201", primitives=["none", "sep_conv_3x3"]))
        == {}
        == true_accuracies(archgrad.space("darts"))
    )
