"""The files that a search leaves when it ends: pictures, genotype, judgement and Pareto front.

All of them are written here, whether the search ended by itself or by `archgrad finish`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archgrad.run import budgets, front
from archgrad.run.folder import RunFolder
from archgrad.run.judging import judge
from archgrad.searching.loop import Found
from archgrad.searching.types import SearchData, State
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
    """Write all files of a result.

    Args:
        prepared: The parts of the search.
        folder: Its run folder.
        found: The genotype and the last state.
        points: The networks that the search saw, from `front_json`.
        finished: The place at which `archgrad finish` ended the search, if it did.
    """
    state, method = found.state, prepared.method
    past = read_past_rows(folder, state)
    write_pictures(folder, found, past)
    if points is not None:
        write_json(folder.front, points)
    free = method.selected_genotype(state, ()) if method.limits and not state.decisions else None
    classes = prepared.data.summary()["per_class"]["val"]
    content = {
        "genotype": found.genotype.to_json(),
        "text": str(found.genotype),
        "budget": [
            one.to_json() for one in budgets.budget_results(method.limits, found.genotype, free)
        ],
        "searched": judge(method, state, found.genotype, past, classes).to_json(),
    }
    folder.estimate.unlink(missing_ok=True)
    # The genotype marks the run as ended, so it is written last.
    write_json(folder.genotype, content | ({"finished": finished} if finished else {}))


def front_json(
    prepared: Prepared, folder: RunFolder, found: Found, images: SearchData | None = None
) -> dict[str, Any] | None:
    """Return the cost and the accuracy of the networks that a search saw.

    Args:
        prepared: The parts of the search.
        folder: Its run folder.
        found: The genotype and the last state.
        images: The source of the images, by default that of the search.

    Returns:
        The content of ``front.json``. Its cost is that of the first budget, or multiply-adds if
        there is no budget. None if the settings leave out the front.
    """
    settings, method, state = prepared.config.diagnostics, prepared.method, found.state
    if not settings.front:
        return None
    cost = method.limits[0].cost if method.limits else prepared.costs.cost("macs")
    points = front.of_epochs(read_past_rows(folder, state), cost)
    points += front.of_end(
        method,
        state,
        images or prepared.data,
        found.genotype,
        cost,
        settings.front_points,
        settings.gap_images,
    )
    best = set(front.front(points))
    return {
        "cost": cost.name,
        "unit": cost.unit,
        "points": [{**point._asdict(), "front": point in best} for point in points],
    }


def read_past_rows(folder: RunFolder, state: State) -> list[Row]:
    """Return the rows of the epochs that ended, without those that were lost.

    Raises:
        ValueError: The metrics are damaged (`archgrad.storage.records.read_epochs`).
    """
    return records.measured(
        records.read_epochs(folder.metrics, count_ended_epochs(state), *records.SEARCH)
    )


def count_ended_epochs(state: State) -> int:
    """Return the number of epochs that ended. Each of them has a row in the metrics."""
    return records.finished_epochs(state.epoch, state.ended, state.plan.epochs)


def write_pictures(folder: RunFolder, found: Found, past: list[Row]) -> None:
    """Write the pictures of the genotype and, if there are rows, of the metrics."""
    from archgrad.report import curves_svg, save_svg  # matplotlib needs a second to import

    save_svg(found.genotype, folder.cells)
    if past:
        curves_svg(past, folder.curves)
