"""What a search leaves when it ends: pictures, genotype, judgement, front. One place writes them, however the search came to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archgrad import costing, front
from archgrad.folder import RunFolder, write_json
from archgrad.judgement import judge
from archgrad.loop import Found, Row
from archgrad.observers import rows

if TYPE_CHECKING:
    from archgrad.run import Prepared


def write(prepared: Prepared, folder: RunFolder, found: Found, finished: dict[str, Any] | None = None) -> None:
    """All files of a result. The genotype, which marks the run as ended, comes last. ``finished``: where `archgrad finish` ended the search."""
    state, method = found.state, prepared.method
    past = [row for row in rows(folder.metrics) if row["epoch"] < state.epoch] if folder.metrics.exists() else []
    write_pictures(folder, found, past)
    if prepared.config.diagnostics.front:
        write_json(folder.front, seen(prepared, found, past))
    free = method.selected(state, ()) if method.limits and not state.decisions else None
    searched = judge(method, state, found.genotype, past, prepared.data.summary()["per_class"]["val"])
    content = {
        "genotype": found.genotype.to_json(),
        "text": str(found.genotype),
        "budget": costing.kept(method.limits, found.genotype, free),
        "searched": searched.to_json(),
    }
    write_json(folder.genotype, content | ({"finished": finished} if finished else {}))


def seen(prepared: Prepared, found: Found, past: list[Row]) -> dict[str, Any]:
    """Cost and accuracy of the networks that this search saw: by the cost of its first budget, by MACs where it has none."""
    config, method, state = prepared.config, prepared.method, found.state
    limited = next((limit.cost for limit in method.limits), None)
    cost = limited or prepared.costs.cost("macs")
    s = config.diagnostics
    points = front.of_epochs(past, cost)
    points += front.of_end(method, state, prepared.data, found.genotype, cost, s.front_points, s.gap_images)
    best = set(front.front(points))
    return {"cost": cost.name, "unit": cost.unit, "points": [{**point._asdict(), "front": point in best} for point in points]}


def write_pictures(folder: RunFolder, found: Found, past: list[Row]) -> None:
    from archgrad.report import curves_svg, save_svg  # matplotlib takes a second

    save_svg(found.genotype, folder.cells)
    if past:
        curves_svg(past, folder.curves)
