"""Was this searched? Whether a search's result is more than the draw of its seed: asked once, at the end of a search, and kept with the result.

Three questions. Did the alphas move, judged by the raw logits against the run's own initial draw? (Entropy alone deceives: a cold softmax is
nearly one-hot before it has learned anything.) Is the supernet above chance? Does the selection agree with itself over the last epochs? Where
decisions after the epochs select, the first and the last are not asked, and the accuracy is that of what was decided.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

import torch

from archgrad.arch.edges import Alphas, EdgeGroup
from archgrad.arch.genotype import Genotype
from archgrad.searching.carry import chosen
from archgrad.searching.rate import fitting
from archgrad.searching.start import normal_alphas
from archgrad.searching.types import Method, State
from archgrad.storage.records import Row

LEARNED = 0.5
"""Share of the lead of the first op over the second that a search must have learned: below it the initial draw decides most."""
DECIDED = 0.01
"""Least decidedness of what was learned: `darts` at its published length and rate in NAS-Bench-201 must pass, and ends at 0.016
(benchmarks/studies/full_length, seed 1)."""
STABLE = 0.75
"""Least share of the final links that all of the last epochs' genotypes have: of 8 links two may change, of 6 one."""
ENOUGH = 50
"""Alpha steps below which nothing can be told: a rate that is fitted to so few moves the alphas by the noise of the batches."""
LAST = 0.1
"""Share of the epochs that must agree, at least `FEWEST` of them."""
FEWEST = 2
SIGMA = 2.0
"""Standard errors above chance. Of the best of several draws the bound is higher, so that a false alarm is no likelier than of one."""
LAYERS = "layers"
"""All groups of one edge together: the layers of a chain, of which one alone says little."""

CAUSES = {
    "alphas": "alphas hardly moved",
    "chance": "accuracy at chance",
    "selection": "selection still changes",
    "short": "too short to tell",
}
"""What may be missing, in a few words."""


@dataclass(frozen=True)
class Part:
    """An edge group, or all groups of one edge: means over its ``edges`` that have two selectable ops or more.

    ``lead`` of the first op over the second in the final alphas; ``learned``, how much of it the search added to its initial draw;
    ``decided``: ``1 - H / ln n`` of the mixture at what was learned, 0 uniform, 1 one-hot; ``held``: share of the final links that the genotype
    of every one of the last epochs has, None where there were too few.
    """

    edges: int
    lead: float
    learned: float
    decided: float
    held: float | None
    cells: int = 1  # of the supernet that read these alphas

    @property
    def moved(self) -> bool:
        return self.learned > LEARNED * self.lead and self.decided >= DECIDED


@dataclass(frozen=True)
class Judgement:
    """``by``: "alphas" or "decisions". ``accuracy`` of ``what`` on its images, ``chance`` (the largest class's share) and the ``least`` above
    it, shares in [0, 1], None where not known; ``over`` how many last epochs the selection was compared; ``fails``: cause -> a sentence."""

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
        return not self.fails

    def lines(self) -> list[str]:
        """For people: a sentence for each thing that is missing, or one line that says that all holds."""
        return list(self.fails.values()) or [f"searched: {', '.join(self._holds())}"]

    def _holds(self) -> list[str]:
        by_alphas = (
            "alphas moved"
            if any(part.edges for part in self.parts.values())
            else "no edge has a choice"
        )
        said = [by_alphas if self.by == "alphas" else "decided after the epochs"]
        if self.accuracy is not None and self.chance is not None:
            said.append(
                f"{self.what.replace('%', percent(self.accuracy))} (chance {percent(self.chance)})"
            )
        return [*said, *(["selection stable"] if self.over else [])]

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Judgement:
        """Inverse of `to_json`."""
        return cls(
            **{
                **{k: v for k, v in saved.items() if k != "ok"},
                "parts": {name: Part(**one) for name, one in saved["parts"].items()},
            }
        )


def judge(
    method: Method, state: State, genotype: Genotype, rows: Sequence[Row], classes: Sequence[int]
) -> Judgement:
    """Of a search that ended, or was stopped, with this state and ``genotype``.

    ``rows``: of its metrics, an epoch each; ``classes``: images of each class in the validation half, empty where not known.
    """
    note = state.decisions[-1].note if state.decisions else {}
    by_alphas = method.alpha_from(state.plan.epochs) < state.plan.epochs and (
        not note or "after_epochs" in note
    )
    living = [
        row for row in rows if state.born <= row["epoch"] < note.get("after_epochs", math.inf)
    ]  # others are of another supernet
    over = (
        max(FEWEST, round(LAST * len(rows))) if len(rows) > FEWEST and len(living) >= FEWEST else 0
    )
    last = [Genotype.parse(row["genotype"]) for row in living[-over:]] if over and by_alphas else []
    parts = parts_of(method, state, genotype, last) if by_alphas else {}
    what, accuracy, tries = reached(rows, note)
    chance = max(classes) / sum(classes) if classes else None
    least = None if chance is None else beyond(chance, sum(classes), tries)
    fails = {}
    if still := {name: part for name, part in parts.items() if part.edges and not part.moved}:
        rate, fitted = method.alpha_settings(state.plan).lr, fitting(method, state.plan)
        fails["alphas"] = unmoved(still, parts, rate, fits=fitted is None or rate >= fitted)
    if chance is not None and least is not None and (accuracy is None or accuracy <= least):
        fails["chance"] = at_chance(what, accuracy, chance, least)
    if by_alphas and not over:
        fails["short"] = (
            f"The search is too short to tell whether its selection is stable (epochs: {len(rows)}). Train longer."
        )
    elif by_alphas and (steps := alpha_steps_taken(method, state, rows)) < ENOUGH:
        fails["short"] = (
            f"The search has {steps} alpha steps: that is too short to tell what it learned from noise. Train longer."
        )
    if changes := {
        name: part for name, part in parts.items() if part.held is not None and part.held < STABLE
    }:
        fails["selection"] = unstable(changes, parts, len(last), stopped=state.stopped is not None)
    return Judgement(
        "alphas" if by_alphas else "decisions",
        parts,
        what,
        rounded(accuracy),
        rounded(chance),
        rounded(least),
        len(last),
        fails,
    )


def alpha_steps_taken(method: Method, state: State, rows: Sequence[Row]) -> int:
    """How many steps moved alphas in the epochs that ended: a search that was stopped and finished by hand has fewer than its plan."""
    return sum(method.stepper.alpha_steps(method, state.plan, row["epoch"]) for row in rows)


# Did the alphas move?


def initial(method: Method, state: State) -> Alphas:
    """The alphas that this supernet began with, float64: drawn again from the seed. A stage draws anew, unless it carries the old ones over:
    then they are those of the whole search's first draw that were kept."""
    epochs = state.plan.epochs
    carried = any(stage.carry for stage in method.stages if stage.begin(epochs) <= state.epoch)
    space, groups = method.space if carried else state.space, state.space.groups
    drawn = normal_alphas(
        space,
        dict(method.patch.extra_alphas),
        method.alpha_settings(state.plan).init,
        state.seed,
        torch.device("cpu"),
    )

    def kept(name: str) -> torch.Tensor:
        group = name.split("/")[0]
        return chosen(space.groups[group], groups[group])(drawn[name].detach())

    return {name: kept(name).double().to(state.device) for name in state.alphas}


@torch.no_grad()
def parts_of(
    method: Method, state: State, genotype: Genotype, last: Sequence[Genotype]
) -> dict[str, Part]:
    """Part by part. ``last``: the genotypes of the last epochs, empty where there were too few."""
    groups, drawn = state.space.groups, initial(method, state)
    final = {name: a.detach().double() for name, a in state.alphas.items()}
    learned = {name: a - drawn[name] for name, a in final.items()}
    mixture = method.mixture(learned, method.context(state, "readout"))
    members: dict[str, list[str]] = {}
    for name, group in groups.items():
        members.setdefault(name if len(group.edges) > 1 else LAYERS, []).append(name)
    found = {}
    for part, names in members.items():
        edges = []
        for name in names:
            rows = (
                final[name].cpu(),
                learned[name].cpu(),
                mixture.cell(name, None).weights.double().cpu(),
            )
            edges += [
                edge_of(groups[name], e, *(row[e] for row in rows))
                for e in range(len(groups[name].edges))
                if choices(groups[name], e)
            ]
        lead, own, decided = (
            (round6(math.fsum(column) / len(edges)) for column in zip(*edges))
            if edges
            else (0.0, 0.0, 0.0)
        )
        agrees = rounded(held(genotype, last, names)) if last else None
        found[part] = Part(
            len(edges), lead, own, decided, agrees, sum(groups[name].cells for name in names)
        )
    return found


def choices(group: EdgeGroup, edge: int) -> list[int]:
    """The columns of an edge among which selection chooses; none where there is no choice."""
    columns = [
        k
        for k, primitive in enumerate(group.edges[edge].primitives)
        if primitive not in group.hidden
    ]
    return columns if len(columns) > 1 else []


def edge_of(
    group: EdgeGroup, edge: int, final: torch.Tensor, learned: torch.Tensor, weights: torch.Tensor
) -> tuple[float, float, float]:
    """Lead of the first op over the second, how much of it was learned, and the decidedness of the mixture at what was learned."""
    first, second = sorted(choices(group, edge), key=lambda k: -float(final[k]))[:2]
    size = len(group.edges[edge].primitives)
    shares = weights[:size] / weights[:size].sum().clamp_min(1e-30)
    decided = (
        round(1 - float(torch.special.entr(shares).sum()) / math.log(size), 9)
        if shares.sum() > 0
        else 0.0
    )  # without rounding errors
    return (
        float(final[first] - final[second]),
        float(learned[first] - learned[second]),
        max(decided, 0.0),
    )


def unmoved(
    still: Mapping[str, Part], parts: Mapping[str, Part], rate: float, *, fits: bool = True
) -> str:
    """The sentence for parts whose alphas hardly moved, with the rate that would move them: the automatic one where theirs does not fit the
    length of the search."""
    if not sum(part.cells for part in still.values()):
        return f"No cell of the supernet reads the alphas of {listed(still)}: they are the draw of the seed. Set more --space.cells."
    lead, learned = (
        mean((getattr(part, name), part.edges) for part in still.values())
        for name in ("lead", "learned")
    )
    decided = mean((part.decided, part.edges) for part in still.values())
    which = "" if len(still) == len(parts) else f" of {listed(still)}"
    network = "network" if LAYERS in still else "cell"
    if not decided and not learned:
        return f"The alphas{which} have not moved: another seed would give another {network}. Train longer."
    early = learned <= LEARNED * lead
    how = (
        f"{max(learned, 0.0):.2g} of {lead:.2g} between first and second op"
        if early
        else f"what they learned is {percent(decided)} decided"
    )
    wanted = higher(rate, still)
    faster = (
        f"Raise --alphas.lr to about {wanted:g}, or train longer." if wanted else "Train longer."
    )
    faster = faster if fits else "Set --alphas.lr auto."
    return f"The alphas{which} hardly moved ({how}): another seed would give another {network}. {faster}"


def higher(rate: float, still: Mapping[str, Part]) -> float | None:
    """The alpha rate at which all of them should have moved, to one digit, rounded up; None where it would be above 1, or cannot be told.

    Adam moves an alpha by about its rate a step. The learned lead grows in proportion to that, decidedness by its square.
    """
    times = [2.0]
    for part in still.values():
        if part.learned > 0:
            times.append((part.lead - part.learned) / part.learned)
        if part.decided > 0:
            times.append(math.sqrt(DECIDED / part.decided))
    if len(times) == 1 or rate <= 0:
        return None
    digit = 10.0 ** math.floor(math.log10(rate * max(times)))
    found = math.ceil(rate * max(times) / digit - 1e-9) * digit
    return found if found <= 1 else None


# Is the supernet above chance?


def reached(rows: Sequence[Row], note: Mapping[str, Any]) -> tuple[str, float | None, int]:
    """What was right on how many of its images ("%"), and the best of how many tries that is.

    A decision between draws that were trained alone says the accuracy of the best. One between paths of a shared supernet (`rsws`) does not
    count: it is the best of hundreds on a few images. There it is the supernet's own, over the random paths of the last epoch.
    """
    if "accuracy" in note and "samples" not in note and "finalist" not in note:
        tries = sum(row.get("draw_accuracy") is not None for row in rows)
        return "best draw % of validation images", float(note["accuracy"]), max(tries, 1)
    own = rows[-1] if rows else {}
    shared = (
        "samples" in note or "finalist" in note
    )  # of no mixture either: only paths were trained
    keys = ("train_accuracy",) if shared else ("val_accuracy", "mixture_accuracy", "train_accuracy")
    key = next((key for key in keys if own.get(key) is not None), None)
    images = "training" if key == "train_accuracy" else "validation"
    return f"supernet % of {images} images", None if key is None else float(own[key]), 1


def beyond(chance: float, images: int, tries: int = 1) -> float:
    """The accuracy that guessing does not reach: `SIGMA` standard errors of a share of ``images`` above chance, for the best of ``tries``
    as unlikely as for one."""
    normal = NormalDist()
    sigma = SIGMA if tries == 1 else normal.inv_cdf(normal.cdf(SIGMA) ** (1 / tries))
    return chance + sigma * math.sqrt(chance * (1 - chance) / images)


def at_chance(what: str, accuracy: float | None, chance: float, least: float) -> str:
    name, _, images = what.partition(" % of ")
    if accuracy is None:
        return (
            "No epoch of this search is finished: nothing is known of its supernet. Train longer."
        )
    luck = f"guessing has {percent(chance)}, with luck {percent(least)}"
    return f"The {name} is right on {percent(accuracy)} of {images}, no more than chance ({luck}). Train longer, or with more images."


# Does the selection agree with itself?


def held(genotype: Genotype, last: Iterable[Genotype], names: Iterable[str]) -> float:
    """Share of the links of these groups that every one of ``last`` has too; 1 where there are no links."""
    names = set(names)

    def links(one: Genotype) -> set[tuple[Any, ...]]:
        return {
            (cell.group, *link) for cell in one.cells if cell.group in names for link in cell.links
        }

    final = links(genotype)
    return len(final.intersection(*map(links, last))) / len(final) if final else 1.0


def unstable(
    changes: Mapping[str, Part], parts: Mapping[str, Part], epochs: int, *, stopped: bool
) -> str:
    """The sentence for parts whose selection changed in the last ``epochs``. ``stopped``: a rule of the user's ended the search."""
    which = "" if len(changes) == len(parts) else f" of {listed(changes)}"
    share = min(part.held for part in changes.values() if part.held is not None)
    longer = "A rule ended the search: set a later --stop.after." if stopped else "Train longer."
    return f"The selection{which} still changes ({percent(share)} of its links held over the last {epochs} epochs). {longer}"


# Numbers and names.


def mean(weighted: Iterable[tuple[float, int]]) -> float:
    pairs = list(weighted)
    return math.fsum(value * count for value, count in pairs) / sum(count for _, count in pairs)


def percent(share: float) -> str:
    """``81 %``; below ten with a digit more."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def listed(parts: Iterable[str]) -> str:
    return " and ".join(map(repr, parts))


def round6(value: float) -> float:
    """To six digits, as files have it."""
    return float(f"{value:.6g}")


def rounded(value: float | None) -> float | None:
    return None if value is None else round6(value)
