"""The judgement of a search: whether its result is more than the random draw of its seed.

`archgrad.run.judging` makes a judgement at the end of a search, and ``genotype.json`` keeps it.
This module has its values and its text, and needs no torch. `archgrad.run.judgement_text` has the
sentences of failed checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

LEARNED = 0.5
"""The least share of the lead of the first op over the second that the search must have learned.

Below it the random initial alphas decide more than the search.
"""

DECIDED = 0.01
"""The least decidedness of the learned change of the alphas.

`darts` at its published length and rate in NAS-Bench-201 must pass, and ends at 0.016
(benchmarks/studies/full_length, seed 1).
"""

CAUSES = {
    "alphas": "alphas hardly moved",
    "chance": "accuracy at chance",
    "selection": "selection still changes",
    "short": "too short to tell",
}
"""Name of a failed check -> its short form in tables."""


@dataclass(frozen=True)
class Part:
    """Means over the edges of one edge group that have at least two selectable ops.

    Groups of a single edge, such as the layers of a chain, are one part together.

    Attributes:
        edges: The number of these edges.
        lead: The lead of the first op over the second in the final alphas, in logits.
        learned: The part of the lead that the search added to the initial alphas, in logits.
        decided: ``1 - H / ln n`` of the mixture at the learned change of the alphas, where H is its
            entropy over n ops. 0 is a uniform mixture, 1 is a single op.
        held: The share of the final links that the genotypes of all of the last epochs have. None
            if there are too few epochs.
        cells: The number of cells of the supernet that read these alphas.
    """

    edges: int
    lead: float
    learned: float
    decided: float
    held: float | None
    cells: int = 1

    @property
    def moved(self) -> bool:
        """Return whether the alphas moved far enough."""
        return self.learned > LEARNED * self.lead and self.decided >= DECIDED


@dataclass(frozen=True)
class Judgement:
    """The checks of a search and their results. Accuracies are shares in [0, 1].

    Attributes:
        by: ``alphas`` if the alphas select the genotype, ``decisions`` if later decisions do.
        parts: Name of an edge group -> the movement of its alphas.
        what: The accuracy that was checked, such as ``supernet % of validation images``.
        accuracy: Its value, None if it is unknown.
        chance: The share of the largest class, which guessing reaches. None if it is unknown.
        least: The accuracy that guessing does not reach even with luck. None if it is unknown.
        over: The number of last epochs over which the selection was compared.
        fails: Name of a failed check (`CAUSES`) -> its sentence.
    """

    by: str
    parts: Mapping[str, Part]
    what: str
    accuracy: float | None
    chance: float | None
    least: float | None
    over: int
    fails: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Return whether all checks passed."""
        return not self.fails

    def lines(self) -> list[str]:
        """Return a sentence for each failed check, or a single one if all checks passed."""
        if self.fails:
            return list(self.fails.values())
        return [f"The search passes its checks: {', '.join(self._passed_checks())}."]

    def _passed_checks(self) -> list[str]:
        passed = [self._selection_text()]
        if self.accuracy is not None and self.chance is not None:
            name, _, images = self.what.partition(" % of ")
            passed.append(
                f"the {name} is right on {percent(self.accuracy)} of {images} "
                f"(guessing: {percent(self.chance)})"
            )
        if self.over:
            passed.append("the selection is stable")
        return passed

    def _selection_text(self) -> str:
        if self.by != "alphas":
            return "it decided after its epochs"
        if any(part.edges for part in self.parts.values()):
            return "the alphas moved"
        return "no edge has a choice"

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `ok` as plain data."""
        return {"ok": self.ok, **asdict(self)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Judgement:
        """Return the inverse of `to_json`."""
        fields = {name: value for name, value in saved.items() if name != "ok"}
        parts = {name: Part(**one) for name, one in saved["parts"].items()}
        return cls(**(fields | {"parts": parts}))


def percent(share: float) -> str:
    """Return a share as text: ``81 %``, and below ten with a digit more, ``5.1 %``."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"
