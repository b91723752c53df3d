"""Three budgets in each space that has a table, by brute force over all of it, and in mbconv: met exactly, with the best score there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgrad.arch.mixture import Mixture
from archgrad.components.select import log_weights, score, strongest_genotype
from archgrad.cost.counting import costs, count
from archgrad.cost.limits import Limit, cheapest, most_expensive
from archgrad.spaces import space
from archgrad.tabular import nasbench201, nasbenchmacro


def mixture_of(groups, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return Mixture(
        {
            name: (2 * torch.randn(len(g.edges), g.width, generator=rng)).softmax(1)
            for name, g in groups.items()
        }
    )


def digits(name):
    """(networks, choices): the column each network takes on every edge, all networks of a table."""
    if name == "nasbench201":
        return nasbench201.table().ops
    return np.arange(3**8)[:, None] // 3 ** np.arange(7, -1, -1) % 3


@pytest.mark.parametrize(
    ("name", "table"), [("nasbench201", nasbench201), ("nasbenchmacro", nasbenchmacro)]
)
@pytest.mark.parametrize("bounded", ["macs", "params"])
def test_the_best_of_the_whole_table(name, table, bounded):
    base = space(name)
    mixture, cost = mixture_of(base.groups), costs(base, 32)[bounded]
    rows = torch.cat(list(log_weights(mixture, base.groups).values())).numpy()
    scores = rows[np.arange(rows.shape[0]), digits(name)].sum(1)
    spent, last = getattr(table.table(), bounded), -np.inf
    for share in (0.2, 0.4, 0.7):
        limit = Limit(cost, float(spent.min() + share * (spent.max() - spent.min())))
        found = strongest_genotype(mixture, base.groups, (limit,))
        exact = count(base.derive(found), 32)[bounded]
        assert exact <= limit.bound
        assert exact == pytest.approx(
            table.query(found)[bounded], abs=501
        )  # NAS-Bench-201's table rounds MACs to thousands
        reached = score(found, mixture, base.groups)
        assert (
            reached == pytest.approx(scores[spent <= limit.bound].max(), abs=1e-6)
            and reached >= last
        )
        last = reached


@pytest.mark.parametrize("device", ["pixel3", "1080ti_32"])
def test_a_devices_own_numbers_in_the_order_of_scores(device):
    """Exact over the table, though they are no sum of ops; FairDARTS, which leaves ops out afterwards, too."""
    from archgrad.methods.fairdarts import select_above
    from archgrad.tabular.nasbench201_latency import cost

    base, known = space("nasbench201"), cost(device)
    mixture, table = mixture_of(base.groups, 5), nasbench201.table()
    spent = np.array([known.value_of(table.genotype(index)) for index in range(0, len(table), 5)])
    rows = log_weights(mixture, base.groups)["cell"].numpy()
    scores = rows[np.arange(6), table.ops[::5]].sum(1)
    for share in (0.001, 0.05, 0.5):
        limit = Limit(known, float(np.quantile(spent, share)))
        found = strongest_genotype(mixture, base.groups, (limit,))
        assert (
            known.value_of(found) <= limit.bound
            and known.value_of(select_above(0.3)(mixture, base.groups, (limit,))) <= limit.bound
        )
        assert score(found, mixture, base.groups) >= scores[spent <= limit.bound].max() - 1e-9


def test_both_at_once_in_the_macro_space():
    base = space("nasbenchmacro")
    mixture, both, rows = mixture_of(base.groups, 3), costs(base, 32), nasbenchmacro.table()
    limits = (Limit(both["macs"], 45e6), Limit(both["params"], 1.2e6))
    weights = torch.cat(list(log_weights(mixture, base.groups).values())).numpy()
    scores = weights[np.arange(8), digits("nasbenchmacro")].sum(1)
    within = (rows.macs <= 45e6) & (rows.params <= 1.2e6)
    assert score(
        strongest_genotype(mixture, base.groups, limits), mixture, base.groups
    ) == pytest.approx(scores[within].max(), abs=1e-6)


def test_three_budgets_of_the_published_width_in_mbconv():
    base = space("mbconv", stem="imagenet", classes=1000)
    cost, mixture = costs(base, 224)["macs"], mixture_of(base.groups, 1)
    low, high = (
        cost.sum_over_ops(one)
        for one in (cheapest(cost, base.groups), most_expensive(cost, base.groups))
    )
    last = -float("inf")
    for bound in (200e6, 300e6, 400e6):
        assert low < bound < high
        found = strongest_genotype(mixture, base.groups, (Limit(cost, bound),))
        assert count(base.derive(found), 224)["macs"] <= bound
        reached = score(found, mixture, base.groups)
        assert reached >= last
        last = reached


def test_the_best_of_a_table_within_bounds():
    for table in (nasbench201, nasbenchmacro):
        rows = table.table()
        accuracy = rows.accuracy if table is nasbenchmacro else rows.accuracy["cifar10_test"]
        bounds = {
            "macs": float(np.median(rows.macs)),
            "params": float(np.quantile(rows.params, 0.3)),
        }
        within = (rows.macs <= bounds["macs"]) & (rows.params <= bounds["params"])
        top = table.best(bounds)
        assert table.query(top)["cifar10_test"] == pytest.approx(accuracy[within].max(), abs=1e-3)
        assert table.best({"macs": 1.0}) is None and table.best({}) is not None
        found, _, best = table.verdict(top, bounds)
        assert best["cell"].startswith("best with macs=") and best["rank"] == found["rank"]
