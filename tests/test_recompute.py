"""Activation checkpointing of cells: the same numbers with less kept."""

from __future__ import annotations

import pytest

from archgrad import checkpoint
from archgrad.hypergradient import finite_differences, second_order
from archgrad.loop import search
from archgrad.methods import METHODS, method
from archgrad.patch import Patch
from archgrad.search_method import Method
from archgrad.spaces import space
from searching import DATA, Record, same

SPACES = {
    "nasbench201": {"channels": 4, "cells": 2, "classes": 4},
    "darts": {"channels": 4, "cells": 3, "nodes": 2, "classes": 4},
    "s4": {"channels": 2, "cells": 3, "classes": 4},
    "nasbenchmacro": {"channels": 2, "classes": 4},
    "mbconv": {"channels": 4, "classes": 4, "stages": ((8, 2, 1), (8, 2, 2), (16, 1, 2)), "kernels": (3, 5), "expansions": (1,)},
}


def searched(m: Method, recompute: str, epochs: int = 2):
    record = Record()
    found = search(m, DATA, epochs, seed=1, observers=[record], recompute=recompute)
    return record.rows, checkpoint.pack(m, found.state)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("hypergradient", [None, second_order, finite_differences], ids=["first", "second", "differences"])
def test_a_search_is_the_same_bit_for_bit(name, hypergradient):
    m = Method(Patch("darts", hypergradient=hypergradient), space(name, **SPACES[name]))
    rows, whole = searched(m, "none")
    again, recomputed = searched(m, "cells")
    assert again == rows
    assert same(recomputed, whole)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_searches_the_same(name):
    m = method(name, space("nasbench201", channels=4, cells=1, classes=4))
    assert same(searched(m, "cells", 4), searched(m, "none", 4))
