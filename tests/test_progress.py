"""The estimate of a search whose parts take times made up, its lines, and signs of life; no real time in any of them."""

from __future__ import annotations

import io
from datetime import datetime
from fractions import Fraction

import pytest
from rich.console import Console

import archgrad
from archgrad.observers.probes import Curvature, Gap, Ranking, Sharpness, measurement_count
from archgrad.observers.timing import (
    Estimate,
    Timed,
    Timing,
    estimate_text,
    phase_runs,
    shorter_search_lines,
)
from archgrad.searching.compose import compose
from archgrad.searching.duration import KindEstimate, Remaining
from archgrad.searching.loop import search
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.progress import Bar, SignsOfLife, time_left_text
from archgrad.searching.types import Decision
from archgrad.storage.records import read_measured
from fakes import Noise


def space():
    return archgrad.space("nasbench201", channels=2, cells=1, classes=4)


class Watches:
    """A clock that search parts move: a step by 1 s, a measurement by 10, each of two decisions by 10."""

    name = "discretisation gap"

    def __init__(self, each=1.0):
        self.now, self.each = 0.0, each

    def clock(self):
        return self.now

    def on_step(self, *_):
        self.now += self.each

    def interval(self, epochs):
        return Fraction(epochs, 5)

    def passes(self, state):
        return 24.0

    def on_epoch(self, method, state, data, row):
        if (state.epoch * 5) % state.plan.epochs == 0:
            self.now += 10
            return {"gap_accuracy": 0.0}
        return None

    def on_decision(self, *_): ...

    def finalise(self, method, state, data, decisions):
        for k in range(len(decisions), 2):
            self.now += 10
            yield Decision(method.selected_genotype(state), {"k": k})

    def patch(self):
        ahead = {"finalisation": lambda method, state: 100.0 * (2 - len(state.decisions))}
        return Patch("slow", finalise=self.finalise, ahead=ahead)


class Sees:
    def __init__(self, look):
        self.look, self.seen = look, []

    def on_step(self, method, state, values):
        self.seen.append(self.look(state))

    def on_epoch(self, method, state, data, row):
        self.seen.append(self.look(state))

    def on_decision(self, method, state, decision):
        self.seen.append(self.look(state))


def test_the_time_left_is_right_at_each_point():
    """Ten epochs of three steps of 1 s, a gap of 10 s after every second, a finalisation of 20 s: from the first measurement on the
    remaining time is exact but for the finalisation, which is guessed by the gap's passes until it was seen."""
    watches = Watches()
    m = Method(compose(archgrad.method("darts", space()).patch, watches.patch()), space())
    state = m.start(seed=0, epochs=10, steps=3, images=(24, 24))
    timing = Timing(m, state, [watches], clock=watches.clock)
    timed = Timed(watches, timing, SignsOfLife(None, clock=watches.clock))
    watch = Sees(lambda state: timing.remaining(state).seconds)
    search(m, Noise(), 10, state=state, observers=[timed, timing, watch])
    total = 30 + 50 + 20
    guessed = {
        "gap": 24 / (6 * 8),
        "finalisation": 200 / (6 * 8),
    }  # 24 passes, by a step of 1 s and 8 images, each half three passes
    truth, at = [], 0.0
    for epoch in range(10):
        for step in range(3):
            at += 1
            truth.append((at, epoch * 3 + step + 1, epoch // 2))
        at += 10 * (epoch % 2)
        truth.append((at, 3 * epoch + 3, (epoch + 1) // 2))
    for (at, steps, gaps), seen in zip(truth, watch.seen, strict=False):
        gap = 10.0 if gaps else guessed["gap"]
        last = 10 / 24 * 200 if gaps else guessed["finalisation"]
        assert seen == pytest.approx(30 - steps + (5 - gaps) * gap + last), (at, steps)
    assert watch.seen[-2:] == [10.0, 0.0] and watches.now == total


def test_a_phase_and_a_supernet_have_steps_of_their_own():
    def kinds(name, epochs=4, **options):
        m = archgrad.method(name, space(), **options)
        state = m.start(seed=0, epochs=epochs, steps=3, images=(24, 24))
        return [
            part
            for part in Timing(m, state).remaining_parts(state)
            if part.kind.endswith("steps") or "supernet" in part.kind
        ]

    assert [(part.kind, part.units) for part in kinds("cdarts", pretrain=1, joint=2)] == [
        ("pretraining steps", 3), ("warm-up steps", 9), ("joint steps", 18)
    ]  # fmt: skip
    assert [(part.kind, part.units) for part in kinds("random", draws=2)] == [
        ("weights only steps", 6), ("weights only steps in supernet 2", 6)
    ]  # fmt: skip
    assert [(part.kind, part.units) for part in kinds("darts")] == [("search steps", 12)]


def test_frozen_alphas_cost_half_until_a_whole_step_was_timed():
    patch = Patch("late", alpha_from=lambda epochs: 2)
    watches = Watches()
    m = Method(compose(archgrad.method("darts", space()).patch, patch), space())
    state = m.start(seed=0, epochs=4, steps=3)
    timing = Timing(m, state, clock=watches.clock)

    watch = Sees(lambda state: timing.remaining(state).seconds)
    search(m, Noise(), 4, state=state, observers=[steps_of(watches), timing, watch])
    assert (
        watch.seen[:3] == [5 + 6 * 2, 4 + 6 * 2, 3 + 6 * 2] and watch.seen[8] == 5
    )  # now one of them was timed: 1 s, too


def steps_of(watches):
    """Its steps alone."""

    class Steps:
        def on_step(self, *_):
            watches.now += watches.each

        def on_epoch(self, *_): ...
        def on_decision(self, *_): ...

    return Steps()


@pytest.mark.parametrize("name, options", [
    ("random", {"draws": 2}), ("rsws", {"samples": 7, "images": 5, "finalists": 2}), ("dartspt", {"tune": 1}), ("robustdarts", {"window": 1}),
])  # fmt: skip
def test_the_work_outside_the_steps_falls_to_zero(name, options):
    m = archgrad.method(name, space(), **options)
    state = m.start(seed=0, epochs=2, steps=3, images=(24, 24))
    watch = Sees(lambda state: sum(count(m, state) for count in m.patch.ahead.values()))
    before = watch.look(state)
    search(m, Noise(), 2, state=state, observers=[watch])
    assert before > 0 and watch.seen == sorted(watch.seen, reverse=True) and watch.seen[-1] == 0


def test_probes_say_how_often_they_measure_and_how_much():
    state = archgrad.method("cdarts", space()).start(seed=0, epochs=10, steps=3, images=(24, 20))
    assert [
        measurement_count(probe, 10)
        for probe in (Gap(), Gap(3), Sharpness(), Curvature(4), Ranking())
    ] == [5, 4, 1, 3, 5]
    assert [measurement_count(probe, 10, 8) for probe in (Gap(), Gap(3), Sharpness())] == [1, 2, 1]
    assert Gap().passes(state) == 40 and Ranking().passes(state) == 2 * 32 * 20


def test_the_estimate_is_printed_after_three_steps_or_ten_seconds_and_recorded():
    def lines(each, steps=6):
        said, kept, watches = [], [], Watches(each)
        m = archgrad.method("darts", space())
        state = m.start(seed=0, epochs=2, steps=steps, images=(48, 48))
        timing = Timing(m, state, past=100.0, clock=watches.clock)
        estimate = Estimate(
            timing,
            lambda line: said.append((watches.now, line)),
            lambda left: ["shorter"],
            lambda *both: kept.append(both),
        )
        search(
            m,
            Noise(per_epoch=steps),
            2,
            state=state,
            observers=[steps_of(watches), timing, estimate],
        )
        return said, kept

    said, kept = lines(1.0)
    assert (
        len(said) == 1
        and said[0][0] == 3.0
        and "about 9 s to go" in said[0][1]
        and said[0][1].endswith(": search steps 9 s")
    )
    assert kept[0] == (9.0, 112.0) and kept[-1] == (0.0, 112.0)
    said, _ = lines(600.0)
    assert [(at, "about 110 min to go" in line or line) for at, line in said] == [
        (600.0, True),
        (600.0, "shorter"),
    ]  # an hour is long


def test_what_is_not_known_is_named_and_what_is_guessed_is_marked():
    left = Remaining(
        (
            KindEstimate("search steps", 5, 600.0, False),
            KindEstimate("front", 1, 60.0, True),
            KindEstimate("entropies", 9, 0.1, False),
        ),
        ("draws",),
    )
    assert (
        estimate_text(left).split(": ", 1)[1]
        == "search steps 10 min, front 60 s (guessed); not known yet: draws"
    )
    now = datetime(2026, 1, 1, 12, 30)
    assert time_left_text(95 * 60, now) == "about 95 min to go, until 14:05"
    assert time_left_text(24 * 3600, now) == "about 24.0 h to go, until 2026-01-02 12:30"
    assert time_left_text(-3, now) == "about 0 s to go, until 12:30"


def test_what_shortens_a_search_says_by_how_much():
    left = Remaining(
        (KindEstimate("search steps", 5, 7200.0, False), KindEstimate("front", 1, 3600.0, True)), ()
    )
    (line,) = shorter_search_lines(
        left, {"--search.epochs": (25, True), "--space.channels": (8, False)}
    )
    assert (
        line
        == "a shorter search: --search.epochs 25 (about 2.0 h), --space.channels 8 (about half)"
    )
    assert shorter_search_lines(left, {}) == []


def test_the_time_left_stands_on_every_line():
    console, watches = Console(file=io.StringIO(), width=200), Watches()
    m = Method(compose(archgrad.method("darts", space()).patch, watches.patch()), space())
    state = m.start(seed=0, epochs=2, steps=3, images=(24, 24))
    timing = Timing(m, state, clock=watches.clock)
    search(
        m,
        Noise(),
        2,
        state=state,
        observers=[steps_of(watches), timing, bar := Bar(console, timing)],
    )
    bar.close()
    lines = console.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["epoch", "epoch", "decided", "decided"]
    assert (
        all(", about " in line and " to go, until " in line for line in lines[:3])
        and "to go" not in lines[3]
    )


def test_a_sign_of_life_says_the_place_and_counts_down():
    now = [0.0]
    life = SignsOfLife(None, clock=lambda: now[0])
    now[0] = 31
    assert life.line_due() is None  # nobody said what goes on
    life.set_place("epoch 2/5, step 7/9", left=100)
    assert life.line_due().startswith("epoch 2/5, step 7/9, about 100 s to go")
    now[0] = 60
    assert life.line_due() is None
    now[0] = 61
    life.set_place("epoch 2/5, ranking")
    assert life.line_due().startswith("epoch 2/5, ranking, about 70 s to go")
    now[0] = 90
    life.note_line()  # a line of the search
    now[0] = 119
    assert life.line_due() is None


def test_signs_of_life_come_while_the_main_thread_is_busy():
    from threading import Event

    spoke, said = Event(), []
    with SignsOfLife(lambda line: (said.append(line), spoke.set()), seconds=0.01) as life:
        life.set_place("reading the images")
        assert spoke.wait(20)
    assert said[0] == "reading the images"


def test_phases_are_found_whatever_their_lengths():
    m = archgrad.method("cdarts", space(), pretrain=1, joint=2, warmup=1)
    state = m.start(seed=0, epochs=3, steps=7)
    assert [(phase, count) for phase, _, count in phase_runs(m, state)] == [("pretraining", 7)]
    state.epoch = 1
    assert [(phase, count) for phase, _, count in phase_runs(m, state)] == [
        ("warm-up", 7),
        ("joint", 14),
    ]


def test_an_unfinished_run_keeps_what_it_expects(tmp_path, monkeypatch):
    from archgrad.cli import main
    from archgrad.run import front
    from archgrad.run.folder import RunFolder
    from archgrad.storage.files import read_json
    from running import SMALL

    folder = RunFolder(tmp_path / "run")
    real, kept = front.of_end, []
    monkeypatch.setattr(
        front, "of_end", lambda *given: kept.append(read_json(folder.estimate)) or real(*given)
    )
    assert main(["search", *SMALL, "--out", str(folder.path)]) == 0
    assert kept[0].keys() == {"left", "total", "when"} and not folder.estimate.exists()
    assert len(read_measured(folder.metrics)) == 3
