"""How far a search is and how long it will take: on a bar, on every line, and as a sign of life where there is no terminal. Observers of the
loop and of probes; they read, and never write to the state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from archgrad import terminal
from archgrad.duration import STEP, Costs, Left, Part, span

if TYPE_CHECKING:
    from archgrad.loop import Row
    from archgrad.patch import Decision
    from archgrad.probes import Probe
    from archgrad.search_method import Method
    from archgrad.state import Data, State
    from archgrad.stepper import Values

Clock = Callable[[], float]

ENDS = "ends of epochs"
PASS = "passes of an image"
LONG = 3600
"""Seconds beyond which it is said what would be shorter."""

GUESSES = {("weights only", "search"): 2.0}
"""How much longer a step of the second phase takes than one of the first; steps of other phases are taken for alike."""


def phases(method: Method, state: State) -> list[tuple[str, str, int]]:
    """What the steps of the current epoch are: (phase, kind, count) in their order. Steps of one kind take alike: a phase under one supernet."""
    steps, begun = method.steps(state), sum(stage.begin(state.plan.epochs) <= state.epoch for stage in method.stages)

    def at(step: int) -> str:
        return method.phase(replace(state, step=step))

    def runs(low: int, high: int) -> list[tuple[str, int]]:
        """Of steps from low to high, whose phases come one after the other."""
        if at(low) == at(high - 1):
            return [(at(low), high - low)]
        middle = (low + high) // 2
        first, second = runs(low, middle), runs(middle, high)
        joined = [(first[-1][0], first[-1][1] + second[0][1])] if first[-1][0] == second[0][0] else [first[-1], second[0]]
        return [*first[:-1], *joined, *second[1:]]

    suffix = f" in supernet {begun}" if begun > 1 else ""
    return [(phase, f"{phase} steps{suffix}", count) for phase, count in runs(0, steps)]


class Timing:
    """Observer that times what a search does and says what the rest will take. It stands behind all that measure or save."""

    def __init__(
        self, method: Method, state: State, probes: Sequence[Probe] = (), front: float = 0.0, *, past: float = 0.0, clock: Clock = monotonic
    ) -> None:
        """``front``: passes of an image it takes to draw the front at the end. ``past``: seconds of earlier processes."""
        self.method, self.probes, self.front, self.clock = method, {probe.name: probe for probe in probes}, front, clock
        self.costs, self.steps, self.measured = Costs(), 0, 0.0
        self.epochs = [phases(method, replace(state, epoch=epoch)) for epoch in range(state.plan.epochs)]
        self.began, self.past = clock(), past
        self.at, self.ahead = clock(), self._ahead(state)

    def on_step(self, method: Method, state: State, values: Values) -> None:
        now, self.steps = self.clock(), self.steps + 1
        self.costs.add(self._kind(state.epoch, state.step - 1), now - self.at)
        self.at = now

    def on_probe(self, probe: Probe, state: State, seconds: float) -> None:
        """A measurement took so long."""
        self.costs.add(probe.name, seconds)
        if probe.name == "discretisation gap":  # nothing but passes: what others take is guessed by it
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
        from archgrad.probes import moments  # takes torch; `compare` refuses without it

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
            like = next((other for other in reversed(kinds[: kinds.index(kind)]) if other in known), next(iter(known), None))
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
        less = {name: self.ahead[name] - count for name, count in ahead.items() if count < self.ahead[name]}
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


class Life:
    """A sign of life every ``seconds`` in which nothing else was said: where the work is, and how long it will still take.

    The thread reads what the main thread said last and prints it; it sees nothing of the search. Quiet where ``say`` is None (a terminal).
    """

    def __init__(self, say: Callable[[str], Any] | None, seconds: float = 30.0, clock: Clock = monotonic) -> None:
        self.say, self.seconds, self.clock = say, seconds, clock
        self.place, self.end = "", None  # type: str, float | None
        self.spoken, self.over = clock(), threading.Event()

    def at(self, place: str, left: float | None = None) -> None:
        """The work is there now; without ``left`` the end that was expected before still is."""
        self.place = place
        if left is not None:
            self.end = self.clock() + left

    def spoke(self) -> None:
        """A line was printed: the next sign is due ``seconds`` later."""
        self.spoken = self.clock()

    def sign(self) -> str | None:
        """What is to be said now, if anything is."""
        if not self.place or self.clock() - self.spoken < self.seconds:
            return None
        self.spoke()
        return f"{self.place}{'' if self.end is None else ', ' + to_go(self.end - self.clock())}"

    def __enter__(self) -> Life:
        if self.say is not None:
            threading.Thread(target=self._speak, args=(self.say,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()

    def _speak(self, say: Callable[[str], Any]) -> None:
        while not self.over.wait(min(1.0, self.seconds)):
            if (line := self.sign()) is not None:
                with suppress(OSError):  # standard output is full or gone, which the next line of the main thread tells
                    say(line)


class Bar:
    """A progress bar over all steps, with the phase, the running accuracies and the time left; a line per epoch and decision."""

    def __init__(self, console: Console, timing: Timing | None = None, life: Life | None = None) -> None:
        self.progress, self.timing, self.life = bar(console, own=timing is not None), timing, life or Life(None)
        self.task: Any = None

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task("", total=method.done(state) + method.left(state), left="")
        if state.step % 10 == 0 or state.step == method.steps(state):  # reading a number off a GPU waits for it
            line = self._line(method, state, state.averages())
            self.progress.update(self.task, description=line, completed=method.done(state), left=self._left(state).removeprefix(", "))
        over = state.step == method.steps(state)
        place = f"epoch {state.epoch + 1}/{state.plan.epochs}, {'its end' if over else f'step {state.step}/{method.steps(state)}'}"
        self.life.at(place, self.timing.left(state).seconds if self.timing and (over or state.step % 10 == 1) else None)

    def on_epoch(self, method: Method, state: State, data: Data, row: Row) -> None:
        self._print(state, self._line(method, state, row, row["epoch"]) + f"  {row['seconds']:.0f} s")
        over = state.stopped or state.epoch == state.plan.epochs
        self.life.at("after the last epoch" if over else f"epoch {state.epoch + 1}/{state.plan.epochs}")

    def on_decision(self, method: Method, state: State, decision: Decision) -> None:
        said = {name: value for name, value in decision.note.items() if isinstance(value, str | int | float)}  # the rest is for going on
        note = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in said.items())
        self._print(state, f"decided {len(state.decisions)}: {note}")
        self.life.at(f"after decision {len(state.decisions)}")

    def close(self) -> None:
        self.progress.stop()

    def _print(self, state: State, line: str) -> None:
        self.progress.console.print(line + self._left(state), highlight=False, markup=False)
        self.life.spoke()
        if self.timing:
            self.life.at(self.life.place, self.timing.left(state).seconds)

    def _left(self, state: State) -> str:
        left = self.timing.left(state) if self.timing else None
        return f", {to_go(left.seconds)}" if left and left.terms else ""

    def _line(self, method: Method, state: State, row: Row, epoch: int | None = None) -> str:
        shown = {"train": "train_accuracy", "val": "val_accuracy", "evaluation": "evaluation_accuracy", "draw": "draw_accuracy"}
        parts = [f"{label} {100 * row[key]:.2f} %" for label, key in shown.items() if key in row]
        parts += [f"entropy {row['entropy']:.3f}"] if "entropy" in row else []
        place = f"epoch {(state.epoch if epoch is None else epoch) + 1}/{state.plan.epochs} {row.get('phase') or method.phase(state)}"
        return "  ".join([place, *parts])


class Estimate:
    """After three steps, or the first that ends later than ``soon`` seconds, says what the search will take, part by part; ``long`` gives
    further lines if that is beyond `LONG`. ``keep`` is told the seconds left and the seconds in all then, and after every epoch."""

    def __init__(
        self, timing: Timing, say: Callable[[str], Any], long: Callable[[Left], Sequence[str]] = lambda left: (),
        keep: Callable[[float, float], Any] = lambda left, total: None, *, steps: int = 3, soon: float = 10.0,
    ) -> None:  # fmt: skip
        self.timing, self.say, self.long, self.keep, self.steps, self.soon = timing, say, long, keep, steps, soon
        self.said = False

    def on_step(self, method: Method, state: State, values: Values) -> None:
        if not self.said and (self.timing.steps >= self.steps or self.timing.at - self.timing.began >= self.soon):
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
    terms = ", ".join(f"{term.kind} {span(term.seconds)}{' (guessed)' if term.guessed else ''}" for term in shown)
    unknown = f"; not known yet: {', '.join(left.unknown)}" if left.unknown else ""
    return f"{to_go(left.seconds)}: {terms}{unknown}"


def to_go(seconds: float, now: datetime | None = None) -> str:
    """``about 12 min to go, until 14:05``"""
    until = (now or datetime.now()) + timedelta(seconds=max(seconds, 0))
    return f"about {span(max(seconds, 0))} to go, until {until:{'%H:%M' if seconds < 12 * 3600 else '%Y-%m-%d %H:%M'}}"


def shorter(left: Left, flags: Mapping[str, tuple[object, bool]]) -> list[str]:
    """What would shorten a search whose steps take most of its time, as one line. ``flags``: flag -> (half its value, whether steps fall by
    half exactly: they do with epochs and images, with channels about)."""
    steps = sum(term.seconds for term in left.terms if " steps" in term.kind)
    half = span(left.seconds - steps / 2)
    said = [f"{flag} {value} (about {half if exact else 'half'})" for flag, (value, exact) in flags.items()]
    return [f"a shorter search: {', '.join(said)}"] if said else []


def is_watched(console: Console) -> bool:
    """Says whether a terminal or a notebook shows what changes."""
    return console.is_terminal or console.is_jupyter


@contextmanager
def watched() -> Iterator[list[Bar]]:
    """A bar where a terminal or a notebook watches; none elsewhere."""
    console = terminal.console(soft_wrap=True)
    shown = Bar(console) if is_watched(console) else None
    try:
        yield [shown] if shown else []
    finally:
        if shown:
            shown.close()


def bar(console: Console, *, own: bool = False) -> Progress:
    """A bar that shows only where a terminal or a notebook watches. ``own``: tasks say themselves what is ``left``."""
    left = TextColumn("{task.fields[left]}") if own else TimeRemainingColumn()
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), left, console=console, disable=not is_watched(console))
