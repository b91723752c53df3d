"""Threads by a rule: affinity, quotas of control groups, the size of feature maps; and OpenMP's threads that sleep while they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from archgrad import run
from archgrad.run import config, processors
from archgrad.run.processors import available, by_size, folders, quota, quotas, threads


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("200000 100000", 2.0),
        ("150000 100000", 1.5),
        ("max 100000", None),
        ("-1 100000", None),
        ("", None),
        ("x y", None),
        ("1 0", None),
    ],
)
def test_quota(text, worth):
    assert quota(text) == worth


def test_the_groups_whose_limits_hold():
    assert folders(["0::/user.slice/job"]) == ["user.slice/job", "user.slice", "."]
    assert folders(["4:memory:/m", "3:cpu,cpuacct:/docker/a", "garbage"]) == [
        "cpu,cpuacct/docker/a",
        "cpu,cpuacct/docker",
        "cpu,cpuacct",
        ".",
    ]
    assert folders(["5:cpuset:/x", "2:cpuacct:/x"]) == []


def system(root, cgroup: str, **files: str):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_quotas_of_version_2_hold_from_above(tmp_path):
    root = system(
        tmp_path,
        "0::/pod/app\n",
        pod__app__cpu_dot_max="max 100000",
        pod__cpu_dot_max="250000 100000",
    )
    assert quotas(root) == [2.5]


def test_quotas_of_version_1(tmp_path):
    files = {
        "cpu__docker__cpu_dot_cfs_quota_us": "50000",
        "cpu__docker__cpu_dot_cfs_period_us": "100000",
        "cpu__cpu_dot_cfs_quota_us": "-1",
    }
    assert quotas(system(tmp_path, "4:memory:/docker\n2:cpu:/docker\n", **files)) == [0.5]


def test_no_control_groups(tmp_path):
    assert quotas(tmp_path) == []


def test_available(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert available(tmp_path) == 8
    assert available(system(tmp_path, "0::/a\n", a__cpu_dot_max="350000 100000")) == 3
    (tmp_path / "sys/fs/cgroup/a/cpu.max").write_text("50000 100000\n")
    assert available(tmp_path) == 1


@pytest.mark.parametrize(
    ("values", "cpus", "taken"),
    [
        (64 * 16 * 32 * 32, 2, 2),  # the search of the DARTS paper
        (64 * 16 * 32 * 32, 64, 2),
        (16 * 16 * 32 * 32, 2, 1),  # two threads were slower there (docs/performance.md)
        (64 * 8 * 16 * 16, 64, 1),  # the small searches of docs/results.md
        (32 * 16 * 8 * 8, 2, 1),  # the digits
        (64 * 16 * 32 * 32, 1, 1),
    ],
)
def test_threads_follow_size_and_processors(values, cpus, taken):
    assert by_size(values, cpus) == taken


def test_omp_num_threads_of_the_environment_wins(monkeypatch):
    monkeypatch.setattr(processors, "available", lambda: 4)
    for told, taken in (("3", 3), ("3,2", 3), ("", 2), ("0", 2), ("many", 2)):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        assert threads(64, 16, 32) == taken
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads(64, 16, 32) == 2 and threads(2, 2, 8) == 1


@pytest.mark.parametrize(("told", "recorded"), [({}, 1), ({"threads": 2}, 2)])
def test_a_run_records_its_threads(told, recorded, monkeypatch):
    """The digits take one; a number that a run has recorded stays."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        settings = {
            "data": "digits",
            "space": {"channels": 2, "cells": 1},
            "search": {"epochs": 1, "limit": 60, "batch": 20},
            **told,
        }
        assert (
            run.prepare(config.read(("", settings)), lambda line: None).config.threads
            == recorded
            == torch.get_num_threads()
        )
    finally:
        torch.set_num_threads(before)


def displayed(**environment: str) -> str:
    """What the OpenMP runtime says of itself in a process of the command line."""
    code = "from archgrad.cli import main; main(['methods', '--help']); import torch; torch.ones(10).sum()"
    told = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    }
    told |= {"OMP_DISPLAY_ENV": "VERBOSE", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=told
    ).stderr.replace("[host] ", "")


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux alone")
def test_threads_that_wait_sleep_unless_the_user_says_otherwise():
    usual, active = displayed(), displayed(OMP_WAIT_POLICY="ACTIVE")
    if "GOMP_SPINCOUNT" not in usual:
        pytest.skip("another OpenMP runtime")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in usual and "GOMP_SPINCOUNT = '0'" in usual
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in active and "GOMP_SPINCOUNT = '0'" not in active
