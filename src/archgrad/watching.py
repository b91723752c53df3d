"""What a run says of its time, by its settings: signs of life, an estimate with its parts, and what would be shorter."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from archgrad.config import SearchConfig
from archgrad.data import Data
from archgrad.duration import Left
from archgrad.loop import Row
from archgrad.probes import Probe
from archgrad.progress import Life, Timing, shorter
from archgrad.search_method import Method
from archgrad.state import State


def life(console: Console, place: str = "reading the images") -> Life:
    """Signs of life on a console that is no terminal; on one a bar shows as much."""
    alive = Life(None if console.is_terminal else lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
    alive.at(place)
    return alive


def timed(config: SearchConfig, method: Method, state: State, images: Data, probes: Sequence[Probe], past: Sequence[Row]) -> Timing:
    """What times the parts of a search and says what the rest will take. ``past``: the rows of earlier processes."""
    s = config.diagnostics
    points = 1 if method.patch.finalise else 1 + s.front_points
    front = points * min(s.gap_images, images.count("val")) if s.front else 0
    return Timing(method, state, probes, float(front), past=sum(row.get("seconds") or 0.0 for row in past))


def shorter_searches(config: SearchConfig, images: Data, begun: bool, left: Left) -> list[str]:
    """What would make such a search shorter; nothing for one that began before."""
    epochs, train, width = config.search.epochs or 1, images.count("train"), config.space.get("channels", 1)
    halves = {
        "--search.epochs": (epochs // 2, True, epochs > 1),
        "--search.limit": (train // 2, True, train > 2 * images.batch),
        "--space.channels": (width // 2, False, width > 1),
    }
    return [] if begun else shorter(left, {flag: (half, exact) for flag, (half, exact, possible) in halves.items() if possible})
