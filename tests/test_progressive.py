"""DrNAS's progressive search: ever fewer ops and more channels, what lives through a border and how, resumes there."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from archgrad.components.schedules import epoch_at_share, exact_epoch
from archgrad.methods import method
from archgrad.methods.progressive import progressive
from archgrad.methods.progressive_carry import widened
from archgrad.searching import checkpoint
from archgrad.searching.carry import column_selector
from archgrad.searching.loop import initial_state
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.types import Stage
from archgrad.spaces import space
from fakes import Noise
from patches import per_cell
from searching import DATA, Record, Saves, Watch, content, gone_on, run, same

SMALL = {
    "nasbench201": {"channels": 4, "cells": 1, "classes": 4},
    "darts": {"channels": 4, "cells": 3, "nodes": 2, "classes": 4},
    "s1": {"channels": 4, "cells": 3, "classes": 4},
}


def made(space_name="nasbench201", names="drnas+progressive", **options):
    given = {"partial": (4, 2), "keep": (3,), "rest": 0.4} | options
    return method(names, space(space_name, **SMALL[space_name]), progressive=given)


def at_the_border(m, epochs=4):
    """A state just before its second stage, and copies of what it holds."""
    state = initial_state(m, DATA, epochs, seed=1)
    for epoch in range(epochs // 2):
        m.begin_epoch(state)
        for train, val in zip(
            DATA.batches("train", epoch), DATA.batches("val", epoch), strict=True
        ):
            m.step(state, train, val)
        m.end_epoch(state, DATA)
    return state


@pytest.mark.parametrize("space_name", SMALL)
def test_ever_fewer_ops_and_ever_more_channels(space_name):
    m, seen = made(space_name), {}

    def look(method, state, done):
        groups = state.space.groups.values()
        seen[state.epoch] = (
            state.space.partial_channels,
            max(group.width for group in groups),
            method.phase(state),
        )

    found = run(m, [Watch(look)], data=Noise(per_epoch=1))
    width = max(group.width for group in m.space.groups.values())
    narrow = min(3, width)
    assert seen == {
        0: (4, width, "weights only"),
        1: (4, width, "search"),
        2: (2, narrow, "weights only"),
        3: (2, narrow, "search"),
    }
    assert (found.state.born, found.state.dies) == (0, 4)  # one life: the learning rate falls once
    m.base.derive(found.genotype, channels=4, cells=3)


@pytest.mark.parametrize(
    ("rest", "epochs", "first"),
    [(0.4, 50, (10, 35)), (0.2, 100, (10, 60)), (0.4, 10, (2, 7)), (0.0, 10, (0, 5))],
)
def test_alphas_rest_in_the_first_epochs_of_every_stage(rest, epochs, first):
    stages = progressive(rest=rest).stages
    assert [stage.begin(epochs) for stage in stages] == [0, epochs // 2]
    assert tuple(stage.alpha_from(epochs) for stage in stages) == first


def test_what_stays_lives_through_the_border():
    """Alphas, weights, running statistics and the optimizers' state; an added channel copies an old one, its momentum too."""
    m = made()
    state = at_the_border(m)
    old = replace(state)
    m.begin_epoch(state)
    assert state.nets["search"] is not old.nets["search"] and state.space.partial_channels == 2

    before, wider = old.nets["search"].state_dict(keep_vars=True), 0
    for name, now in state.nets["search"].state_dict(keep_vars=True).items():
        was = before[name]
        pairs = [(was, now)]
        if was in old.optimizers["weights"].state:
            pairs.append(
                (
                    old.optimizers["weights"].state[was]["momentum_buffer"],
                    state.optimizers["weights"].state[now]["momentum_buffer"],
                )
            )
        for one, other in pairs:
            assert torch.equal(other[tuple(slice(side) for side in one.shape)], one)
        wider += was.shape != now.shape and len(pairs) == 2
        if was.dim() == 1 and was.shape != now.shape:
            assert set(now.tolist()) == set(was.tolist())
    assert wider > 10

    one, other = (one.optimizers["alphas"].state[one.alphas["cell"]] for one in (old, state))
    assert torch.equal(one["step"], other["step"]) and one["step"] > 0
    for k, (edge, was) in enumerate(
        zip(state.space.groups["cell"].edges, old.space.groups["cell"].edges, strict=True)
    ):
        columns = [was.primitives.index(p) for p in edge.primitives]
        assert columns == sorted(
            old.alphas["cell"][k].detach().argsort(descending=True, stable=True)[:3].tolist()
        )
        for a, b in (
            (old.alphas["cell"], state.alphas["cell"]),
            *((one[slot], other[slot]) for slot in ("exp_avg", "exp_avg_sq")),
        ):
            assert torch.equal(b[k], a[k, columns])


def test_the_layers_of_an_op_copy_the_same_channel():
    """So that a copied channel is a copy after each of them: of a chain of diagonal layers the wider chain gives the old output and copies."""
    first, second = (
        torch.randn(3, 1, 3, 3, generator=torch.Generator().manual_seed(0)),
        torch.eye(3)[:, :, None, None],
    )
    wide_first, wide_second = (
        widened(torch.Size([5, 1, 3, 3]), 7)(first),
        widened(torch.Size([5, 5, 1, 1]), 7)(second),
    )
    copied = [next(i for i in range(3) if torch.equal(first[i], wide_first[k])) for k in (3, 4)]
    assert [wide_second[k, :3].flatten().argmax().item() for k in (3, 4)] == copied
    assert torch.equal(widened(torch.Size([2]), 7)(torch.arange(4)), torch.tensor([0, 1]))


def test_other_logits_keep_their_place():
    """(cells, edges, ops) are chosen among as (edges, ops) are; (edges,) stay."""
    m = method("progressive", space("nasbench201", **SMALL["nasbench201"]), patches=[per_cell()])
    state = at_the_border(m)
    before, group = state.alphas["cell/cell"].detach(), state.space.groups["cell"]
    m.begin_epoch(state)
    assert state.alphas["cell/cell"].shape == (3, 6, 3)
    for e, edge in enumerate(state.space.groups["cell"].edges):
        assert torch.equal(
            state.alphas["cell/cell"][:, e],
            before[:, e, [group.edges[e].primitives.index(p) for p in edge.primitives]],
        )
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(column_selector(group, state.space.groups["cell"])(logits), logits)


@pytest.mark.parametrize("names", ["drnas+progressive", "pcdarts+progressive"])
def test_resumes_at_and_around_the_border_bit_for_bit(names, tmp_path):
    settings = {"weights": {"lr": 0.05}, "alphas": {"lr": 1e-3}}
    m = method(
        names,
        space("darts", **SMALL["darts"]),
        progressive={"partial": (4, 2), "keep": (3,)},
        **settings,
    )
    data = Noise(per_epoch=2)
    saves = Saves([("step", 1, 2), ("epoch", 2, 0), ("step", 2, 1)], tmp_path)
    found = run(m, [saves], data=data)
    for place, path in saves.files.items():
        again, rows = gone_on(m, path, data=data)
        assert rows == saves.rows[len(saves.rows) - len(rows) :], place
        assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state)), place


@pytest.mark.parametrize("space_name", SMALL)
def test_one_stage_of_whole_channels_is_darts_bit_for_bit(space_name):
    alphas = {"lr": 3e-4}
    plain = method("darts", space(space_name, **SMALL[space_name]), alphas=alphas)
    one = method(
        "progressive",
        space(space_name, **SMALL[space_name]),
        partial=(1,),
        keep=(),
        rest=0,
        alphas=alphas,
    )
    a, b = (content(m, run(m, epochs=2, data=Noise(per_epoch=1)).state) for m in (plain, one))
    assert same(a, b)


def test_a_stage_that_continues_keeps_the_lifetime_of_the_supernet():
    """The cosine goes on through it; alphas rest by the stage all the same."""

    def rates(continues):
        stage = Stage(
            epoch_at_share(1, of=2),
            lambda method, state: state.space,
            None,
            exact_epoch(3, "later"),
            continues,
        )
        m, seen = (
            Method(Patch("one", stages=(stage,)), space("nasbench201", **SMALL["nasbench201"])),
            [],
        )
        watch = Watch(
            lambda m, state, done: seen.append(
                (state.optimizers["weights"].param_groups[0]["lr"], m.phase(state))
            )
        )
        run(m, [watch])
        return seen[::3]

    def fall(life):
        return [
            0.001
            + (0.025 - 0.001) * (1 + torch.tensor(torch.pi * (e % life) / life).cos().item()) / 2
            for e in range(4)
        ]

    for continues, life in ((True, 4), (False, 2)):
        seen = rates(continues)
        assert [rate for rate, _ in seen] == pytest.approx(fall(life))
        assert [phase for _, phase in seen] == ["search", "search", "weights only", "search"]


def test_what_cannot_be_is_refused_before_the_first_step():
    with pytest.raises(
        ValueError,
        match="progressive does not fit space 'darts': channels is 16, which is no multiple of partial_channels 6",
    ):
        initial_state(method("progressive", space("darts", classes=4), partial=(6, 4)), DATA, 4)
    later = method("progressive", space("darts", classes=4, channels=6, cells=3), partial=(6, 4))
    record = Record()
    with pytest.raises(
        ValueError, match="channels is 6, which is no multiple of partial_channels 4"
    ):
        run(later, [record])
    assert not record.rows
    with pytest.raises(
        ValueError, match=r"progressive\.partial needs a value for each of the 3 stages"
    ):
        progressive(keep=(4, 2))
    with pytest.raises(
        ValueError,
        match=r"no room for its 2 stages: more epochs, or fewer stages by --progressive\.keep",
    ):
        initial_state(made(), DATA, 1)


@pytest.mark.parametrize("name", ["darts", "s1", "nasbench201"])
def test_the_defaults_fit_the_space_as_it_is(name):
    m = method("drnas+progressive", space(name))
    assert (
        m.stages[0].change(m, SimpleNamespace(space=m.space)).partial_channels
        == m.space.partial_channels
        == 4
    )


def test_the_published_search_in_the_space_of_darts():
    m = method(
        "drnas+progressive", space("darts", channels=36, cells=20), progressive={"partial": (6, 4)}
    )
    assert [stage.begin(50) for stage in m.stages] == [0, 25] and [
        stage.alpha_from(50) for stage in m.stages
    ] == [10, 35]
    assert m.space.partial_channels == 6 and (m.weights.lr, m.weights.lr_end, m.alphas.lr) == (
        0.1,
        0.0,
        6e-4,
    )
