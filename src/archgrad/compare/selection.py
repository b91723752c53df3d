"""The best run of each arm by validation accuracy; test accuracies take no part in the choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


def validation(genotype: str, epochs: Sequence[Row], decisions: Sequence[Row] = ()) -> float | None:
    """Return the validation accuracy of the architecture that a search found.

    It is the accuracy of the last decision if a finalisation decided by accuracy. Otherwise it is
    the best accuracy of this architecture as a draw that was trained alone. Otherwise it is the
    accuracy of the genotype with the supernet's weights in the last epoch (``discrete_accuracy``).

    Args:
        genotype: The found genotype as text.
        epochs: The rows of the metrics.
        decisions: The rows of the decisions.

    Returns:
        A fraction in [0, 1], or None if the accuracy was not measured.
    """
    if decisions and "accuracy" in decisions[-1]["note"]:
        return float(decisions[-1]["note"]["accuracy"])
    own = [row for row in epochs if row.get("genotype") == genotype]
    if drawn := [row["draw_accuracy"] for row in own if row.get("draw_accuracy") is not None]:
        return float(max(drawn))
    cut = own[-1].get("discrete_accuracy") if own and own[-1] is epochs[-1] else None
    return None if cut is None else float(cut)


def of_summary(summary: Mapping[str, Any]) -> float | None:
    """Return the same accuracy from an old summary, which has the metrics but no decisions."""
    columns = summary["epochs"]
    epochs = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return validation(summary["genotype"]["text"], epochs) if epochs else None


@dataclass(frozen=True)
class Best:
    """The best run of an arm by validation accuracy.

    Attributes:
        seed: The seed of the run, the first of equals.
        validation: Its validation accuracy, a fraction in [0, 1].
        measures: Measure -> its value in this run, such as test accuracies.
        judged_seeds: The seeds that have a validation accuracy.
    """

    seed: int
    validation: float
    measures: Mapping[str, float]
    judged_seeds: tuple[int, ...] = ()

    def seed_text(self, of: int) -> str:
        """Return the seed as text.

        If some of the ``of`` runs have no validation accuracy, the text lists the seeds that do.
        """
        if len(self.judged_seeds) >= of:
            return str(self.seed)
        return f"{self.seed}, of {', '.join(map(str, self.judged_seeds))}"

    def to_json(self) -> dict[str, Any]:
        """Return the run as ``compare.json`` has it."""
        return {"seed": self.seed, "validation": self.validation, **self.measures}


def best(
    arm: str, table: Mapping[str, Mapping[str, Mapping[int, float]]], judged: Iterable[str]
) -> Best | None:
    """Return the best run of an arm by validation accuracy.

    Args:
        arm: The arm.
        table: Measure -> arm -> seed -> value.
        judged: The measures to show of the run.

    Returns:
        The run, or None if the arm has no validation accuracy.
    """
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
