"""What only a GPU can show. `make gpu-check` requires one; elsewhere these tests are skipped."""

from __future__ import annotations

import os

import pytest
import torch

import archgrad
import searching
from archgrad.arch.passes import Batch
from archgrad.observers import probes
from archgrad.searching import checkpoint
from archgrad.searching.loop import search
from fakes import Noise
from searching import Record, resumed, same

if not torch.cuda.is_available():
    if os.environ.get("ARCHGRAD_GPU") == "required":
        pytest.fail("this machine has no CUDA GPU", pytrace=False)
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

SIZES = {
    "nasbench201": {"channels": 8, "cells": 1, "classes": 4},
    "darts": {"channels": 4, "cells": 3, "classes": 4},
}


class OnGpu(Noise):
    """The same noise, on the GPU."""

    def _at(self, *place):
        return Batch(*(value.cuda() for value in super()._at(*place)))


@pytest.fixture(autouse=True)
def deterministic():
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", SIZES)
def test_one_step_agrees_with_the_cpu(name):
    values = {}
    for device, data in (("cpu", Noise()), ("cuda", OnGpu())):
        method = archgrad.method("darts", archgrad.space(name, **SIZES[name]))
        state = method.start(seed=0, epochs=1, steps=3, device=device)
        method.begin_epoch(state)
        train, val = (next(data.batches(split, 0)) for split in ("train", "val"))
        values[device] = {
            key: value.item() for key, value in method.step(state, train, val).items()
        }
        values[device] |= {key: a.detach().cpu() for key, a in state.alphas.items()}
    for key, value in values["cpu"].items():
        torch.testing.assert_close(values["cuda"][key], value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("methods", ["stdarts+sddarts", "cdarts"])
def test_resumes_bit_for_bit_when_deterministic(methods, name, tmp_path, monkeypatch):
    def run(m, observers=(), state=None, *_, **__):
        return search(
            m, OnGpu(), searching.EPOCHS, seed=1, observers=observers, state=state, device="cuda"
        )

    monkeypatch.setattr(searching, "run", run)
    monkeypatch.setattr(
        checkpoint,
        "restore",
        lambda m, content, _restore=checkpoint.restore: _restore(m, content, "cuda"),
    )
    method = archgrad.method(methods, archgrad.space(name, **SIZES[name]))
    whole = Record()
    found = run(method, [whole])
    again, rows = resumed(method, ("step", 2, 1), tmp_path / "checkpoint.pt")
    assert rows == whole.rows and same(
        checkpoint.pack(method, again.state), checkpoint.pack(method, found.state)
    )


@pytest.mark.parametrize("name", SIZES)
def test_bf16_runs_and_alphas_stay_float32(name):
    method = archgrad.method(
        "cdarts+stdarts+sddarts",
        archgrad.space(name, **SIZES[name]),
        sddarts={"teachers": "remembered"},
    )
    watchers = [probes.Gap(every=1), probes.Sharpness(every=1, batch=8), probes.Entropies()]
    found = search(method, OnGpu(), 2, device="cuda", precision="bf16", observers=watchers)
    assert all(
        a.dtype == torch.float32 and torch.isfinite(a).all() for a in found.state.alphas.values()
    )
