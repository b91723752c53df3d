"""The discretisation gap: the accuracy that the supernet loses by discretisation.

Its mixture is replaced by the genotype that is selected from it, and its weights stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss
from archgrad.diagnostics.accuracy import accuracy


def gap(
    net: nn.Module,
    mixture: Mixture,
    discrete: Mixture,
    batches: Callable[[], Iterable[Batch]],
    *place: object,
    loss: Loss | None = None,
) -> dict[str, float]:
    """Return the accuracy and the loss under a mixture and under its genotype, and their gaps.

    BatchNorm takes the statistics of each batch under the current mixture, because the running
    statistics belong to another mixture. No op is dropped out, and the network stays as it was.

    Args:
        net: Supernet.
        mixture: Mixture of the search.
        discrete: Mixture of the genotype (`Genotype.one_hot`).
        batches: Function that gives the batches of images. It is called twice.
        *place: Seed and place of the random draws.
        loss: Loss in the place of the cross-entropy.

    Returns:
        ``mixture_accuracy`` and ``discrete_accuracy`` in [0, 1], ``mixture_loss`` and
        ``discrete_loss`` in nats, ``gap_accuracy`` (mixture minus discrete) and ``gap_loss``
        (discrete minus mixture). Both gaps are positive where discretisation is harmful.

    Raises:
        ValueError: There are no images.
    """
    mixed, mixed_loss = accuracy(
        net, mixture.without_dropout(), batches(), *place, batch_statistics=True, loss=loss
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
