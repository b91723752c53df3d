"""How long a search or a retraining will take, and how much memory: by a few steps of it in a process of its own, which writes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch

from archgrad.arch.passes import Batch
from archgrad.cost import room
from archgrad.diagnostics.accuracy import accuracy
from archgrad.observers.timing import PASS
from archgrad.retraining import execute as retraining
from archgrad.retraining.card import Card
from archgrad.retraining.measure import measure
from archgrad.retraining.progress import STEP
from archgrad.run import config, preparing, preparing_training, watchers
from archgrad.run.config import SearchConfig
from archgrad.searching.duration import Costs, Left, Part

STEPS = 3
"""Of each kind; the first pays for warming up."""
SLOW = 20.0
"""Seconds of a step after which one is enough."""
SPARE = 0.9
"""Share of the room that is to be used: a machine does other things too."""
JUDGED = 256
"""Images that a pass is timed on."""


@dataclass
class Tried:
    """What a few steps took, in bytes: ``base`` before them, ``peak`` at the highest, of the process or of its GPU. ``whole``: whether steps
    of the full batch were run; else the peak is what smaller ones lead to expect."""

    base: int
    room: int | None
    device: str
    batch: int
    peak: int = 0
    whole: bool = True

    def share(self) -> float:
        """Of what steps take beside ``base``, how much there is room for; above 1 where all of it fits."""
        if self.room is None or self.peak <= self.base:
            return 2.0
        return (SPARE * self.room - self.base) / (self.peak - self.base)

    def step(
        self,
        costs: Costs,
        kind: str,
        step: Callable[[Batch, Batch], object],
        batches: Callable[[], tuple[Batch, Batch]],
    ) -> None:
        """Times steps of one kind; those of a part of the batch come first, and no others follow one that was slow, or where twice as
        much would not fit."""
        device = torch.device(self.device)
        for parts in (8, 4, 2, 1):
            train, val = (_part(batch, parts) for batch in batches())
            for _ in range(STEPS if parts == 1 else 1):
                began = monotonic()
                with room.peak(device) as peak:
                    step(train, val)
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                took, here = (
                    monotonic() - began,
                    peak.gpu if device.type == "cuda" else peak.process,
                )
                self.peak = max(self.peak, here)
                if parts == 1:
                    costs.add(kind, took)
                    if took > SLOW:
                        break
            doubled = self.base + 2 * max(here - self.base, 0)
            large = self.room is not None and doubled > SPARE * self.room
            if parts > 1 and (large or took > SLOW):
                self.peak, self.whole = (
                    max(self.peak, self.base + parts * max(here - self.base, 0)),
                    False,
                )
                costs.add(kind, parts * took)
                return

    def to_json(self) -> dict[str, Any]:
        return {
            "device": self.device, "batch": self.batch, "peak_bytes": self.peak, "room_bytes": self.room, "base_bytes": self.base,
            "fits": self.share() >= 1, "ran_whole_batches": self.whole,
        }  # fmt: skip


def _part(batch: Batch, parts: int) -> Batch:
    """The first images of a batch; never a single one, which BatchNorm refuses."""
    count = max(len(batch.labels) // parts, min(2, len(batch.labels)))
    return Batch(batch.images[:count], batch.labels[:count], batch.index[:count])


def search(config: SearchConfig) -> dict[str, Any]:
    """Of a search: `answer`, and what would fit. ValueError as the search has them."""
    prepared = preparing.prepare(config, lambda line: None)
    c, method, data = prepared.config, prepared.method, prepared.data
    state = preparing.begin(prepared)
    timing = watchers.timed(
        c, method, state, data, [*watchers.curvature(c), *watchers.diagnostics(c)], []
    )
    epochs, costs = timing.epochs, timing.costs
    tried = _tried(state.device, c.search.batch or 1)
    kinds: set[str] = set()
    begins = {stage.begin(state.plan.epochs) for stage in method.stages}
    parts = timing.parts(state)
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

                tried.step(costs, kind, step, batches)
            state.step = place + count
    if tried.whole:
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
    shapes = {"--search.batch": (c.search.batch or 1, 2, 1), **_widths(c.space)}
    return answer("search", costs.left(parts), state.plan.epochs, " steps", tried, shapes)


def _widths(space: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Channels of the cells, at least 1; and how many of them ops see, where the space has that option."""
    width = int(space.get("channels", 1))
    found = {"--space.channels": (width, 1, 1)} if width > 1 else {}
    return found | (
        {"--space.partial-channels": (int(space["partial_channels"]), width, -1)}
        if "partial_channels" in space
        else {}
    )


def retrain(card: Card, images: Any) -> dict[str, Any]:
    """Of a retraining: `answer`, and what would fit. ValueError as the training has them."""
    training = retraining.training_of(card, images)
    settings = card.settings
    data = retraining.images_of(card, images, training.device, lambda line: None)
    steps, costs, tried = data.steps("train"), Costs(), _tried(training.device, settings.batch)
    first = next(iter(data.batches("train", 0)))
    tried.step(costs, "steps", lambda batch, _: training.advance(batch), lambda: (first, first))
    tests = sum(
        (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs
        for epoch in range(settings.epochs)
    )
    count = sum(map(data.count, retraining.tested_splits(data)))
    if tried.whole:
        began, some = (
            monotonic(),
            data.splits["test"].images.subset(torch.arange(min(JUDGED, data.count("test")))),
        )
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
    return answer("retrain", costs.left(parts), settings.epochs, "steps", tried, shapes)


def _tried(device: torch.device, batch: int) -> Tried:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        own = torch.cuda.memory_reserved(device)
        return Tried(own, free + own, str(device), batch)
    return Tried(room.resident(), room.room(), str(device), batch)


def answer(
    what: str,
    left: Left,
    epochs: int,
    ending: str,
    tried: Tried,
    shapes: Mapping[str, tuple[int, int, int]],
) -> dict[str, Any]:
    """One JSON-able object. ``seconds`` in all and by parts, ``seconds_an_epoch`` of steps; memory in bytes; ``would_fit``: what to say
    instead where it does not, `smaller` values. Channels are only about right."""
    steps = sum(
        term.seconds
        for term in left.terms
        if term.kind.endswith(ending) or f"{ending} in " in term.kind
    )
    fitting = {
        flag: value
        for flag, shape in shapes.items()
        if (value := smaller(tried.share(), *shape)) is not None
    }
    return {
        "what": what, "seconds": left.seconds, "seconds_an_epoch": steps / epochs, "epochs": epochs,
        "parts": {term.kind: term.seconds for term in left.terms}, "not_known": list(left.unknown), **tried.to_json(), "would_fit": fitting,
    }  # fmt: skip


def smaller(share: float, value: int, end: int, sign: int) -> int | None:
    """The value of a setting at which what steps take fits into a ``share`` of it: smaller down to ``end``, or, with ``sign`` -1 (the share
    of channels that ops see), larger up to it. None where all fits, or no value would."""
    if share >= 1 or share <= 0:
        return None
    if sign > 0:
        found = int(value * share)
        return found if found >= end else None
    found = next((k for k in range(value + 1, end + 1) if end % k == 0 and value / k <= share), 0)
    return found or None


def apart(what: str | None, sources: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """`search` or, with a ``what``, `retrain`, in a process of its own. ValueError as theirs, and where the system killed it."""
    asked = json.dumps({"what": what, "sources": sources}, default=str)
    child = subprocess.run(
        [sys.executable, "-P", "-m", __name__], input=asked, capture_output=True, text=True
    )
    if child.returncode < 0:
        raise ValueError(
            f"the dry run was killed by signal {-child.returncode}, most likely for too much memory: try a smaller batch"
        )
    if child.returncode:
        raise RuntimeError(f"the dry run failed:\n{child.stderr}")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    if "error" in found:
        raise ValueError(found["error"])
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
        found = {"error": " ".join(str(error).split())}
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
