"""How far a search is and how long it will take: on a bar, on every line, and as a sign of life where there is no terminal. Observers of the
loop and of probes; they read, and never write to the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from archgrad.searching.duration import STEP, Costs, Left, Part, span
from archgrad.searching.progress import Clock, Life, to_go

if TYPE_CHECKING:
    from archgrad.observers.probes import Probe
    from archgrad.searching.types import Data, Decision, Method, State, Values
    from archgrad.storage.records import Row

ENDS = "ends of epochs"
PASS = "passes of an image"
LONG = 3600
"""Seconds beyond which it is said what would be shorter."""
GUESSES = {("weights only", "search"): 2.0}
"""How much longer a step of the second phase takes than one of the first; steps of other phases are taken for alike."""


def phases(method: Method, state: State) -> list[tuple[str, str, int]]:
    """What the steps of the current epoch are: (phase, kind, count) in their order. Steps of one kind take alike: a phase under one supernet."""
    steps, begun = (
        method.steps(state),
        sum(stage.begin(state.plan.epochs) <= state.epoch for stage in method.stages),
    )

    def at(step: int) -> str:
        return method.phase(replace(state, step=step))

    def runs(low: int, high: int) -> list[tuple[str, int]]:
        """Of steps from low to high, whose phases come one after the other."""
        if at(low) == at(high - 1):
            return [(at(low), high - low)]
        middle = (low + high) // 2
        first, second = runs(low, middle), runs(middle, high)
        joined = (
            [(first[-1][0], first[-1][1] + second[0][1])]
            if first[-1][0] == second[0][0]
            else [first[-1], second[0]]
        )
        return [*first[:-1], *joined, *second[1:]]

    suffix = f" in supernet {begun}" if begun > 1 else ""
    return [(phase, f"{phase} steps{suffix}", count) for phase, count in runs(0, steps)]


class Timing:
    """Observer that times what a search does and says what the rest will take. It stands behind all that measure or save."""

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
        """``front``: passes of an image it takes to draw the front at the end. ``past``: seconds of earlier processes."""
        self.method, self.probes, self.front, self.clock = (
            method,
            {probe.name: probe for probe in probes},
            front,
            clock,
        )
        self.costs, self.steps, self.measured = Costs(), 0, 0.0
        self.epochs = [
            phases(method, replace(state, epoch=epoch)) for epoch in range(state.plan.epochs)
        ]
        self.began, self.past = clock(), past
        self.at, self.ahead = clock(), self._ahead(state)

    def on_step(self, method: Method, state: State, values: Values) -> None:
        now, self.steps = self.clock(), self.steps + 1
        self.costs.add(self._kind(state.epoch, state.step - 1), now - self.at)
        self.at = now

    def on_probe(self, probe: Probe, state: State, seconds: float) -> None:
        """A measurement took so long."""
        self.costs.add(probe.name, seconds)
        if (
            probe.name == "discretisation gap"
        ):  # nothing but passes: what others take is guessed by it
            self.costs.add(PASS, seconds, probe.passes(state))
        self.measured += seconds

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self._done(state, ENDS)

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        self._done(state, None)

    def left(self, state: State) -> Left:
        """What is to come after the last step, epoch or decision that was heard of."""
        return self.costs.left(self.parts(state))

    def total(self, state: State) -> float:
        """Seconds of the whole search, those of earlier processes among them."""
        return self.past + self.at - self.began + self.left(state).seconds

    def parts(self, state: State) -> list[Part]:
        """All that is to come. A kind of steps is guessed by the one before it, what measures by the passes of an image that it takes, and
        such a pass by the steps."""
        from archgrad.observers.probes import moments  # takes torch; `compare` refuses without it

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
                found.append(Part(probe.name, moments(probe, epochs, begin), PASS, passes))
        found += [Part(name, count, PASS) for name, count in self._ahead(state).items()]
        if ENDS in self.costs.each:
            found.append(Part(ENDS, epochs - begin))
        return [*found, Part("front", self.front, PASS)]

    def _done(self, state: State, usual: str | None) -> None:
        """Books what an epoch's end or a decision took, measurements of probes apart, on what has become less by it."""
        now, ahead = self.clock(), self._ahead(state)
        took = now - self.at - self.measured
        less = {
            name: self.ahead[name] - count
            for name, count in ahead.items()
            if count < self.ahead[name]
        }
        for name, units in less.items():
            self.costs.add(name, took / len(less), units)
        if not less and usual:
            self.costs.add(usual, took)
        self.at, self.measured, self.ahead = now, 0.0, ahead

    def _ahead(self, state: State) -> dict[str, float]:
        return {name: count(self.method, state) for name, count in self.method.patch.ahead.items()}

    def _kind(self, epoch: int, step: int) -> str:
        for _, kind, count in self.epochs[epoch]:
            if step < count:
                return kind
            step -= count
        raise AssertionError("a step beyond its epoch")


@dataclass(frozen=True)
class Timed:
    """A probe whose measurements are timed, and said while they last."""

    probe: Probe
    timing: Timing
    life: Life

    def on_step(self, method: Method, state: State, values: Values) -> None:
        self.probe.on_step(method, state, values)

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> Row | None:
        began = self.timing.clock()
        self.life.at(f"epoch {row['epoch'] + 1}/{state.plan.epochs}, {self.probe.name}")
        found = self.probe.on_epoch(method, state, data, row)
        if found is not None:
            self.timing.on_probe(self.probe, state, self.timing.clock() - began)
        return found

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        self.probe.on_decision(method, state, decision)


class Estimate:
    """After three steps, or the first that ends later than ``soon`` seconds, says what the search will take, part by part; ``long`` gives
    further lines if that is beyond `LONG`. ``keep`` is told the seconds left and the seconds in all then, and after every epoch."""

    def __init__(
        self, timing: Timing, say: Callable[[str], Any], long: Callable[[Left], Sequence[str]] = lambda left: (),
        keep: Callable[[float, float], Any] = lambda left, total: None, *, steps: int = 3, soon: float = 10.0,
    ) -> None:  # fmt: skip
        self.timing, self.say, self.long, self.keep, self.steps, self.soon = (
            timing,
            say,
            long,
            keep,
            steps,
            soon,
        )
        self.said = False

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if not self.said and (
            self.timing.steps >= self.steps or self.timing.at - self.timing.began >= self.soon
        ):
            self.said, left = True, self.timing.left(state)
            for line in (expected(left), *(self.long(left) if left.seconds > LONG else ())):
                self.say(line)
            self.keep(left.seconds, self.timing.total(state))

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self.keep(self.timing.left(state).seconds, self.timing.total(state))

    def on_decision(self, method: Method, state: State, decision: Decision) -> None: ...


def expected(left: Left) -> str:
    """``about 12 min to go, until 14:05: search steps 11 min (550), discretisation gap 60 s (5, guessed); not known yet: ...``"""
    shown = [term for term in left.terms if term.seconds >= 0.005 * left.seconds]
    terms = ", ".join(
        f"{term.kind} {span(term.seconds)}{' (guessed)' if term.guessed else ''}" for term in shown
    )
    unknown = f"; not known yet: {', '.join(left.unknown)}" if left.unknown else ""
    return f"{to_go(left.seconds)}: {terms}{unknown}"


def shorter(left: Left, flags: Mapping[str, tuple[object, bool]]) -> list[str]:
    """What would shorten a search whose steps take most of its time, as one line. ``flags``: flag -> (half its value, whether steps fall by
    half exactly: they do with epochs and images, with channels about)."""
    steps = sum(term.seconds for term in left.terms if " steps" in term.kind)
    half = span(left.seconds - steps / 2)
    said = [
        f"{flag} {value} (about {half if exact else 'half'})"
        for flag, (value, exact) in flags.items()
    ]
    return [f"a shorter search: {', '.join(said)}"] if said else []
