"""Which run of an arm would have been taken: the one that did best on validation images. No test accuracy has a say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


def validation(genotype: str, epochs: Sequence[Row], decisions: Sequence[Row] = ()) -> float | None:
    """Validation accuracy, a share in [0, 1], of the architecture that a search found; None where nobody measured it.

    That of the last decision where a finalisation decided by it; else, of a draw that was trained alone, what it ended with; else, of the cell
    that the supernet was cut to in the last epoch, its accuracy with the supernet's weights (``discrete_accuracy``, of the gap).
    """
    if decisions and "accuracy" in decisions[-1]["note"]:
        return float(decisions[-1]["note"]["accuracy"])
    own = [row for row in epochs if row.get("genotype") == genotype]
    if drawn := [row["draw_accuracy"] for row in own if row.get("draw_accuracy") is not None]:
        return float(max(drawn))
    cut = own[-1].get("discrete_accuracy") if own and own[-1] is epochs[-1] else None
    return None if cut is None else float(cut)


def of_summary(summary: Mapping[str, Any]) -> float | None:
    """The same of a run's summary that does not say it: it knows no decision, but all that was measured in each epoch."""
    columns = summary["epochs"]
    epochs = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return validation(summary["genotype"]["text"], epochs) if epochs else None


@dataclass(frozen=True)
class Best:
    """Of an arm: the ``seed`` with the highest ``validation`` accuracy (the first of equals), and what it turned out to be worth."""

    seed: int
    validation: float
    worth: Mapping[str, float]  # measure -> value
    among: tuple[int, ...] = ()  # the seeds that have one

    def chosen(self, of: int) -> str:
        """The seed, and among which where not all ``of`` the arm's have a validation accuracy."""
        return str(self.seed) + (
            f", of {', '.join(map(str, self.among))}" if len(self.among) < of else ""
        )

    def to_json(self) -> dict[str, Any]:
        return {"seed": self.seed, "validation": self.validation, **self.worth}


def best(
    arm: str, table: Mapping[str, Mapping[str, Mapping[int, float]]], judged: Iterable[str]
) -> Best | None:
    """``table``: measure -> arm -> seed -> value; ``judged``: measures to show of it. None where an arm has no validation accuracy."""
    by_seed = table.get("validation", {}).get(arm, {})
    if not by_seed:
        return None
    seed = max(sorted(by_seed), key=lambda seed: by_seed[seed])
    known = {name: table.get(name, {}).get(arm, {}) for name in judged}
    return Best(
        seed,
        by_seed[seed],
        {name: values[seed] for name, values in known.items() if seed in values},
        tuple(sorted(by_seed)),
    )
