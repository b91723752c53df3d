"""All numbers of a study as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from archgrad.compare import retrained
from archgrad.compare.comparing import Failures
from archgrad.compare.measures import values
from archgrad.compare.summary import Summary
from archgrad.terminal import cell


def tidy_csv(summaries: Iterable[Summary], control: str, failed: Failures | None = None) -> str:
    """Return CSV with one row for each arm, seed and measure.

    Each retraining is a separate measure. A judged run has the measure ``searched`` (1 if the
    search passed every check, otherwise 0), and a failed run has only the measure ``failed``.

    Args:
        summaries: The summaries of the finished runs.
        control: The control arm, to which times are compared.
        failed: The failed runs.
    """
    found = list(summaries)
    rows: list[tuple[str, int, str, float]] = [
        (arm, seed, name, value)
        for name, row in values(found, control).items()
        for arm, own in row.items()
        for seed, value in own.items()
    ]
    for one in found:
        arm, seed = one["arm"], one["seed"]
        rows += [
            (arm, seed, f"retrained_test_{number}", test)
            for number, test in enumerate(retrained.tests_of(one), 1)
        ]
        if "searched" in one:
            rows.append((arm, seed, "searched", int(not one["searched"]["fails"])))
    rows += [
        (arm, seed, "failed", 1) for arm, by_seed in (failed or {}).items() for seed in by_seed
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("arm", "seed", "measure", "value"))
    writer.writerows(
        (cell(arm), seed, cell(name), value)
        for arm, seed, name, value in sorted(rows, key=lambda row: row[:3])
    )
    return text.getvalue()
