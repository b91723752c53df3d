"""What a search leaves when it ends: pictures, genotype, judgement, front. One place writes them, however the search came to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archgrad.run import budgets, front
from archgrad.run.folder import RunFolder
from archgrad.run.judgement import judge
from archgrad.searching.loop import Found
from archgrad.searching.types import Data, State
from archgrad.storage import records
from archgrad.storage.files import write_json
from archgrad.storage.records import Row

if TYPE_CHECKING:
    from archgrad.run.preparing import Prepared


def write(
    prepared: Prepared,
    folder: RunFolder,
    found: Found,
    points: dict[str, Any] | None,
    finished: dict[str, Any] | None = None,
) -> None:
    """All files of a result. The genotype, which marks the run as ended, comes last. ``points``: what `seen` says. ``finished``: where
    `archgrad finish` ended the search."""
    state, method = found.state, prepared.method
    past = past_of(folder, state)
    write_pictures(folder, found, past)
    if points is not None:
        write_json(folder.front, points)
    free = method.selected(state, ()) if method.limits and not state.decisions else None
    searched = judge(
        method, state, found.genotype, past, prepared.data.summary()["per_class"]["val"]
    )
    content = {
        "genotype": found.genotype.to_json(),
        "text": str(found.genotype),
        "budget": budgets.kept(method.limits, found.genotype, free),
        "searched": searched.to_json(),
    }
    folder.estimate.unlink(missing_ok=True)
    write_json(folder.genotype, content | ({"finished": finished} if finished else {}))


def seen(
    prepared: Prepared, folder: RunFolder, found: Found, images: Data | None = None
) -> dict[str, Any] | None:
    """Cost and accuracy of the networks that this search saw: by the cost of its first budget, by MACs where it has none. None where the front
    is not asked for. ``images``: where they are read from, by default the search's own."""
    config, method, state = prepared.config, prepared.method, found.state
    s = config.diagnostics
    if not s.front:
        return None
    limited = next((limit.cost for limit in method.limits), None)
    cost = limited or prepared.costs.cost("macs")
    points = front.of_epochs(past_of(folder, state), cost)
    points += front.of_end(
        method, state, images or prepared.data, found.genotype, cost, s.front_points, s.gap_images
    )
    best = set(front.front(points))
    return {
        "cost": cost.name,
        "unit": cost.unit,
        "points": [{**point._asdict(), "front": point in best} for point in points],
    }


def past_of(folder: RunFolder, state: State) -> list[Row]:
    """The rows of the epochs that ended, those apart that were lost. ValueError as `records.kept`."""
    return records.measured(records.kept(folder.metrics, epochs_of(state), *records.SEARCH))


def epochs_of(state: State) -> int:
    """How many epochs of a search ended, so that each has a row."""
    return records.ended(state.epoch, state.ended, state.plan.epochs)


def write_pictures(folder: RunFolder, found: Found, past: list[Row]) -> None:
    from archgrad.report import curves_svg, save_svg  # matplotlib takes a second

    save_svg(found.genotype, folder.cells)
    if past:
        curves_svg(past, folder.curves)
