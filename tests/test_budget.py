"""Budgets: every method's result keeps to them, the mixture moves there, multipliers resume, gradients and closed forms."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Forward, Progress
from archgrad.components.select import strongest_genotype
from archgrad.cost.cost import Cost, by_primitive, expected
from archgrad.cost.counting import costs
from archgrad.cost.limits import Limit, cheapest, is_feasible, most_expensive
from archgrad.methods import METHODS, method
from archgrad.methods.budget import Multipliers, budget, penalty
from archgrad.methods.stages import survivors
from archgrad.searching import checkpoint
from archgrad.spaces import space
from fakes import Noise
from searching import Record, Saves, gone_on, run, same

NB = space("nasbench201", channels=4, cells=1, classes=4)
DARTS = space("darts", channels=4, cells=3, nodes=2, classes=4)
MACRO = space("nasbenchmacro", channels=4, classes=4)
SOME = ("darts", "random", "pdarts", "fairdarts", "dartspt", "cdarts")
FEW = {"rsws": {"samples": 5, "finalists": 2}}  # of 100 and 10
WORTH = {"skip_connect": 1.0, "nor_conv_1x1": 4.0, "nor_conv_3x3": 9.0, "avg_pool_3x3": 2.0}


def macs(base=NB) -> Cost:
    if base is NB:
        return by_primitive("macs", NB.groups, WORTH, base=10.0)
    names = sorted(
        {p for g in base.groups.values() for e in g.edges for p in e.primitives} - {"none"}
    )
    return by_primitive(
        "macs", base.groups, {name: 1.0 + k for k, name in enumerate(names)}, base=10.0
    )


def limited(share, base=NB) -> Limit:
    cost = macs(base)
    low, high = (
        cost.sum_over_ops(cheapest(cost, base.groups)),
        cost.sum_over_ops(most_expensive(cost, base.groups)),
    )
    return Limit(cost, low + share * (high - low))


@pytest.mark.parametrize(
    ("name", "base", "share"),
    [
        *((name, NB, 0.1) for name in METHODS),
        *((name, DARTS, 0.05) for name in SOME),
        *((name, MACRO, 0.1) for name in SOME),
    ],
)
def test_every_method_keeps_to_its_budget(name, base, share):
    """At every epoch and at the end, though almost nothing fits."""
    limit, record = limited(share, base), Record()
    found = run(
        method(name, base, budget=budget((limit,)), **FEW.get(name, {})),
        [record],
        data=Noise(per_epoch=1),
    )
    assert limit.allows(found.genotype) and all(row["macs"] <= limit.bound for row in record.rows)


def test_a_budget_that_excludes_nothing_changes_no_selection_and_no_step():
    loose = Limit(macs(), 1e9)
    free, bound = run(method("darts", NB)), run(method("darts", NB, budget=budget((loose,))))
    assert free.genotype == bound.genotype
    assert (
        same(free.state.alphas, bound.state.alphas)
        and bound.state.memory["budget"].multipliers.item() == 0
    )


@pytest.mark.parametrize("name", ["darts", "gdas", "cdarts"])
def test_multipliers_resume_bit_for_bit(name, tmp_path):
    m = method(
        name,
        NB,
        budget=budget((limited(0.05), Limit(Cost("params", "", 1.0, macs().ops), 12.0)), rate=3.0),
        alphas={"lr": 0.05},
    )
    saves = Saves([("step", 1, 2), ("epoch", 3, 0)], tmp_path)
    found = run(m, [saves])
    assert any(found.state.memory["budget"].multipliers > 0)
    for path in saves.files.values():
        again, _ = gone_on(m, path)
        assert (
            same(checkpoint.pack(m, again.state), checkpoint.pack(m, found.state))
            and again.genotype == found.genotype
        )


def test_the_alphas_come_to_ask_for_what_the_budget_allows():
    """The multipliers alone move the alphas to the budget, and not to the smallest network, although the mixture stays flat."""
    limit, record = limited(0.15), Record()
    run(
        method("darts", NB, budget=budget((limit,), rate=1.0), alphas={"lr": 0.1, "decay": 0.0}),
        [record],
        epochs=12,
    )
    asked = [row["macs_free"] for row in record.rows]
    assert (
        asked[0] > limit.bound
        and asked[-1] <= limit.bound
        and max(row["macs_multiplier"] for row in record.rows) > 0
    )
    assert asked[-1] > (limit.bound + limit.cost.sum_over_ops(cheapest(limit.cost, NB.groups))) / 2
    assert record.rows[-1]["macs_expected"] < record.rows[0]["macs_expected"]


def forward(weights, multipliers, phase="alpha"):
    t = Progress(0, 0, 4, 5, 0, 4)
    context = Context(NB.groups, t, phase, {"budget": SimpleNamespace(multipliers=multipliers)}, 0)
    return Forward({}, Mixture({"cell": weights}), None, None, None, context, None)


def test_the_penalty_is_its_formula_and_its_gradient_that_of_finite_differences():
    limits = (limited(0.05), limited(0.9))
    weights = (
        torch.rand(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        .softmax(1)
        .requires_grad_()
    )
    m, term = torch.tensor([0.7, 0.2], dtype=torch.float64), penalty(limits)
    shares = [
        float(expected(limit.cost, Mixture({"cell": weights.detach()}), NB.groups)) / limit.bound
        for limit in limits
    ]
    assert term(forward(weights, m)).item() == pytest.approx(
        0.7 * shares[0] + 0.2 * shares[1], rel=1e-12
    )
    assert torch.autograd.gradcheck(lambda w: term(forward(w, m)), (weights,), eps=1e-6, atol=1e-9)


def test_multipliers_follow_what_would_be_selected_without_a_budget_and_never_fall_below_zero():
    cost = macs()
    limits = (limited(0.5), limited(0.95))
    mixture = Mixture(
        {"cell": torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.0]]).expand(6, 5)}
    )  # asks for the dearest op everywhere, though flat
    memory, free = Multipliers(limits, rate=0.02), most_expensive(cost, NB.groups)
    over = torch.tensor([cost.sum_over_ops(free) / limit.bound - 1 for limit in limits])
    m = SimpleNamespace(
        readout=lambda state: mixture, selected_genotype=lambda state, limits: strongest_genotype(mixture, NB.groups, limits),
        genotype=lambda state: cheapest(cost, NB.groups), moves_alphas=lambda state: state,
    )  # fmt: skip
    context = forward(mixture.weights["cell"], memory.multipliers).context
    row = memory.after_epoch(m, True, None, context)
    assert torch.allclose(memory.multipliers, 0.02 * over) and (over > 0).all()
    assert row["macs_free"] == cost.sum_over_ops(free) and row["macs"] == cost.sum_over_ops(
        cheapest(cost, NB.groups)
    )
    before = memory.multipliers.clone()
    memory.after_epoch(m, False, None, context)  # alphas that rest drive nothing up
    assert torch.equal(memory.multipliers, before)
    mixture = Mixture({"cell": mixture.weights["cell"].flip(1)})  # asks for what is cheap
    memory.multipliers = torch.tensor([1.0, 0.0])
    memory.after_epoch(m, True, None, context)  # down faster than up: nothing drives on what is met
    low = cost.sum_over_ops(strongest_genotype(mixture, NB.groups)) / limits[0].bound - 1
    assert low < 0 and torch.allclose(
        memory.multipliers, torch.tensor([1 + 20 * 0.02 * low, 0.0]).clamp(min=0)
    )


def test_a_cold_softmax_keeps_the_order_of_what_it_leaves_at_0():
    """In float32 the mixture is one-hot; what replaces its op under a budget is the next best all the same, not any that fits."""
    cost = costs(MACRO, 8)["macs"]
    m = method("stdarts", MACRO, stdarts={"temperature": "constant", "hot": 4e-3})
    state = m.start(seed=0, epochs=2, steps=2)
    worth = {"mb6_k5": 1.0, "mb3_k3": 0.2, "skip_connect": 0.0}
    state.alphas = {
        name: torch.tensor([[worth[p] for p in edge.primitives] for edge in group.edges])
        for name, group in MACRO.groups.items()
    }
    assert all(int((rows > 0).sum()) == 1 for rows in m.readout(state).weights.values())
    found = m.selected_genotype(
        state, (Limit(cost, cost.sum_over_ops(most_expensive(cost, MACRO.groups)) - 1),)
    )
    assert sorted(cell.links[0].primitive for cell in found.cells) == ["mb3_k3"] + 7 * ["mb6_k5"]


def test_what_a_stage_leaves_has_a_selection_with_all_its_links():
    """FairDARTS's own, cut down by its threshold, may fit where no whole one is left."""
    cost = costs(DARTS, 8)["params"]
    low, high = (cost.sum_over_ops(one(cost, DARTS.groups)) for one in (cheapest, most_expensive))
    limit = Limit(cost, low + 0.05 * (high - low))
    m = method("fairdarts+progressive", DARTS, budget=budget((limit,)))
    state = m.start(seed=0, epochs=4, steps=3)
    for name, group in DARTS.groups.items():
        state.alphas[name] = torch.tensor(
            [[1.0 if "conv" in p else -1.0 for p in edge.primitives] for edge in group.edges]
        )
        state.alphas[name][0, group.edges[0].primitives.index("skip_connect")] = 3.0
    left = DARTS.resized(primitives=survivors(m, state, 2)).groups
    assert is_feasible(left, (limit,)) and limit.allows(m.selected_genotype(state))


def test_a_larger_budget_from_the_same_alphas_never_has_a_smaller_score():
    from archgrad.components.select import score

    m = method("darts", NB, alphas={"lr": 0.1})
    state = run(m).state
    mixture, last = m.readout(state), -float("inf")
    for share in (0.0, 0.05, 0.1, 0.3, 0.6, 1.0):
        now = score(m.select(mixture, NB.groups, (limited(share),)), mixture, NB.groups)
        assert now >= last
        last = now
