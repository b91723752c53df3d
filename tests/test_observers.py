from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest
import torch

import archgrad
from archgrad.observers.interrupts import Interrupted, stop_requests
from archgrad.observers.probes import Curvature
from archgrad.observers.recording import Checkpoints, InterruptibleData, Metrics
from archgrad.searching import checkpoint
from archgrad.searching.checks import check_observers
from archgrad.searching.loop import search
from archgrad.searching.observer import Observer
from archgrad.searching.types import Memory
from archgrad.storage.records import read_measured
from fakes import Noise
from watching import Several, assert_equal, trace


def method(name="darts", **options):
    return archgrad.method(
        name, archgrad.space("nasbench201", channels=2, cells=1, classes=4), **options
    )


def test_metrics_lines_newer_than_the_checkpoint_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2}\n{"epo'
    )  # the last line was cut by a kill
    assert [row["epoch"] for row in read_measured(path)] == [0, 1, 2]
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
        watchers = [
            Asks(),
            Checkpoints(path, stopping=stopping, resume_command="archgrad resume x"),
        ]
        with pytest.raises(Interrupted, match=r"stopped at epoch 2, step 2.*archgrad resume x"):
            search(m, Noise(), 3, observers=watchers)
    assert signal.getsignal(signal.SIGINT) is before
    state = checkpoint.restore(m, checkpoint.read(path))
    assert (state.epoch, state.step) == (1, 2)


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
    with pytest.raises(
        ValueError, match="planned for 2 epochs of 3 steps and cannot go on with 4 of 3"
    ):
        search(m, Noise(), 4, state=checkpoint.restore(m, checkpoint.read(path)))
    assert not list(tmp_path.glob("*.part"))


class Asked:
    """A request to stop that is made at a moment of its own."""

    def __init__(self):
        self.now = False

    def __call__(self):
        return self.now


def test_a_measurement_ends_within_a_batch_and_is_done_again_on_resume(tmp_path):
    """Asked to stop in the middle of the draw's evaluation: the last step is saved, and the resumed search is the undisturbed one."""
    m, path, asked = method("random", draws=2), tmp_path / "checkpoint.pt", Asked()

    class Broken(Several):
        def evaluation(self, split, batch=256, limit=None):
            for k, found in enumerate(super().evaluation(split, batch, limit)):
                asked.now = k == 1
                seen.append(k)
                yield found

    seen = []
    saves = Checkpoints(path, seconds=0, stopping=asked, resume_command="archgrad resume x")
    with pytest.raises(
        Interrupted,
        match=r"^stopped after the steps of epoch 1; all earlier work is saved\. Go on with: archgrad resume x$",
    ):
        search(
            m,
            InterruptibleData(Broken(), saves.before_measuring, saves.before_tuning),
            2,
            observers=[saves],
        )
    assert seen == [0, 1]  # of three batches
    state = checkpoint.restore(m, checkpoint.read(path))
    assert (state.epoch, state.step) == (0, 3)
    again, whole = search(m, Several(), 2, state=state), search(m, Several(), 2)
    assert_equal(
        trace(again.state, again.state.nets["search"]),
        trace(whole.state, whole.state.nets["search"]),
    )
    assert again.genotype == whole.genotype


@pytest.mark.parametrize("name, options, reading", [
    ("rsws", {"samples": 20, "images": 8, "finalists": 2}, "evaluation"),
    ("dartspt", {"tune": 1}, "evaluation"),
    ("dartspt", {"tune": 1}, "batches"),
])  # fmt: skip
def test_a_finalisation_ends_within_a_batch_and_goes_on_from_its_last_decision(
    tmp_path, name, options, reading
):
    m, path, asked = method(name, **options), tmp_path / "checkpoint.pt", Asked()

    @dataclass(frozen=True)
    class Broken(Noise):
        def after(self, epoch, found):
            read.append(epoch)
            asked.now = len(read) == 4
            return found

        def evaluation(self, split, batch=256, limit=None):
            for found in super().evaluation(split, batch, limit):
                yield self.after(2, found) if reading == "evaluation" else found

        def batches(self, split, epoch, start=0, steps=None):
            for found in super().batches(split, epoch, start, steps):
                yield self.after(epoch, found) if reading == "batches" and epoch >= 2 else found

    read = []
    saves = Checkpoints(path, stopping=asked)
    with pytest.raises(Interrupted, match=r"after the steps of epoch 2|after decision"):
        search(
            m,
            InterruptibleData(Broken(), saves.before_measuring, saves.before_tuning),
            2,
            observers=[saves],
        )
    assert len(read) == 4
    state = checkpoint.restore(m, checkpoint.read(path))
    again, whole = search(m, Noise(), 2, state=state), search(m, Noise(), 2)
    assert_equal(
        trace(again.state, again.state.nets["search"]),
        trace(whole.state, whole.state.nets["search"]),
    )
    assert again.genotype == whole.genotype and again.state.decisions == whole.state.decisions


def test_a_request_between_two_steps_is_heard_by_the_step_that_saves(tmp_path):
    """Reading a batch for a step must not stop the search: the steps since the last checkpoint would be lost."""
    m, path, asked = method(), tmp_path / "checkpoint.pt", Asked()

    class Asks:
        def on_step(self, method, state, values):
            asked.now = (state.epoch, state.step) == (1, 1)

        def on_epoch(self, *_): ...
        def on_decision(self, *_): ...

    saves = Checkpoints(path, stopping=asked)
    with pytest.raises(Interrupted, match="stopped at epoch 2, step 2; everything is saved"):
        search(
            m,
            InterruptibleData(Noise(), saves.before_measuring, saves.before_tuning),
            3,
            observers=[saves, Asks()],
        )
    assert checkpoint.read(path)["step"] == 2


def test_the_last_step_of_an_epoch_is_saved_where_the_checkpoint_is_older_than_a_tenth(
    tmp_path, monkeypatch
):
    m, now, saved = method(), [0.0], []
    monkeypatch.setattr("archgrad.observers.recording.monotonic", lambda: now[0])
    monkeypatch.setattr(
        checkpoint, "save", lambda path, content: saved.append((content["epoch"], content["step"]))
    )

    class Clock:
        def on_step(self, *_):
            now[0] += 1

        def on_epoch(self, *_): ...
        def on_decision(self, *_): ...

    search(m, Noise(per_epoch=4), 1, observers=[Clock(), Checkpoints(tmp_path / "c", seconds=30)])
    assert saved == [(0, 4), (1, 0)]
    saved.clear()
    search(m, Noise(per_epoch=4), 1, observers=[Clock(), Checkpoints(tmp_path / "c", seconds=60)])
    assert saved == [(1, 0)]


def test_a_curvature_ends_within_a_product():
    """Of one batch it makes as many products as there are alphas, and more."""
    m, products = method(), []

    def between():
        products.append(len(products))
        if len(products) == 4:
            raise Interrupted("now")

    with pytest.raises(Interrupted, match="now"):
        search(m, Noise(), 1, observers=[Curvature(before_product=between)])
    assert len(products) == 4
    search(m, Noise(), 1, observers=[Curvature(before_product=lambda: products.append(0))])
    assert len(products) > 4 + 10


def test_an_observer_that_inherits_writes_only_the_methods_it_needs():
    class Epochs(Observer):
        def __init__(self):
            self.seen = []

        def on_epoch(self, method, state, data, row):
            self.seen.append(row["epoch"])

    epochs = Epochs()
    assert check_observers(epochs) == (epochs,)
    search(method(), Noise(), 2, observers=epochs)
    assert epochs.seen == [0, 1]


def test_a_memory_that_inherits_writes_only_the_methods_it_needs():
    class Steps(Memory):
        def __init__(self):
            self.count = 0

        def after_step(self, forward):
            self.count += forward.context.phase == "weight"

    steps = Steps()
    patch = archgrad.Patch("steps", memory={"steps": lambda: steps})
    search(method(patches=[patch]), Noise(), 1)
    assert steps.count == 3
    assert (steps.size(), steps.state_dict()) == (0, {})
