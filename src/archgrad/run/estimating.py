"""Estimates of the time and memory of a search or a retraining, from a few of its steps.

The steps run in a separate process, which writes no file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch

from archgrad import plugins
from archgrad.arch.passes import Batch
from archgrad.cost import process_memory
from archgrad.diagnostics.accuracy import accuracy
from archgrad.observers.timing import PASS
from archgrad.retraining import execute as retraining
from archgrad.retraining.card import Card
from archgrad.retraining.measure import measure
from archgrad.retraining.progress import STEP
from archgrad.run import config, preparing, preparing_training, watchers
from archgrad.run.config import SearchConfig
from archgrad.searching.duration import Costs, Part, Remaining

STEPS = 3
"""The number of steps of each kind. The first one includes the warm-up."""
SLOW = 20.0
"""If a step takes more seconds than this, no further one of its kind is run."""
SPARE = 0.9
"""The share of the free memory that may be used, because other programs need memory too."""
JUDGED = 256
"""The number of images on which an evaluation is timed."""


@dataclass
class StepMemory:
    """The memory of a few steps in bytes, of the process or of its GPU.

    Attributes:
        base: The memory before the steps.
        room: The memory that is available, None if unknown.
        device: The name of the device.
        batch: The full batch size.
        peak: The highest memory during the steps.
        ran_whole_batches: Whether full batches were run. If not, the peak is extrapolated from
            smaller ones.
    """

    base: int
    room: int | None
    device: str
    batch: int
    peak: int = 0
    ran_whole_batches: bool = True

    def available_share(self) -> float:
        """Return the available share of the steps' memory above ``base``. From 1 on, all fits."""
        if self.room is None or self.peak <= self.base:
            return 2.0
        return (SPARE * self.room - self.base) / (self.peak - self.base)

    def time_steps(
        self,
        costs: Costs,
        kind: str,
        step: Callable[[Batch, Batch], object],
        batches: Callable[[], tuple[Batch, Batch]],
    ) -> None:
        """Time steps of one kind. Parts of the batch come first, and then the whole batch.

        Larger parts are left out after a slow step, or if twice its memory would not fit.

        Args:
            costs: Takes the seconds.
            kind: The kind of the step.
            step: Runs a step on a training and a validation batch.
            batches: Returns the two batches.
        """
        device = torch.device(self.device)
        for parts in (8, 4, 2, 1):
            train, val = (_part(batch, parts) for batch in batches())
            for _ in range(STEPS if parts == 1 else 1):
                began = monotonic()
                with process_memory.peak_memory(device) as peak:
                    step(train, val)
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                took = monotonic() - began
                here = peak.gpu if device.type == "cuda" else peak.process
                self.peak = max(self.peak, here)
                if parts == 1:
                    costs.add(kind, took)
                    if took > SLOW:
                        break
            doubled = self.base + 2 * max(here - self.base, 0)
            large = self.room is not None and doubled > SPARE * self.room
            if parts > 1 and (large or took > SLOW):
                self.ran_whole_batches = False
                self.peak = max(self.peak, self.base + parts * max(here - self.base, 0))
                costs.add(kind, parts * took)
                return

    def to_json(self) -> dict[str, Any]:
        """Return the values as plain data."""
        return {
            "device": self.device,
            "batch": self.batch,
            "peak_bytes": self.peak,
            "room_bytes": self.room,
            "base_bytes": self.base,
            "fits": self.available_share() >= 1,
            "ran_whole_batches": self.ran_whole_batches,
        }


def _part(batch: Batch, parts: int) -> Batch:
    """Return the first images of a batch, at least two, because BatchNorm refuses a single one."""
    count = max(len(batch.labels) // parts, min(2, len(batch.labels)))
    return Batch(batch.images[:count], batch.labels[:count], batch.index[:count])


def search(config: SearchConfig) -> dict[str, Any]:
    """Estimate a search (`answer`). A ValueError is that of the search."""
    prepared = preparing.prepare(config, lambda line: None)
    config, method, data = prepared.config, prepared.method, prepared.data
    state = preparing.begin(prepared)
    timing = watchers.timed(
        config,
        method,
        state,
        data,
        [*watchers.curvature(config), *watchers.diagnostics(config)],
        [],
    )
    epochs, costs = timing.epochs, timing.costs
    tried = _tried(state.device, config.search.batch or 1)
    kinds: set[str] = set()
    begins = {stage.begin(state.plan.epochs) for stage in method.stages}
    parts = timing.remaining_parts(state)
    for epoch, runs in enumerate(epochs):
        new = [kind for _, kind, _ in runs if kind not in kinds]
        if not new and epoch not in begins:
            continue
        state.epoch, state.step = epoch, 0
        method.begin_epoch(state)
        for _, kind, count in runs:
            place = state.step
            if kind not in kinds:
                kinds.add(kind)

                def step(train: Batch, val: Batch, place: int = place) -> None:
                    state.step = place
                    method.step(state, train, val)

                def batches(place: int = place) -> tuple[Batch, Batch]:
                    train, val = (
                        next(iter(data.batches(split, state.epoch, place, 1)))
                        for split in ("train", "val")
                    )
                    return train, val

                tried.time_steps(costs, kind, step, batches)
            state.step = place + count
    if tried.ran_whole_batches:
        began = monotonic()
        images = min(JUDGED, data.count("val"))
        judged = data.evaluation("val", limit=images)
        accuracy(
            state.nets["search"],
            method.readout(state),
            judged,
            state.seed,
            "estimate",
            batch_statistics=True,
        )
        costs.add(PASS, monotonic() - began, images)
    shapes = {"--search.batch": (config.search.batch or 1, 2, 1), **_widths(config.space)}
    return answer("search", costs.remaining(parts), state.plan.epochs, " steps", tried, shapes)


def _widths(space: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Return flag -> the arguments of `smaller`, for the settings of the width."""
    width = int(space.get("channels", 1))
    found = {"--space.channels": (width, 1, 1)} if width > 1 else {}
    return found | (
        {"--space.partial-channels": (int(space["partial_channels"]), width, -1)}
        if "partial_channels" in space
        else {}
    )


def retrain(card: Card, images: Any) -> dict[str, Any]:
    """Estimate a retraining (`answer`). A ValueError is that of the training."""
    training = retraining.training_of(card, images)
    settings = card.settings
    data = retraining.images_of(card, images, training.device, lambda line: None)
    steps, costs, tried = data.steps("train"), Costs(), _tried(training.device, settings.batch)
    first = next(iter(data.batches("train", 0)))
    tried.time_steps(
        costs, "steps", lambda batch, _: training.advance(batch), lambda: (first, first)
    )
    tests = sum(
        (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs
        for epoch in range(settings.epochs)
    )
    count = sum(map(data.count, retraining.tested_splits(data)))
    if tried.ran_whole_batches:
        began = monotonic()
        some = data.splits["test"].images.subset(torch.arange(min(JUDGED, data.count("test"))))
        measure(
            training.net,
            some,
            card.preprocess,
            batch=card.batch,
            seed=card.seed,
            device=training.device,
        )
        costs.add("tests", (monotonic() - began) * count / len(some))
    parts = [
        Part("steps", settings.epochs * steps),
        Part("tests", tests, "steps", count / min(settings.batch, data.count("train")) / STEP),
    ]
    shapes = {"--retrain.batch": (settings.batch, 2, 1)}
    if settings.channels:
        shapes["--retrain.channels"] = (settings.channels, 1, 1)
    return answer("retrain", costs.remaining(parts), settings.epochs, "steps", tried, shapes)


def _tried(device: torch.device, batch: int) -> StepMemory:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        own = torch.cuda.memory_reserved(device)
        return StepMemory(own, free + own, str(device), batch)
    return StepMemory(
        process_memory.used_bytes(), process_memory.available_bytes(), str(device), batch
    )


def answer(
    what: str,
    left: Remaining,
    epochs: int,
    ending: str,
    tried: StepMemory,
    shapes: Mapping[str, tuple[int, int, int]],
) -> dict[str, Any]:
    """Return an estimate as plain data.

    Args:
        what: ``search`` or ``retrain``.
        left: The time of all parts.
        epochs: The number of epochs.
        ending: The end of the names of those parts that are steps.
        tried: The memory of the steps.
        shapes: Flag -> the arguments of `smaller`.

    Returns:
        Seconds in total, by part and of the steps of an epoch; memory in bytes; and under
        ``would_fit`` the values of settings that would fit into memory, if the present ones do not.
        Those for channels are approximate.
    """
    steps = sum(
        term.seconds
        for term in left.terms
        if term.kind.endswith(ending) or f"{ending} in " in term.kind
    )
    fitting = {
        flag: value
        for flag, shape in shapes.items()
        if (value := smaller(tried.available_share(), *shape)) is not None
    }
    return {
        "what": what,
        "seconds": left.seconds,
        "seconds_an_epoch": steps / epochs,
        "epochs": epochs,
        "parts": {term.kind: term.seconds for term in left.terms},
        "not_known": list(left.unknown),
        **tried.to_json(),
        "would_fit": fitting,
    }


def smaller(share: float, value: int, end: int, sign: int) -> int | None:
    """Return the value of a setting at which the steps fit into a share of their memory.

    Args:
        share: The share of the steps' memory that is available.
        value: The present value.
        end: The smallest value, or the largest one if ``sign`` is -1.
        sign: 1 if a smaller value takes less memory, -1 if a larger one does (partial channels:
            the divisor of the channels that ops see).

    Returns:
        The value, or None if the present one fits, or none does.
    """
    if share >= 1 or share <= 0:
        return None
    if sign > 0:
        found = int(value * share)
        return found if found >= end else None
    found = next((k for k in range(value + 1, end + 1) if end % k == 0 and value / k <= share), 0)
    return found or None


def estimate_in_process(
    what: str | None, sources: Sequence[tuple[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Run `search`, or `retrain` if there is a ``what``, in a separate process.

    Args:
        what: The genotype to retrain (`archgrad.run.subject.subject`), or None.
        sources: The settings, as `archgrad.run.config.read` takes them.

    Raises:
        ValueError: The search or the retraining refuses its settings, or the operating system
            killed the process.
        Broken: The code of a plugin raised an error.
        RuntimeError: The process failed.
    """
    asked = json.dumps({"what": what, "sources": sources}, default=str)
    child = subprocess.run(
        [sys.executable, "-P", "-m", __name__], input=asked, capture_output=True, text=True
    )
    if child.returncode < 0:
        raise ValueError(
            f"the dry run was killed by signal {-child.returncode}, "
            "most likely because memory ran out: try a smaller batch"
        )
    if child.returncode:
        raise RuntimeError(f"the dry run failed:\n{child.stderr}")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    if "error" in found:
        raise ValueError(found["error"])
    if "broken" in found:
        raise plugins.Broken(found["broken"])
    return found


def _main() -> None:
    asked = json.loads(sys.stdin.read())
    sources = [(where, given) for where, given in asked["sources"]]
    try:
        what = asked["what"]
        found = (
            search(config.read(*sources))
            if what is None
            else retrain(*preparing_training.card_and_images(what, sources))
        )
    except ValueError as error:
        found = {"error": plugins.blame(error) or " ".join(str(error).split())}
    except Exception as error:
        broken = plugins.blame(error)
        if broken is None or sys.flags.dev_mode:
            raise
        found = {"broken": broken}
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
