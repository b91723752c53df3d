from __future__ import annotations

import os
import signal

import pytest
import torch

import archgrad
from archgrad import checkpoint
from archgrad.loop import search
from archgrad.observers import Checkpoints, Estimate, Interrupted, Metrics, ending, rows, stop_requests
from fakes import Noise


def method():
    return archgrad.method("darts", archgrad.space("nasbench201", channels=2, cells=1, classes=4))


def test_metrics_lines_newer_than_the_checkpoint_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2}\n{"epo')  # the last line was cut by a kill
    assert [row["epoch"] for row in rows(path)] == [0, 1, 2]
    Metrics(path, epoch=2)
    assert path.read_text() == '{"epoch": 0}\n{"epoch": 1}\n'


def test_a_stop_request_saves_after_the_step_and_says_how_to_go_on(tmp_path):
    m, path = method(), tmp_path / "checkpoint.pt"

    class Asks:
        def on_step(self, method, state, values):
            if (state.epoch, state.step) == (1, 2):
                os.kill(os.getpid(), signal.SIGTERM)

        def on_epoch(self, *_): ...
        def on_decision(self, *_): ...

    before = signal.getsignal(signal.SIGINT)
    with stop_requests() as stopping:
        watchers = [Asks(), Checkpoints(path, stopping=stopping, how="archgrad resume x")]
        with pytest.raises(Interrupted, match=r"stopped at epoch 2, step 2.*archgrad resume x"):
            search(m, Noise(), 3, observers=watchers)
    assert signal.getsignal(signal.SIGINT) is before
    state = checkpoint.restore(m, checkpoint.read(path))
    assert (state.epoch, state.step) == (1, 2)


def test_a_second_ctrl_c_stops_at_once():
    with pytest.raises(KeyboardInterrupt), stop_requests():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_the_end_is_estimated_once_after_ten_steps():
    said = []
    search(method(), Noise(per_epoch=6), 3, observers=[Estimate(said.append)])
    assert len(said) == 1 and "to go" in said[0]
    assert ending(90 * 60, "x").startswith("about 90 min to go (x), until ")
    assert ending(3 * 3600, "x").startswith("about 3.0 h to go")


def test_an_observer_may_stop_a_search_early_and_in_order():
    class Stops:
        def on_step(self, *_): ...

        def on_epoch(self, method, state, data, row):
            return {"stop": "seen enough"} if row["epoch"] == 1 else None

        def on_decision(self, *_): ...

    seen = []

    class Sees(Stops):
        def on_epoch(self, method, state, data, row):
            seen.append(row.get("stop"))

    found = search(method(), Noise(), 5, observers=[Stops(), Sees()])
    assert seen == [None, "seen enough"] and found.state.epoch == 2


def test_checkpoints_refuse_what_is_not_theirs(tmp_path):
    m, path = method(), tmp_path / "checkpoint.pt"
    with pytest.raises(ValueError, match="there is no checkpoint"):
        checkpoint.read(path)
    state = m.start(seed=0, epochs=2, steps=3)
    checkpoint.save(path, checkpoint.pack(m, state))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged and cannot be read"):
        checkpoint.read(path)
    torch.save({"version": 0}, path)
    with pytest.raises(ValueError, match="is not a checkpoint of this version"):
        checkpoint.read(path)
    path.write_bytes(whole)
    other = archgrad.method("random", archgrad.space("nasbench201", channels=2, cells=1, classes=4))
    with pytest.raises(ValueError, match="belongs to method 'darts', not 'random'"):
        checkpoint.restore(other, checkpoint.read(path))
    with pytest.raises(ValueError, match="planned for 2 epochs of 3 steps and cannot go on with 4 of 3"):
        search(m, Noise(), 4, state=checkpoint.restore(m, checkpoint.read(path)))
    assert not list(tmp_path.glob("*.part"))


def test_the_end_is_estimated_for_each_phase():
    """Short passes: their times add up from cycle to cycle."""
    said = []
    m = archgrad.method("cdarts", archgrad.space("nasbench201", channels=2, cells=1, classes=4), pretrain=1, joint=2)
    search(m, Noise(per_epoch=3), 4, observers=[Estimate(said.append, steps=3)])
    assert [line.split(", ")[1].split(")")[0] for line in said] == ["joint", "warm-up"]
