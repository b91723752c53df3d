"""The checks at the end of a search: is its result more than the random draw of its seed?

There are three checks. Did the alphas move, compared with the search's own initial alphas? (The
entropy alone deceives: a cold softmax is nearly one-hot before it has learned anything.) Is the
accuracy above chance? Does the selection stay the same over the last epochs? If decisions after the
epochs select the genotype, only the second check applies, to the accuracy of the decided network.
The recorded values and two of the thresholds are in `archgrad.run.judgement`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import torch

from archgrad.arch.edges import Alphas, EdgeGroup
from archgrad.arch.genotype import Genotype
from archgrad.run import judgement_text
from archgrad.run.judgement import Judgement, Part
from archgrad.run.judgement_text import LAYERS
from archgrad.searching.carry import column_selector
from archgrad.searching.rate import fitted_rate
from archgrad.searching.start import initial_alphas
from archgrad.searching.types import Method, State
from archgrad.storage.records import Row

STABLE = 0.75
"""The least share of the final links that the genotypes of all of the last epochs must have.

Of 8 links two may change, of 6 links one.
"""

ENOUGH = 50
"""The least number of alpha steps that can be judged.

A learning rate that is fitted to fewer steps moves the alphas by the noise of the batches.
"""

LAST = 0.1
"""The share of the epochs whose selections are compared, at least `FEWEST` epochs."""

FEWEST = 2

SIGMA = 2.0
"""Standard errors above chance. For the best of several draws the bound is higher, so that a false
alarm is as likely as for a single one."""


def judge(
    method: Method, state: State, genotype: Genotype, rows: Sequence[Row], classes: Sequence[int]
) -> Judgement:
    """Judge a search that ended or was stopped.

    Args:
        method: The method of the search.
        state: Its last state.
        genotype: Its result.
        rows: The rows of its metrics, one for each epoch that ended.
        classes: The number of validation images of each class, empty if unknown.

    Returns:
        The judgement.
    """
    note = state.decisions[-1].note if state.decisions else {}
    by_alphas = method.alpha_from(state.plan.epochs) < state.plan.epochs and (
        not note or "after_epochs" in note
    )
    over, last = _last_genotypes(state, rows, note) if by_alphas else (0, [])
    parts = parts_of(method, state, genotype, last) if by_alphas else {}
    what, accuracy, tries = accuracy_to_check(rows, note)
    chance = max(classes) / sum(classes) if classes else None
    least = None if chance is None else least_above_chance(chance, sum(classes), tries)
    fails: dict[str, str] = {}
    if still := {name: part for name, part in parts.items() if part.edges and not part.moved}:
        rate, fitted = method.alpha_settings(state.plan).lr, fitted_rate(method, state.plan)
        fits = fitted is None or rate >= fitted
        fails["alphas"] = judgement_text.unmoved(still, parts, rate, fits=fits)
    if chance is not None and least is not None and (accuracy is None or accuracy <= least):
        fails["chance"] = judgement_text.at_chance(what, accuracy, chance, least)
    if by_alphas and not over:
        fails["short"] = judgement_text.too_few_epochs(len(rows))
    elif by_alphas and (steps := alpha_steps_taken(method, state, rows)) < ENOUGH:
        fails["short"] = judgement_text.too_few_steps(steps, ENOUGH)
    if changes := {
        name: part for name, part in parts.items() if part.held is not None and part.held < STABLE
    }:
        stopped = state.stopped is not None
        fails["selection"] = judgement_text.unstable(changes, parts, len(last), stopped=stopped)
    return Judgement(
        "alphas" if by_alphas else "decisions",
        parts,
        what,
        _rounded(accuracy),
        _rounded(chance),
        _rounded(least),
        len(last),
        fails,
    )


def _last_genotypes(
    state: State, rows: Sequence[Row], note: Mapping[str, Any]
) -> tuple[int, list[Genotype]]:
    """Return the number of last epochs to compare, 0 if there are too few, and their genotypes."""
    end = note.get("after_epochs", math.inf)
    living = [row for row in rows if state.born <= row["epoch"] < end]  # of the last supernet only
    if len(rows) <= FEWEST or len(living) < FEWEST:
        return 0, []
    over = max(FEWEST, round(LAST * len(rows)))
    return over, [Genotype.parse(row["genotype"]) for row in living[-over:]]


def alpha_steps_taken(method: Method, state: State, rows: Sequence[Row]) -> int:
    """Return the number of alpha steps in the epochs that ended.

    A search that was stopped and finished by hand has fewer than its plan.
    """
    return sum(method.stepper.alpha_steps(method, state.plan, row["epoch"]) for row in rows)


# Did the alphas move?


def initial(method: Method, state: State) -> Alphas:
    """Draw the initial alphas of the last supernet again from the seed.

    A stage draws new alphas, unless it carries the old ones over. Then the initial alphas are
    those of the whole search's first draw that the stages kept.

    Returns:
        Name -> (edges, ops) logits, float64.
    """
    epochs = state.plan.epochs
    carried = any(stage.carry for stage in method.stages if stage.begin(epochs) <= state.epoch)
    space, groups = method.space if carried else state.space, state.space.groups
    drawn = initial_alphas(
        space,
        dict(method.patch.extra_alphas),
        method.alpha_settings(state.plan).init,
        state.seed,
        torch.device("cpu"),
    )

    def remaining(name: str) -> torch.Tensor:
        group = name.split("/")[0]
        return column_selector(space.groups[group], groups[group])(drawn[name].detach())

    return {name: remaining(name).double().to(state.device) for name in state.alphas}


@torch.no_grad()
def parts_of(
    method: Method, state: State, genotype: Genotype, last: Sequence[Genotype]
) -> dict[str, Part]:
    """Measure how far the alphas moved, and how stable the selection is.

    Args:
        method: The method of the search.
        state: Its last state.
        genotype: Its result.
        last: The genotypes of the last epochs, empty if there are too few.

    Returns:
        Name of an edge group, or `LAYERS` -> its part.
    """
    groups, drawn = state.space.groups, initial(method, state)
    final = {name: logits.detach().double() for name, logits in state.alphas.items()}
    learned = {name: logits - drawn[name] for name, logits in final.items()}
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
                edge_of(groups[name], edge, *(row[edge] for row in rows))
                for edge in range(len(groups[name].edges))
                if choices(groups[name], edge)
            ]
        lead, gained, decided = (
            (round6(math.fsum(column) / len(edges)) for column in zip(*edges))
            if edges
            else (0.0, 0.0, 0.0)
        )
        agrees = _rounded(share_held(genotype, last, names)) if last else None
        cells = sum(groups[name].cells for name in names)
        found[part] = Part(len(edges), lead, gained, decided, agrees, cells)
    return found


def choices(group: EdgeGroup, edge: int) -> list[int]:
    """Return the columns of an edge that can be selected, none if there are fewer than two."""
    columns = [
        column
        for column, primitive in enumerate(group.edges[edge].primitives)
        if primitive not in group.hidden
    ]
    return columns if len(columns) > 1 else []


def edge_of(
    group: EdgeGroup, edge: int, final: torch.Tensor, learned: torch.Tensor, weights: torch.Tensor
) -> tuple[float, float, float]:
    """Measure one edge.

    Args:
        group: The edge group.
        edge: The index of the edge.
        final: (ops,) The final alphas.
        learned: (ops,) The final minus the initial alphas.
        weights: (ops,) The mixture at ``learned``.

    Returns:
        The lead of the first op over the second, the learned part of it, and the decidedness of
        the mixture (`Part`).
    """
    first, second = sorted(choices(group, edge), key=lambda k: -float(final[k]))[:2]
    size = len(group.edges[edge].primitives)
    shares = weights[:size] / weights[:size].sum().clamp_min(1e-30)
    decided = 0.0
    if shares.sum() > 0:
        entropy = float(torch.special.entr(shares).sum())
        decided = round(1 - entropy / math.log(size), 9)  # removes rounding errors near 0
    return (
        float(final[first] - final[second]),
        float(learned[first] - learned[second]),
        max(decided, 0.0),
    )


# Is the accuracy above chance?


def accuracy_to_check(
    rows: Sequence[Row], note: Mapping[str, Any]
) -> tuple[str, float | None, int]:
    """Return the accuracy that shows whether the networks of the search learned.

    If the method decided between draws that were trained alone, it is the accuracy of the best
    draw. A decision between paths of a shared supernet (`rsws`) is the best of hundreds of paths on
    few images, so there it is the accuracy of the random paths of the last epoch.

    Args:
        rows: The rows of the metrics.
        note: The note of the last decision, empty if there was none.

    Returns:
        The field `Judgement.what`, the accuracy in [0, 1] or None if it is unknown, and the number
        of tries of which it is the best.
    """
    paths = "samples" in note or "finalist" in note
    if "accuracy" in note and not paths:
        tries = sum(row.get("draw_accuracy") is not None for row in rows)
        return "best draw % of validation images", float(note["accuracy"]), max(tries, 1)
    last = rows[-1] if rows else {}
    # Where only paths were trained, a mixture says nothing.
    keys = ("train_accuracy",) if paths else ("val_accuracy", "mixture_accuracy", "train_accuracy")
    key = next((key for key in keys if last.get(key) is not None), None)
    images = "training" if key == "train_accuracy" else "validation"
    return f"supernet % of {images} images", None if key is None else float(last[key]), 1


def least_above_chance(chance: float, images: int, tries: int = 1) -> float:
    """Return the accuracy that guessing does not reach even with luck.

    It is `SIGMA` standard errors of a share above chance. For the best of several tries the number
    of standard errors grows, so that the probability stays that of a single try.

    Args:
        chance: The share of the largest class.
        images: The number of images.
        tries: The number of tries of which the best counts.
    """
    normal = NormalDist()
    sigma = SIGMA if tries == 1 else normal.inv_cdf(normal.cdf(SIGMA) ** (1 / tries))
    return chance + sigma * math.sqrt(chance * (1 - chance) / images)


# Is the selection stable?


def share_held(genotype: Genotype, last: Iterable[Genotype], names: Iterable[str]) -> float:
    """Return the share of the links of these groups that each genotype of ``last`` has too.

    It is 1 if there are no links.
    """
    names = set(names)

    def links(one: Genotype) -> set[tuple[Any, ...]]:
        return {
            (cell.group, *link) for cell in one.cells if cell.group in names for link in cell.links
        }

    final = links(genotype)
    return len(final.intersection(*map(links, last))) / len(final) if final else 1.0


def round6(value: float) -> float:
    """Round to six significant digits, as files have them."""
    return float(f"{value:.6g}")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round6(value)
