"""The 27 devices: values of the source by hand, the fit by numpy, and what was dropped."""

from __future__ import annotations

import numpy as np
import pytest

from archgrad.arch.genotype import Genotype
from archgrad.spaces import space
from archgrad.tabular import nasbench201
from archgrad.tabular.nasbench201_latency import GROUPS, cost, devices, latency


def test_all_devices_and_values_of_the_source():
    assert (
        len(devices()) == 27
        and devices()[0] == "1080ti_1"
        and {"pixel3", "raspi4", "fpga", "titanxp_32"} <= set(devices())
    )
    first, second = nasbench201.table().genotype(0), nasbench201.table().genotype(1)
    assert [
        latency(device, first) for device in ("1080ti_1", "1080ti_256", "pixel3", "samsung_s7")
    ] == [10.75, 17.26, 3.606, 29.0]
    assert [latency(device, second) for device in ("raspi4", "fpga", "titanxp_32")] == [
        54.78,
        5.315,
        9.966,
    ]


def test_groups_are_those_of_the_space():
    ours, theirs = GROUPS["cell"], space("nasbench201").groups["cell"]
    assert {e[:2]: set(e.primitives) for e in ours.edges} == {
        e[:2]: set(e.primitives) for e in theirs.edges
    }
    assert (ours.keep, ours.hidden, ours.concat) == (theirs.keep, theirs.hidden, theirs.concat)


def test_a_cost_is_the_table_and_its_ops_are_the_least_squares():
    found = cost("1080ti_256")
    ops = nasbench201.table().ops
    values = np.array(
        [latency("1080ti_256", nasbench201.table().genotype(i)) for i in range(0, 15_625, 97)]
    )
    assert [
        found.value_of(nasbench201.table().genotype(i)) for i in range(0, 15_625, 97)
    ] == values.tolist()
    design = np.concatenate(
        [np.ones((len(ops), 1)), *((ops[:, [e]] == np.arange(1, 5)) for e in range(6))], 1
    )
    column = np.array(
        [latency("1080ti_256", nasbench201.table().genotype(i)) for i in range(15_625)]
    )
    solution = np.linalg.lstsq(design, column, rcond=None)[0]
    assert found.base == pytest.approx(solution[0])
    assert found.ops["cell"][0, 3, "nor_conv_3x3"] == pytest.approx(solution[1 + 4 * 3 + 2])
    assert (
        found.r2 == pytest.approx(1 - np.var(column - design @ solution) / np.var(column))
        and found.r2 > 0.99
    )


def test_a_cell_that_was_dropped_falls_back_to_the_fit():
    found = cost("raspi4")
    dropped = [
        i for i in range(15_625) if latency("raspi4", nasbench201.table().genotype(i)) is None
    ]
    assert len(dropped) == 276
    genotype = nasbench201.table().genotype(dropped[0])
    assert found.value_of(genotype) == found.sum_over_ops(genotype) > 1


def test_unknown_devices_and_other_cells_are_refused_by_name():
    with pytest.raises(
        ValueError,
        match="unknown device of the NAS-Bench-201 latencies 'pixel4': did you mean 'pixel",
    ):
        cost("pixel4")
    with pytest.raises(ValueError, match="has the one group 'cell'"):
        latency("pixel3", Genotype.parse("DARTS_V2"))
