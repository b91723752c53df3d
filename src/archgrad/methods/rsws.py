"""Random search with weight sharing (Li & Talwalkar 2019, arXiv 1902.07638, section 3.2).

It is a baseline that a search by gradient must beat. No alphas move.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from archgrad.arch.edges import Alphas
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.relax import softmax
from archgrad.components.schedules import never
from archgrad.components.select import uniform_genotype
from archgrad.diagnostics.accuracy import accuracy
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Ahead, Decision, Finalise, Method, SearchData, State

# [author code] The options in NAS-Bench-201 are those of the benchmark's authors.
PRESETS: dict[str, dict[str, Any]] = {
    **{space: {"samples": 1000, "images": 640} for space in ("darts", "s1", "s2", "s3", "s4")},
    "nasbench201": {"finalists": 1},
}


@with_origin(PRESETS)
def rsws(
    *, samples: PositiveInt = 100, images: PositiveInt = 512, finalists: PositiveInt = 10
) -> Patch:
    """Train one drawn architecture per step with shared weights, then select the best of many.

    All draws are uniform. After the last epoch, further architectures are judged by their
    validation accuracy with the shared weights.

    Args:
        samples: number of architectures that are drawn after the last epoch.
        images: number of validation images on which each drawn architecture is judged.
        finalists: number of the best architectures that are judged again, on the whole validation
            half; 1 takes the best without a second judgement.

    Returns:
        The patch of the method.
    """
    finalise, left = (
        best_of(samples, images, finalists),
        remaining_images(samples, images, finalists),
    )
    return Patch(
        "rsws",
        relax=one_path,
        readout=softmax,
        finalise=finalise,
        ahead={"finalisation": left},
        alpha_from=never,
        reads_accuracy=("rsws",),
    )


def remaining_images(samples: int, images: int, finalists: int) -> Ahead:
    """Return the number of images that `best_of` has still to judge."""
    parts = min(10, samples)

    def ahead(method: Method, state: State) -> float:
        done, whole = len(state.decisions), state.plan.images[1]
        drawn, judged = samples * min(done, parts) // parts, max(done - parts, 0)
        last = min(finalists, samples) if finalists > 1 else 0
        return float((samples - drawn) * min(images, whole) + (last - judged) * whole)

    return ahead


def one_path(alphas: Alphas, context: Context) -> Mixture:
    """Return the one-hot mixture of the architecture that this step draws."""
    place = context.progress.step_key
    drawn = uniform_genotype(
        context.groups, context.seed, "rsws/step", *place, limits=context.limits
    )
    return one_hot_mixture(drawn, alphas, context)


def one_hot_mixture(genotype: Genotype, alphas: Alphas, context: Context) -> Mixture:
    """Return the one-hot mixture of a genotype on the device of the alphas."""
    return genotype.one_hot(context.groups).map(
        lambda weights: weights.to(next(iter(alphas.values())).device)
    )


def best_of(samples: int, images: int, finalists: int) -> Finalise:
    """Return a finalisation that judges the samples, then the finalists.

    It yields a decision after every tenth of the samples, and one after every finalist. Of equal
    accuracies the earliest wins.
    """
    parts = min(10, samples)

    def finalise(
        method: Method, state: State, data: SearchData, decisions: list[Decision]
    ) -> Iterator[Decision]:
        groups, net = state.space.groups, state.nets["search"]

        def drawn(sample: int) -> Genotype:
            return uniform_genotype(groups, state.seed, "rsws/sample", sample, limits=method.limits)

        def judge(sample: int, limit: int | None = None) -> float:
            judged = method.with_patch_fields(readout=partial(one_hot_mixture, drawn(sample)))
            batches = data.evaluation("val", limit=limit)
            return accuracy(
                net,
                judged.readout(state),
                batches,
                state.seed,
                "rsws",
                batch_statistics=True,
                loss=method.patch.loss,
            )[0]

        best = decisions[:parts][-1].note["best"] if decisions else []
        for part in range(len(decisions), parts):
            begin, end = samples * part // parts, samples * (part + 1) // parts
            best = sorted(
                [*best, *([sample, judge(sample, images)] for sample in range(begin, end))],
                key=lambda one: -one[1],
            )[:finalists]
            yield Decision(
                drawn(best[0][0]), {"samples": end, "accuracy": best[0][1], "best": best}
            )

        whole = [decision.note["accuracy"] for decision in decisions[parts:]]
        for sample, _ in best[len(whole) :] if len(best) > 1 else []:
            whole.append(judge(sample))
            winner, _ = best[whole.index(max(whole))]
            yield Decision(drawn(winner), {"finalist": sample, "accuracy": whole[-1]})

    return finalise
