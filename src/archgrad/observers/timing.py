"""Observers that time a search and estimate its duration.

The estimate stands on a bar, on every line, and in the signs of life where there is no terminal.
The observers here read the state and never write to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from archgrad.searching.duration import STEP, Costs, Part, Remaining, duration_text
from archgrad.searching.observer import Observer
from archgrad.searching.progress import Clock, SignsOfLife, time_left_text

if TYPE_CHECKING:
    from archgrad.observers.probes import Probe
    from archgrad.searching.types import Decision, Method, SearchData, State, Values
    from archgrad.storage.records import Row

ENDS = "ends of epochs"
PASS = "passes of an image"
LONG = 3600
"""Seconds of a search, beyond which shorter searches are proposed."""
GUESSES = {("weights only", "search"): 2.0}
"""(phase, phase) -> ratio of the time of a step in the second phase to that in the first.

Steps of other phases are taken to be equally long.
"""


def phase_runs(method: Method, state: State) -> list[tuple[str, str, int]]:
    """Return the steps of the current epoch as (phase, kind, count), in their order.

    Steps of one kind take the same time: they are of one phase and one supernet.
    """
    steps = method.steps(state)
    begun = sum(stage.begin(state.plan.epochs) <= state.epoch for stage in method.stages)

    def phase_at(step: int) -> str:
        return method.phase(replace(state, step=step))

    def runs(low: int, high: int) -> list[tuple[str, int]]:
        """Return (phase, count) of the steps from low to high; each phase is one interval."""
        if phase_at(low) == phase_at(high - 1):
            return [(phase_at(low), high - low)]
        middle = (low + high) // 2
        first, second = runs(low, middle), runs(middle, high)
        joined = [first[-1], second[0]]
        if first[-1][0] == second[0][0]:
            joined = [(first[-1][0], first[-1][1] + second[0][1])]
        return [*first[:-1], *joined, *second[1:]]

    suffix = f" in supernet {begun}" if begun > 1 else ""
    return [(phase, f"{phase} steps{suffix}", count) for phase, count in runs(0, steps)]


class Timing(Observer):
    """Time the parts of a search, and estimate the time of the rest.

    It must stand behind all observers that measure or save.

    Args:
        method: Method of the search.
        state: State at the beginning.
        probes: Probes of the search.
        front: Forward passes of an image that the front at the end takes.
        past: Seconds of earlier processes.
        clock: Clock.
    """

    def __init__(
        self,
        method: Method,
        state: State,
        probes: Sequence[Probe] = (),
        front: float = 0.0,
        *,
        past: float = 0.0,
        clock: Clock = monotonic,
    ) -> None:
        self.method, self.front, self.clock = method, front, clock
        self.probes = {probe.name: probe for probe in probes}
        self.costs, self.steps, self.measured = Costs(), 0, 0.0
        self.epochs = [
            phase_runs(method, replace(state, epoch=epoch)) for epoch in range(state.plan.epochs)
        ]
        self.began, self.past = clock(), past
        self.last_time, self.ahead = clock(), self._count_ahead(state)

    def on_step(self, method: Method, state: State, values: Values) -> None:
        now, self.steps = self.clock(), self.steps + 1
        self.costs.add(self._kind_of_step(state.epoch, state.step - 1), now - self.last_time)
        self.last_time = now

    def on_probe(self, probe: Probe, state: State, seconds: float) -> None:
        """Record the seconds of a measurement."""
        self.costs.add(probe.name, seconds)
        # The gap consists of forward passes only, so other measurements are guessed by it.
        if probe.name == "discretisation gap":
            self.costs.add(PASS, seconds, probe.passes(state))
        self.measured += seconds

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> None:
        self._charge(state, ENDS)

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        self._charge(state, None)

    def remaining(self, state: State) -> Remaining:
        """Return the estimate of the work after the last step, epoch or decision."""
        return self.costs.remaining(self.remaining_parts(state))

    def total_seconds(self, state: State) -> float:
        """Return the estimated seconds of the whole search, with those of earlier processes."""
        return self.past + self.last_time - self.began + self.remaining(state).seconds

    def remaining_parts(self, state: State) -> list[Part]:
        """Return all work that is to come.

        A kind of steps is guessed by the kind before it, a measurement by its forward passes of an
        image, and such a pass by the steps.
        """
        # The import needs torch, and `compare` refuses a study without it.
        from archgrad.observers.probes import measurement_count

        epochs = state.plan.epochs
        over = state.stopped is not None or state.epoch >= epochs
        counts: dict[str, int] = {}
        order: dict[str, str] = {}
        done = 0 if over else state.step
        for epoch, runs in enumerate(self.epochs):
            for phase, kind, count in runs:
                order.setdefault(kind, phase)
                here = 0 if over or epoch < state.epoch else count
                passed = min(here, done) if epoch == state.epoch else 0
                counts[kind] = counts.get(kind, 0) + here - passed
                done -= passed
        kinds = list(order)
        known = [kind for kind in kinds if kind in self.costs.each]
        found = []
        for kind in kinds:
            like = next(
                (other for other in reversed(kinds[: kinds.index(kind)]) if other in known),
                next(iter(known), None),
            )
            times = GUESSES.get((order[like], order[kind]), 1.0) if like else 1.0
            found.append(Part(kind, counts[kind], like if like != kind else None, times))
        batch = max(state.plan.images[0] / state.plan.steps, 1)
        halves = STEP if not known or order[known[-1]] != "weights only" else STEP / 2
        found.append(Part(PASS, 0, known[-1] if known else None, 1 / (halves * batch)))
        begin = epochs if over else state.epoch
        for probe in self.probes.values():
            if passes := probe.passes(state):
                found.append(
                    Part(probe.name, measurement_count(probe, epochs, begin), PASS, passes)
                )
        found += [Part(name, count, PASS) for name, count in self._count_ahead(state).items()]
        if ENDS in self.costs.each:
            found.append(Part(ENDS, epochs - begin))
        return [*found, Part("front", self.front, PASS)]

    def _charge(self, state: State, usual: str | None) -> None:
        """Charge the time of an epoch's end or a decision to the work that became less by it.

        The time of the probes is charged to them. If no work became less, the kind ``usual``, if
        there is one, gets the time.
        """
        now, ahead = self.clock(), self._count_ahead(state)
        took = now - self.last_time - self.measured
        less = {
            name: self.ahead[name] - count
            for name, count in ahead.items()
            if count < self.ahead[name]
        }
        for name, units in less.items():
            self.costs.add(name, took / len(less), units)
        if not less and usual:
            self.costs.add(usual, took)
        self.last_time, self.measured, self.ahead = now, 0.0, ahead

    def _count_ahead(self, state: State) -> dict[str, float]:
        return {name: count(self.method, state) for name, count in self.method.patch.ahead.items()}

    def _kind_of_step(self, epoch: int, step: int) -> str:
        for _, kind, count in self.epochs[epoch]:
            if step < count:
                return kind
            step -= count
        raise AssertionError("a step beyond its epoch")


@dataclass(frozen=True)
class Timed(Observer):
    """Time the measurements of a probe, and show their place in the signs of life."""

    probe: Probe
    timing: Timing
    life: SignsOfLife

    def on_step(self, method: Method, state: State, values: Values) -> None:
        self.probe.on_step(method, state, values)

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> Row | None:
        began = self.timing.clock()
        self.life.set_place(f"epoch {row['epoch'] + 1}/{state.plan.epochs}, {self.probe.name}")
        found = self.probe.on_epoch(method, state, data, row)
        if found is not None:
            self.timing.on_probe(self.probe, state, self.timing.clock() - began)
        return found

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        self.probe.on_decision(method, state, decision)


class Estimate(Observer):
    """Print an estimate of the search's duration, part by part, after a few steps.

    Args:
        timing: Timing of the search.
        say: Function that prints a line.
        advise: Function that gives further lines for a search longer than `LONG`.
        record: Function that receives the seconds left and the seconds in all, after the first
            estimate and after every epoch.
        steps: Number of steps before the first estimate.
        patience: Seconds after which the first estimate does not wait for these steps.
    """

    def __init__(
        self,
        timing: Timing,
        say: Callable[[str], Any],
        advise: Callable[[Remaining], Sequence[str]] = lambda left: (),
        record: Callable[[float, float], Any] = lambda left, total: None,
        *,
        steps: int = 3,
        patience: float = 10.0,
    ) -> None:
        self.timing, self.say, self.advise, self.record = timing, say, advise, record
        self.steps, self.patience = steps, patience
        self.announced = False

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if not self.announced and (
            self.timing.steps >= self.steps
            or self.timing.last_time - self.timing.began >= self.patience
        ):
            self.announced, left = True, self.timing.remaining(state)
            self.say(estimate_text(left))
            for line in self.advise(left) if left.seconds > LONG else ():
                self.say(line)
            self.record(left.seconds, self.timing.total_seconds(state))

    def on_epoch(self, method: Method, state: State, data: SearchData, row: Row) -> None:
        self.record(self.timing.remaining(state).seconds, self.timing.total_seconds(state))


def estimate_text(left: Remaining) -> str:
    """Return an estimate as text, with its parts.

    An example is "about 12 min to go, until 14:05: search steps 11 min, discretisation gap 60 s
    (guessed); not known yet: ...".
    """
    shown = [term for term in left.terms if term.seconds >= 0.005 * left.seconds]
    terms = ", ".join(
        f"{term.kind} {duration_text(term.seconds)}{' (guessed)' if term.guessed else ''}"
        for term in shown
    )
    unknown = f"; not known yet: {', '.join(left.unknown)}" if left.unknown else ""
    return f"{time_left_text(left.seconds)}: {terms}{unknown}"


def shorter_search_lines(left: Remaining, flags: Mapping[str, tuple[object, bool]]) -> list[str]:
    """Return a line of settings that would shorten a search whose steps take most of its time.

    Args:
        left: Estimate of the search.
        flags: Flag -> (half of its value, whether the steps then take exactly half the time). They
            do for epochs and images, and about half for channels.
    """
    steps = sum(term.seconds for term in left.terms if " steps" in term.kind)
    half = duration_text(left.seconds - steps / 2)
    shorter_runs = [
        f"{flag} {value} (about {half if exact else 'half'})"
        for flag, (value, exact) in flags.items()
    ]
    return [f"a shorter search: {', '.join(shorter_runs)}"] if shorter_runs else []
