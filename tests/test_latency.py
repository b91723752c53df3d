"""Latency: with multiply-adds for a clock the whole measurement is exact; files answer only for what they were measured on."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

import archgrad
from archgrad import latency, spaces
from archgrad.arch.genotype import Genotype
from archgrad.components.select import uniform_genotype
from archgrad.cost.cost import Cost
from archgrad.cost.counting import _Flops, costs
from archgrad.latency import measuring, timing
from archgrad.latency.profile import MeasuredNetwork, Profile
from archgrad.spaces.nasbench201 import ENDS, FIVE


def by_macs(call, device, threads, seconds):
    with _Flops() as counter:
        call()
    return counter.flops / 2 / 1e6


@pytest.fixture
def wanted():
    return latency.setting(spaces.space("nasbench201"), 16, channels=4, cells=1, threads=1)


def profile(wanted) -> Profile:
    ops = {"cell": {(s, t, k): 0.25 * i for s, t in ENDS for i, k in enumerate(FIVE)}}
    genotype = uniform_genotype(spaces.space("nasbench201").groups, 1)
    return Profile(
        wanted, ops, 2.0, 1.5, 0.99, 0.03, (MeasuredNetwork(genotype, 3.0, 6.5),), "2025-01-01"
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [("nasbench201", {"channels": 4, "cells": 1}), ("darts", {"channels": 4, "cells": 3})],
)
def test_with_multiply_adds_for_a_clock_the_measurement_is_exact(name, options, monkeypatch):
    monkeypatch.setattr(measuring, "milliseconds", by_macs)
    made, told = spaces.space(name, in_channels=2), []
    found = latency.measure(
        made,
        latency.setting(made, 16, threads=1, **options),
        nets=10,
        tick=lambda *said: told.append(said),
    )
    macs = costs(made, 16, **options)["macs"]
    assert found.scale == pytest.approx(1) and found.r2 == pytest.approx(1) and found.worst < 1e-6
    for place in range(3):
        genotype = uniform_genotype(made.groups, place)
        assert found.cost().value_of(genotype) == pytest.approx(macs.value_of(genotype) / 1e6)
    assert told[-1] == ("networks", 150, 150) and {what for what, *_ in told} == {"ops", "networks"}
    assert len([what for what, *_ in told if what == "ops"]) < sum(
        len(ops) * made.groups[group].cells for group, ops in found.ops.items()
    )


def test_networks_take_turns_and_the_median_of_their_rounds_counts(wanted, monkeypatch):
    monkeypatch.setattr(measuring, "ROUNDS", 5)
    order, times = [], iter([1.0, 10.0, 5.0, 10.0, 2.0, 10.0, 9.0, 30.0, 3.0, 30.0])
    monkeypatch.setattr(
        measuring,
        "milliseconds",
        lambda call, device, threads, seconds: (order.append(call()), next(times))[1],
    )
    made = spaces.space("nasbench201", channels=4, cells=1)
    genotypes = [uniform_genotype(made.groups, place) for place in (1, 2)]
    assert latency.measure_networks(
        [made.derive(genotype, **wanted.spec) for genotype in genotypes], wanted
    ) == [3.0, 10.0]
    assert torch.equal(order[0], order[2]) and not torch.equal(order[0], order[1])


def test_chosen_networks_span_the_range():
    groups = spaces.space("darts").groups
    ops = {
        n: {(e.source, e.target, k): float(i) for e in g.edges for i, k in enumerate(e.primitives)}
        for n, g in groups.items()
    }
    cost = Cost("c", "ms", 1.0, ops)
    found = [cost.sum_over_ops(genotype) for genotype in latency.choose_genotypes(cost, groups, 12)]
    assert len(set(found)) >= 11 and found == sorted(found)
    assert (found[0], found[-1]) == (1 + 16 * 1.0, 1 + 16 * 7.0)
    steps = torch.tensor(found[1:-1]).diff()
    assert steps.max() < 3 * steps.median()


def test_a_call_takes_as_long_as_it_takes_and_the_median_ignores_one_that_stalls():
    stalls = iter([0.0] * 3 + [0.05] + [0.0] * 10_000)

    def call():
        time.sleep(0.002 + next(stalls))

    assert 2 <= timing.milliseconds(call, "cpu", 2, 0.1) < 30


def test_on_one_thread_the_clock_is_the_process_own():
    began = time.process_time()
    assert timing.milliseconds(lambda: sum(range(100_000)), "cpu", 1, 0.02) > 0.1
    assert time.process_time() - began > 0.02
    calls = iter([0.001] * (3 + 4) + [0.0])
    assert (
        timing.milliseconds(
            lambda: (time.sleep(next(calls, 0.0)), sum(range(10_000))), "cpu", 1, 0.001
        )
        < 1
    )


def test_the_calibration_line_minimises_the_squared_relative_errors():
    x, y = [1.0, 2.0, 5.0, 9.0], [3.0, 4.0, 12.0, 17.0]
    base, scale = measuring.fit_line(x, y)

    def squares(base, scale):
        return sum(((base + scale * a - b) / b) ** 2 for a, b in zip(x, y))

    near = [squares(base + da, scale + db) for da in (-0.01, 0, 0.01) for db in (-0.01, 0, 0.01)]
    assert squares(base, scale) == min(near) and sorted(near)[1] > min(near)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's allocator"
)
def test_memory_that_a_call_frees_is_there_for_the_next():
    """In a process of its own: what was freed before decides where memory comes from."""
    script = """if True:
        import resource, torch
        from archgrad.latency import timing
        timing.keep_memory()
        faults = []
        for _ in range(8):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            [torch.ones(1 << 18) for _ in range(20)]
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        print(sum(faults[4:]))"""
    faults = int(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
    )
    assert (
        faults < 2048
    )  # of 4 * 20 * 256 pages, nearly all of which glibc's defaults ask for again


def test_threads_are_those_asked_for_inside_and_as_before_outside():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), timing.threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_a_latency_file_reads_back_as_it_was_measured(wanted, tmp_path):
    found = profile(wanted)
    latency.write(found, tmp_path / "deep" / "a.json")
    assert latency.read(tmp_path / "deep" / "a.json", wanted) == found
    genotype = Genotype.parse(
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
    )
    assert found.cost().value_of(genotype) == pytest.approx(2 + 1.5 * 0.25 * (3 + 1 + 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hardware": "Cray-1"}, "was measured with another device, '.*', not 'Cray-1'"),
        ({"torch": "1.0"}, "another torch, '.*', not '1.0'"),
        ({"threads": 64}, "another threads, 1, not 64"),
        ({"space": "darts"}, "another space, 'nasbench201', not 'darts'"),
        ({"size": 224}, "another image size, 16, not 224"),
        ({"batch": 8}, "not 8: measure again with `archgrad latency --space nasbench201 --size 16 --channels 4 --cells 1 .*--batch 8"),
        ({"spec": {"channels": 9}}, "another options of the space, .*'channels': 4"),
    ],
)  # fmt: skip
def test_a_file_of_another_setting_is_refused_by_name(change, message, wanted, tmp_path):
    latency.write(profile(wanted), tmp_path / "a.json")
    with pytest.raises(ValueError, match=message):
        latency.read(tmp_path / "a.json", replace(wanted, **change))


def test_files_are_found_by_their_setting(wanted, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(
        ValueError,
        match=r"no latency of these networks was measured on .* yet: measure it with `archgrad latency --space nasbench201",
    ):
        latency.find(wanted)
    latency.write(profile(wanted), latency.default_file(wanted))
    assert latency.find(wanted).base == 2.0 and latency.default_file(
        wanted
    ) != latency.default_file(replace(wanted, batch=2))


def test_a_file_that_is_no_latency_table_is_refused(wanted, tmp_path):
    for text in ("{", "[]", json.dumps({"ops": {}})):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=r"a\.json is no latency file: write one with"):
            latency.read(tmp_path / "a.json", wanted)


def test_too_few_networks_and_sums_that_say_nothing_are_refused(wanted, monkeypatch):
    made = spaces.space("nasbench201")
    with pytest.raises(
        ValueError, match="nets must be at least 10, because a line is fitted to them, not 9"
    ):
        latency.measure(made, wanted, nets=9)
    monkeypatch.setattr(measuring, "milliseconds", by_macs)
    monkeypatch.setattr(
        measuring,
        "measure_networks",
        lambda networks, wanted, **_: [20.0 - i for i, _ in enumerate(networks)],
    )
    with pytest.raises(ValueError, match="measure again while nothing else runs"):
        latency.measure(made, wanted, nets=10)
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        latency.setting(made, 16, threads=0)


class Scaled(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(8, width)
        self.outer = torch.nn.Linear(width, 8)

    def forward(self, x, places, *, scale):
        return scale * self.outer(self.inner(x))[:, places]


class Sequence(torch.nn.Module):
    """It reads a sequence (B, 4, 8), calls its choice twice, and gives it a named argument."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = archgrad.Choice({"two": Scaled(2), "six": Scaled(6)})
        self.head = torch.nn.Linear(8, 10)

    def forward(self, x):
        x = x.reshape(len(x), 4, 8)
        for _ in range(2):
            x = self.wide(x, torch.arange(4), scale=0.5)
        return self.head(x.mean(1))


def test_ops_of_any_call_are_measured_and_a_small_space_has_fewer_networks(monkeypatch):
    monkeypatch.setattr(measuring, "milliseconds", by_macs)
    made = archgrad.module_space(Sequence, in_channels=2, size=4)
    found = latency.measure(made, latency.setting(made, 4, threads=1), nets=10)
    macs = {name: 2 * 4 * 2 * 8 * width / 1e6 for name, width in (("two", 2), ("six", 6))}
    assert found.ops == {"wide": {(0, 1, name): pytest.approx(one) for name, one in macs.items()}}
    assert len(found.nets) == 2 and found.base == pytest.approx(8 * 10 / 1e6)
