"""Every method and every pair of methods, on every kind of space: a line in METHODS (or in tests/patches.py) enrols a new one here."""

from __future__ import annotations

import importlib
import json
import math
from itertools import combinations, product

import pytest
import torch

from archgrad.components.select import uniform_genotype
from archgrad.methods import METHODS, method
from archgrad.run.judgement import Judgement
from archgrad.run.judging import judge
from archgrad.searching import checkpoint
from archgrad.searching.compose import claims, compose, idle_patches
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.patch import SETTLED, Patch
from archgrad.searching.steps import Bilevel
from archgrad.spaces import space
from fakes import Noise
from patches import PATCHES
from searching import EPOCHS, Record, Saves, Stopped, gone_on, run, same

FIVE = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
SPACES = {
    "nasbench201": {"channels": 4, "cells": 1, "classes": 4},
    "darts": {"channels": 2, "cells": 3, "nodes": 2, "classes": 4, "primitives": FIVE},
    "s1": {"channels": 2, "cells": 3, "classes": 4},
    "s4": {"channels": 2, "cells": 3, "classes": 4},
    "nasbenchmacro": {"channels": 2, "classes": 4},
    "mbconv": {
        "channels": 4,
        "classes": 4,
        "stages": ((8, 2, 1), (8, 2, 2), (16, 1, 2)),
        "kernels": (3, 5),
        "expansions": (1,),
    },
}
ENTRIES = [*METHODS, *PATCHES]
still = dict(alphas={"decay": 0.0})  # decay off: what moves an alpha is then its gradient alone


SYSTEMS = {"darts", "stdarts", "sddarts", "cdarts"}
"""They run in each of `KINDS` in `make test`, and in all pairs of each other that they allow."""
KINDS = ("nasbench201", "darts", "nasbenchmacro")
"""Spaces that differ in kind: one cell, two cells whose nodes choose among edges, a chain of layers."""
TURNS = (*KINDS, "mbconv")
SHORT: dict[str, dict[str, int]] = {"rsws": {"samples": 5, "finalists": 2}}
"""Options without which a test takes minutes."""


def sampled(name: str, one: str) -> bool:
    """Whether a method runs in a space in `make test`: each by turns in one of four. `make slow` runs the rest.

    In nasbench201 all search in pairs too, and under a budget (tests/test_budget.py)."""
    return (
        one == TURNS[ENTRIES.index(name) % len(TURNS)]
        or (name in SYSTEMS and one in KINDS)
        or (name, one) in (("darts", "s1"), ("sddarts", "s4"))
    )


CASES = [
    pytest.param(
        name, one, id=f"{name}-{one}", marks=[] if sampled(name, one) else [pytest.mark.slow]
    )
    for name in ENTRIES
    for one in SPACES
]
PAIRS = list(combinations(ENTRIES, 2))


def patch_of(name: str, space_name: str) -> Patch:
    """As a user gets it: with the method's presets in that space."""
    return (
        PATCHES[name]()
        if name in PATCHES
        else METHODS[name].patch(**METHODS[name].resolved_options(space_name, SHORT.get(name, {})))
    )


def made(names: str, space_name: str, **settings: dict) -> Method:
    patches = [patch_of(name, space_name) for name in names.split("+") if name != "darts"]
    patch, options = compose(*patches, settle=Patch("user", **settings)), SPACES[space_name]
    channels = math.lcm(options["channels"], patch.space.get("partial_channels", 1))
    return Method(patch, space(space_name, **options | {"channels": channels}))


DATA = Noise(per_epoch=2)
PLACES = [("step", 0, 1), ("step", 1, 2), ("epoch", 2, 0), ("step", 2, 1), ("step", 3, 2)]
DECISIONS = [
    ("decision", 2**n, 0) for n in range(6)
]  # of dozens; the tests of such a method go on from each


def some_places(name: str, space_name: str) -> list[tuple[str, int, int]]:
    """The places of `make test`: one of `PLACES` by turns, so that the methods together have them all, and the second decision."""
    turn = ENTRIES.index(name) + [*SPACES].index(space_name)
    return [PLACES[turn % len(PLACES)], DECISIONS[1]]


@pytest.mark.parametrize(("name", "space_name"), CASES)
def test_runs_derives_moves_every_alpha_and_resumes_bit_for_bit(name, space_name, tmp_path):
    m = made(name, space_name, **still)
    found, rows = goes_on_alike(m, some_places(name, space_name), tmp_path)
    check_rows(m, found, rows, SPACES[space_name].get("cells"))
    if m.alpha_from(EPOCHS) < EPOCHS:  # no control arm
        check_alphas(m, found.state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_resumes_bit_for_bit_from_every_place(name, tmp_path):
    goes_on_alike(made(name, "nasbench201", **still), [*PLACES, *DECISIONS], tmp_path)


def goes_on_alike(m, places, folder):
    """What a search finds, and its rows. From each of the places its rest comes out the same, to the last bit."""
    saves = Saves(places, folder)
    found = run(m, [saves], data=DATA)
    files = {place: path for place, path in saves.files.items() if path.exists()}
    assert [*files] == [
        place
        for place in places
        if place not in DECISIONS or place[1] <= len(found.state.decisions)
    ]
    for place, path in files.items():
        again, rows = gone_on(m, path, data=DATA)
        assert rows == saves.rows[len(saves.rows) - len(rows) :], place
        assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state)), place
        assert again.genotype == found.genotype
    return found, saves.rows


def check_rows(m, found, rows, cells):
    """What was measured is finite, what was found can be derived, and its judgement can be read again."""
    assert [row["epoch"] for row in rows] == list(range(EPOCHS))
    assert all(
        torch.isfinite(torch.tensor(v))
        for row in rows
        for v in row.values()
        if isinstance(v, float)
    )
    derived = m.base.derive(found.genotype, channels=4, cells=cells).eval()
    assert derived(next(DATA.evaluation("val")).images).shape == (DATA.batch, DATA.classes)
    judgement = judge(m, found.state, found.genotype, rows, [4] * 4)
    assert (
        Judgement.from_json(json.loads(json.dumps(judgement.to_json()))) == judgement
        and judgement.accuracy is not None
    )
    assert judgement.parts or found.state.decisions or m.alpha_from(EPOCHS) >= EPOCHS


def check_alphas(m, state):
    """Every alpha that can have a gradient had one."""
    for group_name, a in state.alphas.items():
        seen = state.optimizers["alphas"].state[a]["exp_avg_sq"]
        assert torch.isfinite(seen).all()
        group = state.space.groups[group_name.split("/")[0]]
        free = (
            group.mask() & (group.mask().sum(1, keepdim=True) > 1)
            if "/" not in group_name
            else torch.ones_like(a, dtype=torch.bool)
        )
        if "/" not in group_name and not competes(m, state, group_name):
            free &= hidden_free(group)
        if group_name.endswith("/edge"):  # the one input of a node has nothing to compete with
            free = torch.tensor([len(group.nodes()[edge.target]) > 1 for edge in group.edges])
        if group_name.endswith("/cell"):
            free = group.mask().expand_as(a) & (group.cells > 0) & hidden_free(group)
        elif group.cells == 0:
            continue
        assert (seen[free] > 0).all(), (
            f"{group_name}: {[group.edges[int(i)] for i in (~(seen > 0) & free).nonzero()[:, 0]]}"
        )


def competes(method, state, group_name):
    """Whether the ops of an edge share what there is: then `none` takes from the others, though it gives nothing itself."""
    rows = method.relax(state.alphas, method.context(state, "readout")).weights[group_name].sum(-1)
    sums = rows[..., state.space.groups[group_name].mask().any(1)]
    return torch.allclose(sums, torch.ones_like(sums))


def hidden_free(group):
    """`none` gives zeros whatever its weight, so a factor on it alone has no gradient."""
    return torch.tensor(
        [
            [k < len(e.primitives) and e.primitives[k] != "none" for k in range(group.width)]
            for e in group.edges
        ]
    )


def of_pair(pair: tuple[str, str]) -> tuple[str | None, dict]:
    """Why it is refused although the user says which of two settings counts, or None; and the user's word."""
    patches = [patch_of(name, "nasbench201") for name in pair]
    first, second = (claims(patch) for patch in patches)
    shared = {what for what in first.keys() & second.keys() if first[what] != second[what]}
    if not all(what.split(".")[0] in SETTLED for what in shared):  # nobody may say which
        return f"{pair[0]} and {pair[1]} both set {min(shared)}", {}
    word: dict = {"weights": {}, "alphas": {}}
    for what in shared:
        kind, _, key = what.partition(".")
        word |= {kind: word[kind] | {key: first[what]}} if key else {kind: first[what]}
    if idle_patches(*patches):
        return r"acts in alpha steps alone, and .* has an alpha_from that never comes", word
    stepper = next((patch.stepper for patch in patches if patch.stepper), Bilevel())
    unread = set.union(*(set(patch.set_fields()) for patch in patches)) - stepper.reads
    return f"its stepper does not read {', '.join(sorted(unread))}" if unread else None, word


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_pairs_compose_or_say_why_not(pair):
    patches = [patch_of(name, "nasbench201") for name in pair]
    first, second = (claims(patch) for patch in patches)
    if shared := {what for what in first.keys() & second.keys() if first[what] != second[what]}:
        with pytest.raises(ValueError, match=f"{pair[0]} and {pair[1]} both set {min(shared)}"):
            compose(*patches)
    why, word = of_pair(pair)
    if why is None:
        assert made("+".join(pair), "nasbench201", **word).name
    else:
        with pytest.raises(ValueError, match=why):
            made("+".join(pair), "nasbench201", **word)


RUNNING = [pair for pair in PAIRS if of_pair(pair)[0] is None]
BEFORE = {"weights", "alphas", "lengths", "with_rate", "ahead", "scalars"}
"""Fields of a patch that only set numbers before a step."""


def covering() -> set[tuple[str, str]]:
    """So few pairs that any two fields that two patches set in any running pair meet in one of them, and that each method is in one."""
    sets = {name: patch_of(name, "nasbench201").set_fields() - BEFORE for name in ENTRIES}
    meets = {
        pair: {*map(frozenset, product(*(sets[name] for name in pair)))}
        for pair in RUNNING
        if "darts" not in pair
    }
    found = {pair for pair in meets if SYSTEMS.issuperset(pair)}
    while left := set().union(*meets.values()).difference(*(meets[pair] for pair in found)):
        found.add(max(meets, key=lambda pair: len(meets[pair] & left)))
    while rare := {name for name in ENTRIES[1:] if not any(name in pair for pair in found)}:
        found.add(max(meets.keys() - found, key=lambda pair: (len(rare & {*pair}), pair)))
    return found


COVERING = covering()
SOME = [
    pytest.param(pair, id="+".join(pair), marks=[] if pair in COVERING else [pytest.mark.slow])
    for pair in RUNNING
]


@pytest.mark.parametrize("pair", SOME)
def test_pairs_run_and_resume_bit_for_bit(pair, tmp_path):
    m = made("+".join(pair), "nasbench201", **of_pair(pair)[1])
    saves = Saves([("step", 2, 1)], tmp_path)
    found = run(m, [saves], data=DATA)
    again, _ = gone_on(m, saves.files["step", 2, 1], data=DATA)
    assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state))


def test_methods_of_one_seed_start_from_the_same_weights():
    states = [
        made(name, "darts").start(seed=5, epochs=EPOCHS, steps=3)
        for name in ("darts", "gdas", "memory", "random")
    ]
    first = states[0].nets["search"].state_dict()
    for state in states[1:]:
        assert same(dict(state.nets["search"].state_dict()), dict(first))
        assert torch.equal(state.alphas["normal"], states[0].alphas["normal"])
    pruned = space("darts", **SPACES["darts"]).resized(primitives=("skip_connect", "sep_conv_3x3"))
    from archgrad.searching.start import initialise

    fewer = initialise(pruned.supernet(), 5).state_dict()
    assert fewer and all(torch.equal(value, first[name]) for name, value in fewer.items())


def test_strength_zero_is_darts_bit_for_bit():
    from archgrad.components.losses import weighted
    from archgrad.components.schedules import constant

    def never(forward):
        raise AssertionError("a term of strength 0 must not run")

    off = Patch(
        "off",
        weight_terms=(weighted(constant(0), never),),
        alpha_terms=(weighted(constant(0), never),),
    )
    base = space("nasbench201", **SPACES["nasbench201"])
    a, b = (
        checkpoint.pack(m, run(m).state) for m in (Method(Patch("darts"), base), Method(off, base))
    )
    assert a.keys() == b.keys() and all(
        same(a[part], b[part]) for part in a.keys() - {"method", "identity"}
    )


def test_observers_change_no_bit():
    class Nosy(Record):
        def on_step(self, method, state, values):
            torch.rand(7)  # even one that draws from the global generator
            method.genotype(state), method.readout(state)

    m = made("gdas+memory+smoothdarts", "darts")
    a, b = run(m), run(m, [Nosy(), Record()])
    assert same(checkpoint.pack(m, a.state), checkpoint.pack(m, b.state))


def test_random_keeps_the_best_of_its_draws():
    m = method("random", space("nasbench201", **SPACES["nasbench201"]), draws=2)
    record = Record()
    found = run(m, [record])
    tried = found.state.memory["draws"].judged_draws
    assert len(tried) == 2 and tried[0]["genotype"] != tried[1]["genotype"]
    best = max(tried, key=lambda one: one["accuracy"])
    assert found.genotype.to_json() == best["genotype"]
    assert [row.get("draw_accuracy") for row in record.rows] == [
        None,
        tried[0]["accuracy"],
        None,
        tried[1]["accuracy"],
    ]
    # An own life each: the learning rate starts again, the weights too.
    assert (found.state.born, found.state.dies) == (2, 4)


def test_an_early_stop_survives_a_resume(tmp_path):
    """Stopped after two of four epochs, killed between two decisions: what is left are the decisions, not the epochs."""

    class Stops(Record):
        def on_epoch(self, method, state, data, row):
            self.rows.append(row)
            return {"stop": "enough"} if row["epoch"] == 1 else None

    m = made("dartspt", "nasbench201")
    whole = run(m, [Stops()])
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Stopped):
        run(m, [Stops(), Record(("decision", 1, 0), path)])
    late = Stops()
    again = run(m, [late], checkpoint.restore(m, checkpoint.read(path)))
    assert not late.rows and again.state.stopped == "enough"
    assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, whole.state))


def test_random_says_when_a_search_is_too_short():
    m = method("random", space("nasbench201", **SPACES["nasbench201"]))
    with pytest.raises(ValueError, match="a search of 3 epochs has no room for its 4 stages"):
        run(m, epochs=3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dart", {}, "unknown method 'dart': did you mean 'darts'"),
        ("darts+darts", {}, "names darts twice"),
        ("darts", {"ordr": "alpha_first"}, "unknown option of darts 'ordr': did you mean 'order'"),
        ("darts", {"order": "sideways"}, "darts.order: .*not 'sideways'"),
        ("random", {"draws": 0}, "random.draws: .*greater than or equal to 1, not 0"),
        ("random", {"weights": {"lr": "fast"}}, "weights.lr: .*not 'fast'"),
        ("random", {"alphas": {"lr": -1}}, "alphas.lr: .*not -1"),
        ("darts+random", {"draws": 3}, "unknown section of options 'draws'"),
    ],
)
def test_bad_options_are_one_line(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        method(name, space("nasbench201"), **options)
    assert "\n" not in str(caught.value)


def test_the_users_own_word_settles_a_conflict():
    ours = method(
        "darts", space("nasbench201"), order="alpha_first", weights={"lr": 0.1}, alphas={"decay": 0}
    )
    assert (ours.order, ours.weights.lr, ours.weights.nesterov, ours.alphas.decay) == (
        "alpha_first",
        0.1,
        True,
        0,
    )
    both = compose(
        Patch("one", order="weight_first"),
        Patch("other", order="alpha_first"),
        settle=Patch("user", order="weight_first"),
    )
    assert both.order == "weight_first"


@pytest.mark.parametrize(
    "space_name",
    [pytest.param(one, marks=[] if one in KINDS else [pytest.mark.slow]) for one in SPACES],
)
def test_bf16_runs_everywhere(space_name):
    record = Record()
    search(
        method("stdarts+sddarts", space(space_name, **SPACES[space_name])),
        DATA,
        2,
        observers=[record],
        precision="bf16",
    )
    assert all(math.isfinite(row["train_loss"]) for row in record.rows)


@pytest.mark.parametrize("partial", [1, 2])
@pytest.mark.parametrize("space_name", SPACES)
def test_a_genotypes_mixture_runs_on_the_nets_device(space_name, partial):
    """It is made on the host; the meta device tells as a GPU would."""
    base = space(space_name, **SPACES[space_name] | {"partial_channels": partial})
    mixture = uniform_genotype(base.groups, 0).one_hot(base.groups)
    images = torch.empty(2, 3, 8, 8, device="meta")
    assert base.supernet().to("meta")(images, mixture).logits.device.type == "meta"


@pytest.mark.parametrize("other", ["pcdarts", "dartsminus", "fairdarts"])
def test_random_search_judges_a_draw_as_it_was_trained(other, monkeypatch):
    judged = []
    monkeypatch.setattr(
        importlib.import_module("archgrad.methods.random"),
        "accuracy",
        lambda net, mixture, *_, **__: (judged.append(mixture), (0.5, 0))[1],
    )
    m = made(f"random+{other}", "nasbench201")
    state = run(m).state
    trained = m.readout(state)
    assert len(judged) == 4 and judged[-1].extras.keys() == trained.extras.keys()
    assert all(
        torch.equal(judged[-1].weights[name], rows) for name, rows in trained.weights.items()
    )


def test_two_patches_that_set_one_field_must_agree():
    """Two that agree compose; two of one name that do not are refused like any two."""
    early, late = (Patch("same", order=order) for order in ("alpha_first", "weight_first"))
    with pytest.raises(ValueError, match="same and same both set order"):
        compose(early, late)
    assert compose(early, Patch("other", order="alpha_first")).order == "alpha_first"
    assert compose(Patch("a", alphas={"decay": 0.0}), Patch("b", alphas={"decay": 0.0})).alphas == {
        "decay": 0.0
    }


def test_all_networks_are_drawn_before_any_moves(monkeypatch):
    """Two networks share a stem: drawn again after a move to a GPU, it would be another one than on a CPU."""
    done = []
    monkeypatch.setattr(
        "archgrad.searching.method.initialise", lambda net, seed: done.append("drawn")
    )
    monkeypatch.setattr(torch.nn.Module, "to", lambda net, *_, **__: done.append("moved") or net)
    made("cdarts", "nasbench201").start(seed=0, epochs=EPOCHS, steps=3)
    assert done[-6:] == ["drawn"] * 3 + ["moved"] * 3
