"""A memory's table goes along through a stage, column by column."""

from __future__ import annotations

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup, groups_of
from archgrad.methods import method
from archgrad.searching.carry import carried
from archgrad.searching.loop import search
from archgrad.searching.patch import Patch
from archgrad.spaces import space
from fakes import Noise

OLD = groups_of([EdgeGroup("cell", (Edge(0, 1, ("a", "b", "c")), Edge(0, 2, ("a", "b", "c"))))])
NEW = groups_of([EdgeGroup("cell", (Edge(0, 1, ("c", "a")), Edge(0, 2, ("b",))))])


def test_columns_of_primitives_that_stay_are_carried():
    table = {"cell": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])}
    found = carried(OLD, NEW, table)
    assert found["cell"].tolist() == [[3.0, 1.0], [5.0, 0.0]]
    found["cell"].zero_()
    assert table["cell"].sum() == 21
    whole = carried(
        OLD, NEW, {"cell": torch.stack([table["cell"], 10 * table["cell"]])}
    )  # (cells, edges, ops)
    assert whole["cell"][1].tolist() == [[30.0, 10.0], [50.0, 0.0]]
    assert carried(OLD, OLD, table)["cell"].tolist() == table["cell"].tolist()
    assert carried(OLD, NEW, {"cell/edge": torch.tensor([7.0, 8.0])})["cell/edge"].tolist() == [
        7.0,
        8.0,
    ]


def test_what_the_old_space_had_not_is_refused():
    table = {"cell": torch.zeros(2, 2)}
    with pytest.raises(
        ValueError,
        match="cell: the space that begins has edges or primitives the one before had not",
    ):
        carried(NEW, OLD, table)
    with pytest.raises(ValueError, match="the table has 'other'"):
        carried(OLD, NEW, {"other": torch.zeros(2, 3)})


class Wins:
    """How often each op of an edge was the strongest: a memory as a user writes it."""

    def __init__(self):
        self.groups, self.table = None, {}

    def bind(self, state):
        if self.groups is None:
            self.table = {
                name: torch.zeros(len(group.edges), group.width)
                for name, group in state.space.groups.items()
            }
        else:
            self.table = carried(self.groups, state.space.groups, self.table)
        self.groups = state.space.groups

    def size(self):
        return 0

    def after_step(self, forward):
        if forward.context.phase == "alpha":
            for name, rows in self.table.items():
                best = forward.mixture.weights[name].argmax(-1)
                rows[torch.arange(len(rows)), best] += 1

    def after_epoch(self, method, state, data, context):
        return {"wins": sum(float(rows.sum()) for rows in self.table.values())}

    def state_dict(self):
        return {"table": self.table}

    def load_state_dict(self, saved):
        self.table = saved["table"]


def test_a_memory_goes_through_the_stages_of_a_search():
    small = space("nasbench201", channels=4, cells=1, classes=4)
    made = method(
        "progressive",
        small,
        patches=[Patch("wins", memory={"wins": Wins})],
        partial=(2, 1),
        keep=(3,),
        rest=0,
    )
    found = search(made, Noise(), 4)
    table, group = found.state.memory["wins"].table["cell"], found.state.space.groups["cell"]
    assert table.shape == (6, group.width) == (6, 3) and 0 < table.sum() <= 6 * 12
