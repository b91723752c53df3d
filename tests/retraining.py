"""The smallest retrainings that are still real: digits, a network of three cells, a few steps."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from archgrad import data
from archgrad.arch.genotype import Genotype
from archgrad.data import Dataset
from archgrad.retraining.execute import Retrained, retrain
from archgrad.retraining.settings import RetrainSettings, retrain_settings
from archgrad.spaces import space

DIGITS_1 = "b2b9a2a04f40e788"
"""Version 1 of the fingerprint of digits, as runs and studies recorded it."""
TINY = {"epochs": 2, "batch": 32, "limit": 100, "channels": 2, "cells": 3}


@cache
def digits() -> Dataset:
    return data.load("digits", report=lambda line: None)


def darts() -> Any:
    return space("darts", classes=10, in_channels=1)


def tiny(**given: Any) -> RetrainSettings:
    return retrain_settings(darts(), TINY | given)


def trained(
    folder: Path,
    lines: list[str] | None = None,
    *,
    stopping: Callable[[], bool] = lambda: False,
    seconds: float = 60,
    **given: Any,
) -> Retrained:
    say = (lambda line: None) if lines is None else lines.append
    genotype = Genotype.parse("DARTS_V2")
    return retrain(
        darts(),
        genotype,
        digits(),
        tiny(**given),
        folder,
        seed=3,
        stopping=stopping,
        seconds=seconds,
        report=say,
    )


def stop_at(place: int, how: Callable[[], Any] = lambda: True) -> Callable[[], bool]:
    """A stop request at the given place of a run; places, counted from 1, are the ends of its
    steps, of the batches of its tests (two) and of its epochs."""
    asked = [0]

    def stopping() -> bool:
        asked[0] += 1
        return asked[0] >= place and bool(how())

    return stopping


if (
    __name__ == "__main__"
):  # a process of its own, which kills itself in its second epoch; its checkpoint is of the step before
    import torch

    torch.set_num_threads(1)
    trained(
        Path(sys.argv[1]),
        stopping=stop_at(8, lambda: os.kill(os.getpid(), signal.SIGKILL)),
        seconds=0,
    )
