"""The discretisation gap: what the supernet loses when its mixture is replaced by the genotype selected from it, its weights untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss
from archgrad.diagnostics.accuracy import accuracy


def gap(
    net: nn.Module, mixture: Mixture, discrete: Mixture, batches: Callable[[], Iterable[Batch]], *place: object, loss: Loss | None = None,
) -> dict[str, float]:  # fmt: skip
    """Accuracy (share in [0, 1]) and cross-entropy (nats; or ``loss`` in its place) under ``mixture`` and under ``discrete``
    (`Genotype.one_hot`), and the gaps, both positive where discretising hurts: ``gap_accuracy`` = mixture - discrete, ``gap_loss`` =
    discrete - mixture.

    BatchNorm statistics are recomputed: those of each batch, under the mixture at hand; the running ones are of no use to a mixture they
    were not gathered under. No op is dropped out; the net is left as it was; draws are a function of ``place``, which begins with the seed.
    ``batches`` is called twice. ValueError if there are no images.
    """
    mixed, mixed_loss = accuracy(
        net, mixture.whole(), batches(), *place, batch_statistics=True, loss=loss
    )
    single, single_loss = accuracy(
        net, discrete, batches(), *place, batch_statistics=True, loss=loss
    )
    return {
        "mixture_accuracy": mixed,
        "mixture_loss": mixed_loss,
        "discrete_accuracy": single,
        "discrete_loss": single_loss,
        "gap_accuracy": mixed - single,
        "gap_loss": single_loss - mixed_loss,
    }
